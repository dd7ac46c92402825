//! Whose turn it is.

use std::sync::Arc;

use jiff::SignedDuration;
use vpa_core::update::{Outcome, Refusal, Step, Verdict};

use crate::updater_world::world::{World, done, pods, pods_of, turns, words};
use crate::updater_world::{pod, vpa};

/// A VPA in mode Recreate for each, with two pods that request so much CPU of the 200m they should have.
fn vpas(of: &[(&str, i64)]) -> World {
    let vpas = of.iter().map(|(name, _)| vpa(name, "Recreate", 200)).collect();
    let pods = of.iter().flat_map(|(name, cpu_m)| pods_of(name, 2, *cpu_m)).collect();
    World::of(vpas, pods)
}

#[test]
fn the_vpa_with_the_highest_need_is_first() {
    // To grow comes before to shrink, then the larger difference.
    let mut world = vpas(&[("a", 150), ("b", 900), ("c", 50), ("d", 400), ("e", 100)]);
    let (steps, _) = world.pass(1, done);
    assert_eq!(turns(&steps), ["c", "e", "a", "b", "d"]);
}

#[test]
fn a_vpa_with_a_pod_that_is_stuck_comes_before_those_with_a_higher_need() {
    let infeasible = Some(("PodResizePending", "Infeasible"));
    let mut world =
        World::of(vec![vpa("a", "Recreate", 200), vpa("b", "InPlaceOrRecreate", 200)], pods_of("a", 2, 10));
    world.pods.extend([pod("b", 0, false, 190, infeasible), pod("b", 1, false, 200, None)]);
    assert_eq!(turns(&world.pass(1, done).0), ["b", "a"]);
}

#[test]
fn after_a_step_a_vpa_goes_to_the_end_of_the_line() {
    let vpas = ["a", "b"].map(|name| vpa(name, "Recreate", 200)).into();
    let pods = pods_of("a", 8, 50).into_iter().chain(pods_of("b", 4, 150)).collect();
    let (steps, _) = World::of(vpas, pods).pass(1, done);
    assert_eq!(turns(&steps), ["a", "b", "a", "b", "a", "a"]);
}

#[test]
fn a_pass_that_ran_out_of_time_is_continued_where_it_ended() {
    let mut world = vpas(&[("a", 50), ("b", 60), ("c", 70), ("d", 80), ("e", 90)]);
    world.step_takes = SignedDuration::from_secs(40);
    let mut order = Vec::new();
    for minute in 0..3 {
        let (steps, report) = world.pass_done(1);
        assert!(report.cut_off && !report.complete);
        order.extend(turns(&steps).into_iter().map(str::to_owned));
        if minute == 0 {
            assert_eq!(words(&report)[4..], ["PassOver"; 6]);
            // However high the need of those who had their turn becomes.
            world.pods[1] = pod("a", 1, false, 1, None);
        }
    }
    assert_eq!(order, ["a", "b", "c", "d", "e", "a"]);
}

#[test]
fn a_vpa_whose_calls_fail_starves_no_other() {
    let fails = |step: &Step| {
        let of_a = step.vpa.metadata.name.as_deref() == Some("a");
        if of_a { Outcome::Transient("busy".into()) } else { Outcome::Done }
    };
    let mut world = vpas(&[("a", 10), ("b", 100), ("c", 100), ("d", 100), ("e", 100)]);
    world.pods.extend(pods_of("a", 20, 10).split_off(2));
    world.step_takes = SignedDuration::from_secs(40);
    let mut done = Vec::new();
    for _ in 0..6 {
        let (steps, _) = world.pass(1, fails);
        let carried_out: Vec<Step> =
            steps.into_iter().filter(|step| matches!(fails(step), Outcome::Done)).collect();
        world.carry_out(&carried_out);
        done.extend(turns(&carried_out).into_iter().map(str::to_owned));
    }
    for vpa in ["b", "c", "d", "e"] {
        assert!(done.iter().any(|name| name == vpa), "{vpa} had no turn: {done:?}");
    }
}

#[test]
fn the_rate_limit_is_shared_in_turns_across_passes() {
    let mut world = vpas(&[("a", 50), ("b", 60), ("c", 70)]).with(|config| {
        config.rate_limit = 1.0 / 60.0;
        config.rate_burst = 1;
        config.pass_deadline = SignedDuration::from_secs(30);
    });
    let order: Vec<String> = (0..3)
        .flat_map(|_| {
            let (steps, _) = world.pass_done(1);
            turns(&steps).into_iter().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(order, ["a", "b", "c"]);
}

#[test]
fn a_disruption_budget_that_says_no_defers_that_pod_only() {
    let mut world = World::new("Recreate", 200, pods(6, 50));
    let protected = Arc::clone(&world.pods[1]);
    let answer = |step: &Step| {
        let refusal = Refusal { code: 429, message: "budget pdb".into(), ..Refusal::default() };
        if step.pod == protected { Outcome::of_status(refusal, true) } else { Outcome::Done }
    };
    let (steps, report) = world.pass(1, answer);
    // It used up nothing of the three that may go.
    assert_eq!(steps.len(), 4);
    assert_eq!(words(&report), ["evicted", "DisruptionBudget", "evicted", "evicted", "Budget", "Budget"]);
    let evicted: Vec<Step> = steps.into_iter().filter(|step| step.pod != protected).collect();
    world.carry_out(&evicted);
    let (steps, report) = world.pass(1, done);
    assert!(steps.iter().any(|step| step.pod == protected), "the next pass asks again");
    assert!(report.pods().all(
        |(_, pod)| !matches!(&pod.verdict, Verdict::Left(reason) if reason.code() == "DisruptionBudget")
    ));
}
