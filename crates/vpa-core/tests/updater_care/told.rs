//! A VPA none of whose pods gets forward says so.

use std::sync::Arc;

use serde_json::json;
use vpa_core::update::{Outcome, Refusal};

use crate::updater_world::world::{World, done, events, pods, words};
use crate::updater_world::{pod, vpa};

/// A word for each pass: whether it told.
fn passes(world: &mut World, count: usize) -> Vec<usize> {
    (0..count).map(|_| events(&world.pass(1, done).1, "UpdatesBlocked")).collect()
}

#[test]
fn after_three_passes_once_and_again_only_after_something_changed() {
    let mut world = World::new("Recreate", 200, pods(1, 50));
    assert_eq!(passes(&mut world, 8), [0, 0, 1, 0, 0, 0, 0, 0]);
    // It gets forward for a moment.
    world.pods = vec![pod("w", 7, false, 50, None), pod("w", 8, false, 50, None)];
    assert_eq!(words(&world.pass(1, done).1), ["evicted", "Budget"]);
    world.pods = pods(1, 50);
    assert_eq!(passes(&mut world, 5), [0, 0, 1, 0, 0]);
}

#[test]
fn another_reason_is_told_anew() {
    let mut world = World::new("InPlace", 200, pods(1, 50));
    assert_eq!(passes(&mut world, 4), [0, 0, 1, 0]);
    let deferred = Some(("PodResizePending", "Deferred"));
    world.pods = vec![pod("w", 0, false, 50, deferred), pod("w", 1, false, 50, deferred)];
    let (_, report) = world.pass(1, done);
    assert_eq!((words(&report), events(&report, "UpdatesBlocked")), (vec!["Resizing"; 2], 0));
    assert_eq!(passes(&mut world, 4), [0, 1, 0, 0]);
}

#[test]
fn a_vpa_with_nothing_to_do_or_something_done_is_not_blocked() {
    for (cpu, pods) in [(50, pods(1, 50)), (200, vec![pod("w", 0, true, 50, None)])] {
        let mut world = World::new("InPlace", cpu, pods).with(|config| config.min_replicas = 1);
        assert_eq!(passes(&mut world, 5), [0; 5], "{cpu}");
    }
    // One of the pods waits for the budget in each pass, the others are updated.
    let mut world = World::new("Recreate", 200, pods(4, 50));
    for cpu in [200, 300, 400, 500, 600] {
        world.vpas = vec![vpa("w", "Recreate", cpu)];
        assert_eq!(events(&world.pass_done(1).1, "UpdatesBlocked"), 0);
    }
}

#[test]
fn what_the_node_or_the_vpa_itself_does_not_allow_is_told_too() {
    let mut infeasible = World::new("InPlace", 200, pods(2, 50));
    let refusal = Refusal { code: 403, node_capacity: true, ..Refusal::default() };
    drop(infeasible.pass(1, |_| Outcome::of_status(refusal.clone(), false)));
    assert_eq!(passes(&mut infeasible, 5), [0, 0, 1, 0, 0]);

    let mut only_down = World::new("Recreate", 200, pods(2, 50));
    let requirement = json!([{ "resources": ["cpu"], "changeRequirement": "TargetLowerThanRequests" }]);
    let policy = Arc::make_mut(&mut only_down.vpas[0]).spec.update_policy.as_mut().unwrap();
    policy.eviction_requirements = serde_json::from_value(requirement).unwrap();
    assert_eq!(passes(&mut only_down, 5), [0, 0, 1, 0, 0]);
}

#[test]
fn the_event_names_the_number_of_pods_and_the_reason() {
    let mut world = World::new("Recreate", 200, pods(2, 50)).with(|config| config.min_replicas = 3);
    passes(&mut world, 2);
    let (_, report) = world.pass(1, done);
    let [event] = report.events.as_slice() else { panic!("{:?}", report.events) };
    assert!(event.warning);
    assert_eq!(
        event.message,
        "All of its 2 pods are left alone although an update is due: 2 live replicas, fewer than the minimum of 3"
    );
}
