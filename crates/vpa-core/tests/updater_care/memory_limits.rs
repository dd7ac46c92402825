//! Memory limits of running containers are lowered only where the cluster can do that.

use serde_json::json;
use vpa_core::update::{Action, FallbackReason, Step};

use crate::updater_world::vpa;
use crate::updater_world::world::{World, changed, pods, resize_policy, words};

/// Two pods with 400Mi of memory and a limit, of which 100Mi would do. CPU stays, without a limit.
fn world(mode: &str, lowers: bool, limit: &'static str, restarts: bool) -> World {
    let with_limit = changed(pods(2, 200), |pod| {
        let requests = json!({ "cpu": "200m", "memory": "400Mi" });
        let resources = json!({ "requests": requests, "limits": { "memory": limit } });
        pod.spec.containers[0].resources = serde_json::from_value(resources).unwrap();
        if restarts {
            resize_policy("memory", "RestartContainer")(pod);
        }
    });
    World::of(vec![vpa("w", mode, 200)], with_limit).with(|config| config.lowers_memory_limits = lowers)
}

/// Memory requested and allowed after a step, and whether the patch speaks of the limit.
fn memory(step: &Step) -> (String, String, bool) {
    let Action::Resize { resize, .. } = &step.action else { panic!("{step:?}") };
    let at = |list: &Option<vpa_api::ResourceList>| list.as_ref().unwrap()["memory"].to_string();
    let limit = resize.iter().any(|op| op.path.ends_with("limits/memory"));
    (at(&step.after[0].requests), at(&step.after[0].limits), limit)
}

#[test]
fn limits_fall_where_the_cluster_or_a_restart_lets_them() {
    for (lowers, restarts, limit_after) in
        [(true, false, "200Mi"), (true, true, "200Mi"), (false, true, "200Mi"), (false, false, "800Mi")]
    {
        let (steps, _) = world("InPlace", lowers, "800Mi", restarts).pass_done(1);
        let want = ("100Mi".to_owned(), limit_after.to_owned(), limit_after == "200Mi");
        assert_eq!(memory(&steps[0]), want, "lowers: {lowers}, restarts: {restarts}");
    }
}

#[test]
fn a_kept_limit_is_not_asked_for_again() {
    let mut world = world("InPlace", false, "800Mi", false);
    for pass in 0..2 {
        assert_eq!(world.pass_done(1).0.len(), 1, "pass {pass}");
    }
    assert!(world.pass_done(1).0.is_empty());
}

#[test]
fn limits_rise_in_any_case() {
    let mut world = world("InPlace", false, "800Mi", false);
    let mut vpa = vpa_api::VerticalPodAutoscaler::clone(&world.vpas[0]);
    let recommendation = vpa.status.as_mut().unwrap().recommendation.as_mut().unwrap();
    let container = &mut recommendation.container_recommendations.as_mut().unwrap()[0];
    container.target = serde_json::from_value(json!({ "cpu": "200m", "memory": "600Mi" })).unwrap();
    container.lower_bound = Some(container.target.clone());
    container.upper_bound = Some(container.target.clone());
    world.vpas = vec![vpa.into()];
    let (steps, _) = world.pass_done(1);
    assert_eq!(memory(&steps[0]), ("600Mi".to_owned(), "1200Mi".to_owned(), true));
}

/// With its limit kept, a Guaranteed pod would become Burstable, which no resize may do.
#[test]
fn a_guaranteed_pod_that_cannot_be_lowered_gets_what_its_mode_falls_back_to() {
    let guaranteed = |mode| {
        let mut world = world(mode, false, "400Mi", false);
        world.pods = changed(world.pods, |pod| {
            let resources = &mut pod.spec.containers[0].resources;
            resources.limits = resources.requests.clone();
        });
        world
    };
    let (steps, report) = guaranteed("InPlace").pass_done(1);
    assert!(steps.is_empty());
    assert_eq!(words(&report), ["QosClass"; 2]);
    let (steps, _) = guaranteed("InPlaceOrRecreate").pass_done(1);
    let fallback = Action::Evict { fallback: Some(FallbackReason::QosClass) };
    assert!(matches!(steps.as_slice(), [step] if step.action == fallback));
    assert_eq!(steps[0].after[0].limits.as_ref().unwrap()["memory"].to_string(), "100Mi");
}
