//! `--max-disruptions-per-hour` and `--max-disruptions-per-hour-per-vpa`.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use vpa_core::update::{Outcome, QuotaScope, Reason, Refusal, Step};

use crate::updater_world::vpa;
use crate::updater_world::world::{World, changed, done, pods, pods_of, reason, resize_policy, turns, words};

/// Two VPAs with six pods each, all of which may go at once as far as the budget is concerned.
fn two_vpas(all: u32, each: u32) -> World {
    let vpas = ["a", "b"].map(|name| vpa(name, "Recreate", 200)).into();
    let pods = ["a", "b"].into_iter().flat_map(|owner| pods_of(owner, 6, 50)).collect();
    World::of(vpas, pods).with(|config| {
        config.eviction_tolerance = 1.0;
        config.max_disruptions_per_hour = all;
        config.max_disruptions_per_hour_per_vpa = each;
    })
}

#[test]
fn all_vpas_share_one_limit_and_there_is_room_again_after_the_hour() {
    let mut world = two_vpas(3, 0);
    let start = world.now;
    let (steps, report) = world.pass_done(1);
    assert_eq!(turns(&steps), ["a", "b", "a"]);
    let until = start.checked_add(SignedDuration::from_hours(1)).unwrap();
    assert_eq!(*reason(&report), Reason::DisruptionLimit { scope: QuotaScope::All, most: 3, until });
    for minute in 1..60 {
        let (steps, report) = world.pass_done(1);
        assert!(steps.is_empty(), "minute {minute}");
        assert_eq!(words(&report).iter().filter(|word| **word == "DisruptionLimit").count(), 9);
    }
    assert_eq!(world.pass_done(1).0.len(), 3);
    assert!(world.pass_done(1).0.is_empty());
}

#[test]
fn a_vpa_has_a_limit_of_its_own() {
    let mut world = two_vpas(0, 2);
    let (steps, report) = world.pass_done(30);
    assert_eq!(turns(&steps), ["a", "b", "a", "b"]);
    assert!(matches!(reason(&report), Reason::DisruptionLimit { scope: QuotaScope::Vpa, most: 2, .. }));
    assert!(world.pass_done(30).0.is_empty());
    assert_eq!(world.pass_done(1).0.len(), 4);
}

#[test]
fn the_hour_slides() {
    let mut world = two_vpas(2, 1);
    let mut done_at: BTreeMap<i64, usize> = BTreeMap::new();
    // One eviction of each; the second one's comes 20 minutes later.
    let mut answers = vec![Outcome::Done, Outcome::Transient("busy".into())].into_iter();
    let (steps, _) = world.pass(20, |_| answers.next().unwrap_or(Outcome::Transient("busy".into())));
    world.carry_out(&steps[..1]);
    for minute in (20..120).step_by(10) {
        done_at.insert(minute, world.pass_done(10).0.len());
    }
    done_at.retain(|_, count| *count > 0);
    assert_eq!(done_at, BTreeMap::from([(20, 1), (60, 1), (80, 1)]));
}

#[test]
fn what_was_not_carried_out_does_not_count_and_what_may_have_been_does() {
    let refusal = |code| {
        let refusal = Refusal { code, message: "no".into(), ..Refusal::default() };
        Outcome::of_status(refusal, true)
    };
    for (outcome, steps) in [
        (refusal(429), 2),
        (refusal(403), 2),
        (refusal(503), 2),
        (Outcome::Transient("busy".into()), 2),
        (Outcome::Unknown("lost".into()), 1),
        (Outcome::Done, 1),
    ] {
        let mut world = World::new("Recreate", 200, pods(6, 50)).with(|config| {
            config.max_disruptions_per_hour = 1;
            config.max_disruptions_per_hour_per_vpa = 1;
        });
        let mut first = Some(outcome.clone());
        let (taken, _) = world.pass(1, |_| first.take().unwrap_or(Outcome::Done));
        assert_eq!(taken.len(), steps, "{outcome:?}");
    }
}

#[test]
fn a_resize_counts_only_where_it_may_restart_a_container() {
    for (policy, resized) in [("NotRequired", 4), ("RestartContainer", 1)] {
        let pods = changed(pods(4, 50), resize_policy("cpu", policy));
        let mut world = World::new("InPlace", 200, pods).with(|config| {
            config.eviction_tolerance = 1.0;
            config.max_disruptions_per_hour_per_vpa = 1;
        });
        let (steps, report) = world.pass_done(1);
        assert_eq!(steps.len(), resized, "{policy}");
        let limited = words(&report).iter().filter(|word| **word == "DisruptionLimit").count();
        assert_eq!(limited, 4 - resized, "{policy}");
    }
}

#[test]
fn a_fallback_to_eviction_counts() {
    let mut world = World::new("InPlaceOrRecreate", 200, pods(4, 50)).with(|config| {
        config.eviction_tolerance = 1.0;
        config.max_disruptions_per_hour = 1;
    });
    let refuse_resizes = |step: &Step| match step.action {
        vpa_core::update::Action::Evict { .. } => done(step),
        _ => Outcome::of_status(Refusal { code: 422, ..Refusal::default() }, false),
    };
    let (steps, report) = world.pass(1, refuse_resizes);
    assert_eq!(steps.len(), 4 + 1);
    assert_eq!(words(&report).iter().filter(|word| **word == "DisruptionLimit").count(), 3);
}
