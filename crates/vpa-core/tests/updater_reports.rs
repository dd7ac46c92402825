//! What users of the Go suite reported about its updater (numbers are issues of kubernetes/autoscaler), and what happens
//! here.

// Helpers outside of test functions; what they panic on is a broken test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod updater_world;

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;
use updater_world::world::{World, changed, done, pods, resize_policy, words};
use updater_world::{pod, vpa};
use vpa_api::pod::Pod;
use vpa_core::policy::{Bounds, process};
use vpa_core::update::{Action, Heartbeat, Outcome, Reason, Refusal, Step, Verdict};

/// Two containers at their targets under a LimitRange on the pod, by which the second one's upper bound pulls the first
/// one's below its target.
fn under_a_limit_range_on_pods(mode: &str) -> World {
    let amounts = |cpu: &str| json!({ "cpu": cpu, "memory": "100Mi" });
    let resources = json!({ "requests": amounts("1"), "limits": amounts("1") });
    let pods = changed(pods(2, 50), |pod| {
        pod.spec.containers = ["c", "side"]
            .map(|name| serde_json::from_value(json!({ "name": name, "resources": resources })).unwrap())
            .into();
    });
    let mut world = World::new(mode, 50, pods);
    let recommended = [("c", "8"), ("side", "64")].map(|(name, upper)| {
        json!({
            "containerName": name, "target": amounts("1"),
            "lowerBound": amounts("100m"), "upperBound": amounts(upper),
        })
    });
    let recommendation = json!({ "recommendation": { "containerRecommendations": recommended } });
    Arc::make_mut(&mut world.vpas[0]).status = serde_json::from_value(recommendation).unwrap();
    let max = serde_json::from_value(json!({ "cpu": "2" })).unwrap();
    Arc::make_mut(&mut world.limits.0).pod = Some(Bounds { max: Some(max), ..Bounds::default() });
    world
}

#[test]
fn report_8776_a_limit_range_on_pods_evicts_no_pod_that_is_at_its_target() {
    for mode in ["Recreate", "InPlaceOrRecreate", "InPlace"] {
        let mut world = under_a_limit_range_on_pods(mode);
        for _ in 0..5 {
            assert!(world.pass_done(1).0.is_empty(), "{mode}");
        }
    }
}

#[test]
fn report_9935_bounds_are_in_order_after_a_limit_range_and_a_change_of_nothing_is_not_made() {
    let world = under_a_limit_range_on_pods("Recreate");
    let processed = process(&world.vpas[0], &world.pods[0], &world.limits.0).unwrap();
    for container in &processed.containers {
        let at = |list: &Option<vpa_api::ResourceList>| list.as_ref().unwrap()["cpu"].clone();
        let target = &container.target["cpu"];
        let (lower, upper) = (at(&container.lower_bound), at(&container.upper_bound));
        assert!(lower <= *target && *target <= upper, "{container:?}");
    }
    assert_eq!(
        processed.containers[0].upper_bound.as_ref().unwrap()["cpu"].to_string(),
        "1",
        "it was scaled"
    );
    // Even where the recommendation itself is out of order, admission has the last word.
    let mut world = World::new("Recreate", 200, pods(2, 200));
    let vpa = Arc::make_mut(&mut world.vpas[0]);
    let recommendation = vpa.status.as_mut().unwrap().recommendation.as_mut().unwrap();
    let container = &mut recommendation.container_recommendations.as_mut().unwrap()[0];
    container.lower_bound = serde_json::from_value(json!({ "cpu": "300m" })).unwrap();
    let (steps, report) = world.pass(1, done);
    assert!(steps.is_empty());
    assert_eq!(words(&report), ["NothingWouldChange", "NothingWouldChange"]);
}

// 2180, 9362, 6362, 7795: evictions went on while no webhook gave the new pods other resources.

#[test]
fn reports_2180_9362_6362_7795_nothing_is_touched_while_the_admission_controller_is_silent() {
    for mode in ["Recreate", "InPlaceOrRecreate"] {
        for heartbeat in [None, Some("its lease is gone")] {
            let mut world = World::new(mode, 200, pods(2, 50));
            world.heartbeat =
                heartbeat.map_or(Heartbeat::ValidUntil(world.now), |why| Heartbeat::Missing(why.to_owned()));
            let (steps, report) = world.pass(1, done);
            assert!(steps.is_empty());
            assert_eq!(words(&report), ["HeartbeatStale", "HeartbeatStale"]);
        }
    }
}

/// With a certificate that is not valid the admission controller leaves out its heartbeat, though it runs.
#[test]
fn reports_2180_9362_6362_7795_an_invalid_certificate_ends_evictions_until_it_is_renewed() {
    let mut world = World::new("Recreate", 200, pods(8, 50));
    let timeout = SignedDuration::from_mins(1);
    let lease = |renewed: jiff::Timestamp| -> Heartbeat {
        let lease: Lease = serde_json::from_value(
            json!({ "metadata": {}, "spec": { "renewTime": format!("{renewed:.6}") } }),
        )
        .unwrap();
        Heartbeat::of(&lease, timeout)
    };
    let mut last_beat = world.now;
    let mut evicted = Vec::new();
    for minute in 0..5 {
        // It expires after the first beat and is renewed before the fourth.
        if !(1..4).contains(&minute) {
            last_beat = world.now;
        }
        world.heartbeat = lease(last_beat);
        let (steps, report) = world.pass_done(1);
        evicted.push(steps.len());
        let stale = words(&report).iter().all(|word| *word == "HeartbeatStale");
        assert_eq!(stale, steps.is_empty(), "minute {minute}");
    }
    assert_eq!(evicted, [4, 0, 0, 0, 4]);
}

/// The heartbeat can also stop in the middle of a pass.
#[test]
fn reports_2180_9362_6362_7795_evictions_end_with_the_heartbeat_within_a_pass() {
    let mut world = World::new("Recreate", 200, pods(8, 50));
    world.step_takes = SignedDuration::from_secs(10);
    let until = world.now.checked_add(SignedDuration::from_secs(15)).unwrap();
    world.heartbeat = Heartbeat::ValidUntil(until);
    let (steps, report) = world.pass(1, done);
    assert_eq!(steps.len(), 2);
    assert!(words(&report)[2..].iter().all(|word| *word == "HeartbeatStale"));
}

/// A heartbeat that says that all is well, and a webhook that is not called.
#[test]
fn reports_2180_9362_6362_7795_a_pod_that_comes_back_unchanged_stops_evictions_and_is_reported() {
    let mut world = World::new("Recreate", 200, pods(3, 50));
    let (steps, _) = world.pass(1, done);
    assert_eq!(steps.len(), 1);
    // Its replacement has what it had.
    world.pods[0] = pod("w", 7, false, 50, None);
    let mut told = 0;
    for _ in 0..60 {
        let (steps, report) = world.pass(1, done);
        told +=
            report.events.iter().filter(|event| event.warning && event.reason == "EvictionsStopped").count();
        assert!(steps.is_empty());
        assert_eq!(words(&report), ["RecreatedUnchanged"; 3]);
    }
    assert_eq!(told, 1);
    // After an hour one more is tried; this time the webhook does its work.
    let (steps, _) = world.pass(1, done);
    assert_eq!(steps.len(), 1);
    let gone = world.pods.iter().position(|pod| pod.metadata.uid == steps[0].pod.metadata.uid).unwrap();
    world.pods[gone] = pod("w", 8, false, 200, None);
    let (steps, _) = world.pass(1, done);
    assert_eq!(steps.len(), 1, "evictions go on");
}

/// An overloaded API server made a resize infeasible for ever.
#[test]
fn report_10094_a_transient_error_of_the_api_server_is_not_remembered_as_infeasible() {
    let refuse = |code: u16, node_capacity: bool| {
        move |_: &Step| {
            let refusal = Refusal { code, node_capacity, message: "no".into(), ..Refusal::default() };
            Outcome::of_status(refusal, false)
        }
    };
    for code in [404, 409, 429, 500, 503, 504] {
        let mut world = World::new("InPlace", 200, pods(2, 50));
        let (first, _) = world.pass(1, refuse(code, false));
        let (second, _) = world.pass(1, done);
        assert!(!first.is_empty() && !second.is_empty(), "{code} is tried again");
    }
    let mut world = World::new("InPlace", 200, pods(2, 50));
    assert_eq!(world.pass(1, refuse(403, true)).0.len(), 2);
    let (steps, report) = world.pass(1, done);
    assert!(steps.is_empty());
    assert_eq!(words(&report), ["InfeasibleRemembered"; 2]);
    world.vpas = vec![vpa("w", "InPlace", 150)];
    assert!(!world.pass(1, done).0.is_empty(), "less is tried");
}

fn failed(number: usize) -> Arc<Pod> {
    pod("w", number, false, 50, Some(("PodResizeInProgress", "Error")))
}

/// The kubelet's passing failure made later recommendations wait for ever. It is retried with growing waits when there is
/// something new to ask.
#[test]
fn report_10093_a_transient_error_of_the_kubelet_is_retried_with_backoff() {
    let mut world = World::new("InPlace", 200, vec![failed(0), failed(1), pod("w", 2, false, 200, None)]);
    let mut asked = Vec::new();
    for minute in 0..16 {
        if !world.pass(1, |_| Outcome::Transient("busy".into())).0.is_empty() {
            asked.push(minute);
        }
    }
    assert_eq!(asked, [0, 1, 3, 7, 15]);
}

#[test]
fn report_10093_a_transient_error_of_the_kubelet_holds_up_no_later_recommendation() {
    let mut world = World::new("InPlace", 200, vec![failed(0), failed(1)]);
    assert!(!world.pass_done(1).0.is_empty());
    // It fails at that too; more than that is recommended later.
    for cpu in [250, 300] {
        world.vpas = vec![vpa("w", "InPlace", cpu)];
        let asked: usize = (0..8).map(|_| world.pass_done(1).0.len()).sum();
        assert_eq!(asked, 2, "{cpu}");
    }
}

/// Resizes that restart containers went past the disruption budget.
#[test]
fn report_10136_a_resize_that_restarts_containers_respects_the_budget() {
    for (policy, skip, resized) in [
        ("RestartContainer", true, 2),
        ("NotRequired", true, 4),
        ("RestartContainer", false, 2),
        ("NotRequired", false, 2),
    ] {
        let pods = changed(pods(4, 50), resize_policy("cpu", policy));
        let mut world =
            World::new("InPlace", 200, pods).with(|config| config.in_place_skip_disruption_budget = skip);
        assert_eq!(world.pass(1, done).0.len(), resized, "{policy}, {skip}");
    }
}

/// A BestEffort pod cannot be resized, since that would make it Burstable.
#[test]
fn report_9374_a_best_effort_pod_gets_what_its_mode_falls_back_to() {
    let bare = || changed(pods(2, 50), |pod| pod.spec.containers[0].resources = Default::default());
    let (steps, report) = World::new("InPlace", 200, bare()).pass(1, done);
    assert!(steps.is_empty());
    assert_eq!(words(&report), ["QosClass"; 2]);
    let text = report.pods().next().map(|(_, pod)| match &pod.verdict {
        Verdict::Left(reason @ Reason::QosClass { .. }) => reason.to_string(),
        other => panic!("{other:?}"),
    });
    assert!(text.unwrap().contains("from BestEffort to Burstable"));
    let (steps, _) = World::new("InPlaceOrRecreate", 200, bare()).pass(1, done);
    assert!(matches!(steps.as_slice(), [step] if matches!(step.action, Action::Evict { .. })));
}
