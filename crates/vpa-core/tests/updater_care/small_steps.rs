//! `--max-step-up` and `--max-step-down`.

use serde_json::json;
use vpa_core::update::{Action, FallbackReason, Outcome, Refusal};

use crate::updater_world::vpa;
use crate::updater_world::world::{World, changed, cpu_after, pods, words};

fn world(mode: &str, from_m: i64, to_m: i64) -> World {
    World::new(mode, to_m, pods(2, from_m)).with(|config| {
        config.max_step.up = Some(0.5);
        config.max_step.down = Some(0.2);
        config.eviction_tolerance = 1.0;
    })
}

/// What the first pod is asked to request, resize by resize, until nothing is left to do.
fn way(world: &mut World) -> Vec<String> {
    let mut way = Vec::new();
    for _ in 0..30 {
        let (steps, _) = world.pass_done(1);
        if steps.is_empty() {
            return way;
        }
        assert_eq!(steps.len(), 2);
        way.push(cpu_after(&steps[0]));
    }
    panic!("no end in sight: {way:?}");
}

#[test]
fn steps_up_and_down_end_at_the_target() {
    for mode in ["InPlace", "InPlaceOrRecreate"] {
        assert_eq!(way(&mut world(mode, 100, 400)), ["150m", "225m", "337m", "400m"]);
        assert_eq!(way(&mut world(mode, 100, 60)), ["80m", "64m", "60m"]);
        assert_eq!(way(&mut world(mode, 100, 140)), ["140m"]);
    }
}

#[test]
fn a_target_that_turns_around_is_followed() {
    let mut world = world("InPlace", 100, 1000);
    assert_eq!(cpu_after(&world.pass_done(1).0[0]), "150m");
    world.vpas = vec![vpa("w", "InPlace", 130)];
    assert_eq!(way(&mut world), ["130m"]);
}

#[test]
fn an_eviction_gets_the_whole_recommendation() {
    let (steps, _) = world("Recreate", 100, 400).pass_done(1);
    assert_eq!(cpu_after(&steps[0]), "400m");

    let infeasible = json!([{ "type": "PodResizePending", "status": "True", "reason": "Infeasible" }]);
    let mut stuck = world("InPlaceOrRecreate", 100, 400);
    stuck.pods = changed(stuck.pods, |pod| {
        pod.status.conditions = serde_json::from_value(infeasible.clone()).unwrap();
    });
    let (steps, _) = stuck.pass_done(1);
    assert_eq!(steps[0].action, Action::Evict { fallback: Some(FallbackReason::Infeasible) });
    assert_eq!(cpu_after(&steps[0]), "400m");
}

fn no_capacity() -> Outcome {
    Outcome::of_status(Refusal { code: 403, node_capacity: true, ..Refusal::default() }, false)
}

#[test]
fn a_step_that_is_infeasible_is_not_repeated_until_less_is_recommended() {
    let mut world = world("InPlace", 100, 400);
    let (steps, _) = world.pass(1, |_| no_capacity());
    assert_eq!(cpu_after(&steps[0]), "150m");
    for cpu_m in [400, 300, 200, 150] {
        world.vpas = vec![vpa("w", "InPlace", cpu_m)];
        let (steps, report) = world.pass(1, |_| no_capacity());
        assert!(steps.is_empty(), "{cpu_m}m");
        assert_eq!(words(&report), ["InfeasibleRemembered"; 2]);
    }
    world.vpas = vec![vpa("w", "InPlace", 140)];
    assert_eq!(cpu_after(&world.pass_done(1).0[0]), "140m");
}

/// While CPU goes up and memory down, the next step is the same one, though the memory target is lower than it.
#[test]
fn an_infeasible_step_in_two_directions_is_not_repeated() {
    let mut world = world("InPlace", 100, 400);
    world.pods = changed(world.pods, |pod| {
        let requests = json!({ "requests": { "cpu": "100m", "memory": "1000Mi" } });
        pod.spec.containers[0].resources = serde_json::from_value(requests).unwrap();
    });
    assert_eq!(world.pass(1, |_| no_capacity()).0.len(), 2);
    for _ in 0..3 {
        let (steps, report) = world.pass(1, |_| no_capacity());
        assert!(steps.is_empty());
        assert_eq!(words(&report), ["InfeasibleRemembered"; 2]);
    }
}
