//! Containers that restart on a resize although their policy does not ask for it.

use std::sync::Arc;

use serde_json::json;
use vpa_api::pod::Pod;
use vpa_core::update::EventTarget;

use crate::updater_world::vpa;
use crate::updater_world::world::{World, changed, events, pods, resize_policy};

/// Gives the container a number of restarts, and how it last ended.
fn restarted(pod: &mut Pod, count: i32, reason: &str) {
    let status =
        json!([{ "name": "c", "restartCount": count, "lastState": { "terminated": { "reason": reason } } }]);
    pod.status.container_statuses = serde_json::from_value(status).unwrap();
}

/// Four pods of a VPA whose resizes need no budget as long as they restart nothing.
fn world(policy: &'static str) -> World {
    let pods = changed(pods(4, 50), |pod| {
        restarted(pod, 3, "Completed");
        resize_policy("cpu", policy)(pod);
    });
    World::new("InPlace", 200, pods).with(|config| config.in_place_skip_disruption_budget = true)
}

#[test]
fn it_is_reported_once_and_the_vpa_counts_as_disruptive_from_then_on() {
    let mut world = world("NotRequired");
    assert_eq!(world.pass_done(1).0.len(), 4, "no budget is needed");
    restarted(Arc::make_mut(&mut world.pods[0]), 4, "Completed");
    let (_, report) = world.pass_done(1);
    let [restart] = report.unexpected_restarts.as_slice() else { panic!("{:?}", report.unexpected_restarts) };
    assert_eq!(
        (restart.vpa.as_str(), restart.pod.as_str(), restart.containers.as_slice()),
        ("ns/w", "ns/w-0", ["c".to_owned()].as_slice())
    );
    let event = report.events.iter().find(|event| event.reason == "RestartedOnResize").unwrap();
    assert!(event.warning && matches!(&event.on, EventTarget::Vpa(vpa) if vpa.name == "w"));
    let (_, report) = world.pass_done(1);
    assert_eq!((report.unexpected_restarts.len(), events(&report, "RestartedOnResize")), (0, 0));

    world.vpas = vec![vpa("w", "InPlace", 300)];
    assert_eq!(world.pass_done(1).0.len(), 2, "half of the replicas, as for an eviction");
}

#[test]
fn its_resizes_count_towards_the_hourly_limits() {
    let mut world = world("NotRequired").with(|config| {
        config.in_place_skip_disruption_budget = true;
        config.max_disruptions_per_hour = 1;
    });
    assert_eq!(world.pass_done(1).0.len(), 4);
    restarted(Arc::make_mut(&mut world.pods[0]), 4, "Completed");
    world.vpas = vec![vpa("w", "InPlace", 300)];
    assert_eq!(world.pass_done(1).0.len(), 1);
}

#[test]
fn what_was_to_be_expected_is_not_reported() {
    let mut before = world("NotRequired");
    restarted(Arc::make_mut(&mut before.pods[0]), 4, "Completed");
    let (_, report) = before.pass_done(1);
    assert!(report.unexpected_restarts.is_empty(), "it restarted before any resize");

    let mut asked_for = world("RestartContainer");
    drop(asked_for.pass_done(1));
    restarted(Arc::make_mut(&mut asked_for.pods[0]), 4, "Completed");
    assert!(asked_for.pass_done(1).1.unexpected_restarts.is_empty(), "its policy asks for it");

    let mut out_of_memory = world("NotRequired");
    drop(out_of_memory.pass_done(1));
    restarted(Arc::make_mut(&mut out_of_memory.pods[0]), 4, "OOMKilled");
    assert!(out_of_memory.pass_done(1).1.unexpected_restarts.is_empty(), "it ran out of memory");

    let mut much_later = world("NotRequired");
    (0..10).for_each(|_| drop(much_later.pass_done(1)));
    restarted(Arc::make_mut(&mut much_later.pods[0]), 4, "Completed");
    assert!(much_later.pass_done(1).1.unexpected_restarts.is_empty(), "the resize is long over");
}

/// A resize that is deferred for long is watched until it is over.
#[test]
fn a_late_resize_is_watched_too() {
    let mut world = world("NotRequired");
    drop(world.pass_done(1));
    let deferred = json!([{ "type": "PodResizePending", "status": "True", "reason": "Deferred" }]);
    Arc::make_mut(&mut world.pods[0]).status.conditions = serde_json::from_value(deferred).unwrap();
    (0..30).for_each(|_| drop(world.pass_done(1)));
    let pod = Arc::make_mut(&mut world.pods[0]);
    pod.status.conditions.clear();
    restarted(pod, 4, "Completed");
    assert_eq!(world.pass_done(1).1.unexpected_restarts.len(), 1);
}
