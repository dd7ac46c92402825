//! Whether a pod came back unchanged is judged by what admission gave it, not by what resizes asked for before or after.

use std::sync::Arc;

use serde_json::json;
use vpa_core::update::{Action, FallbackReason};

use crate::updater_world::vpa;
use crate::updater_world::world::{World, events, pods, words};

/// One of four pods is evicted, since its resize from 50m to 200m was deferred for too long.
fn after_a_fallback() -> World {
    let mut world = World::new("InPlaceOrRecreate", 200, pods(4, 50));
    drop(world.pass_done(0));
    let deferred = json!([{ "type": "PodResizePending", "status": "True", "reason": "Deferred" }]);
    let running = json!([{ "name": "c", "resources": { "requests": { "cpu": "50m", "memory": "100Mi" } } }]);
    let pod = Arc::make_mut(&mut world.pods[0]);
    pod.status.conditions = serde_json::from_value(deferred).unwrap();
    pod.status.container_statuses = serde_json::from_value(running).unwrap();
    drop(world.pass_done(6));
    let (steps, _) = world.pass_done(1);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].action, Action::Evict { fallback: Some(FallbackReason::DeferredTooLong) });
    world
}

#[test]
fn what_the_resize_asked_for_is_what_the_replacement_should_have() {
    let mut world = after_a_fallback();
    world.vpas = vec![vpa("w", "Recreate", 300)];
    let (steps, report) = world.pass_done(1);
    assert_eq!((steps.len(), events(&report, "EvictionsStopped")), (2, 0), "{:?}", words(&report));
}

#[test]
fn what_the_evicted_pod_ran_with_is_not() {
    let mut world = after_a_fallback();
    let requests = json!({ "requests": { "cpu": "50m", "memory": "100Mi" } });
    let replacement = Arc::make_mut(&mut world.pods[0]);
    replacement.spec.containers[0].resources = serde_json::from_value(requests).unwrap();
    world.vpas = vec![vpa("w", "Recreate", 300)];
    let (steps, report) = world.pass_done(1);
    assert_eq!((steps.len(), events(&report, "EvictionsStopped")), (0, 1), "{:?}", words(&report));
}

#[test]
fn what_a_later_resize_made_of_the_replacement_does_not_matter() {
    let mut world = World::new("Recreate", 200, pods(2, 50));
    assert_eq!(world.pass_done(1).0.len(), 1);
    // The replacement came with 200m; a resize takes it back to what the evicted pod had.
    world.vpas = vec![vpa("w", "InPlace", 50)];
    assert_eq!(world.pass_done(1).0.len(), 1);
    world.vpas = vec![vpa("w", "Recreate", 200)];
    let (steps, report) = world.pass_done(1);
    assert_eq!((steps.len(), events(&report, "EvictionsStopped")), (1, 0), "{:?}", words(&report));
}
