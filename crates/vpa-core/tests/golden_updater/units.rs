//! Cases of single decisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use golden::{expect, expect_json};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use vpa_api::VerticalPodAutoscaler;
use vpa_api::limit_range::LimitRange;
use vpa_api::pod::Pod;
use vpa_api::vpa::RecommendedPodResources;
use vpa_core::policy::{LimitRangeSource, Mode, has_startup_boost, mode, process};
use vpa_core::update::{
    Config, Decision, Event, Outcome, PodPriority, ResizePhase, Situation, accept, decide_resize,
    expired_annotations, is_boosted, may_end_boost, may_evict, may_resize, meets_eviction_requirements,
    pod_name, pod_priority, resize_patch,
};

use crate::inputs::{
    Controllers, Flags, Gates, Limits, answer, arcs, call, config, containers, controllers, expect_timers,
    groups_of, memory, resize_calls, show_event, show_groups,
};

fn show_priority(priority: &PodPriority) -> Value {
    json!({
        "outsideRecommendedRange": priority.outside_recommended_range,
        "scaleUp": priority.scale_up,
        "resourceDiff": priority.resource_diff,
    })
}

#[derive(Deserialize)]
pub(crate) struct Priority {
    pod: Pod,
    recommendation: Option<RecommendedPodResources>,
    want: Value,
}

pub(crate) fn priority(case: &Priority) -> Result<(), String> {
    let recommendations = case.recommendation.as_ref().map(containers).unwrap_or_default();
    expect_json("priority", &case.want, &show_priority(&pod_priority(&case.pod, &recommendations)))
}

/// What cases of one VPA and its pods have in common.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scene {
    now: Timestamp,
    vpa: VerticalPodAutoscaler,
    #[serde(deserialize_with = "arcs")]
    pods: Vec<Arc<Pod>>,
    #[serde(default)]
    flags: Flags,
    #[serde(default)]
    feature_gates: Gates,
    #[serde(default)]
    controllers: Vec<Value>,
    #[serde(default)]
    limit_ranges: Vec<LimitRange>,
    #[serde(default)]
    api_errors: BTreeMap<String, Value>,
    #[serde(default)]
    last_in_place_attempts: BTreeMap<String, Timestamp>,
    #[serde(default)]
    infeasible_attempts: BTreeMap<String, RecommendedPodResources>,
}

impl Scene {
    fn config(&self) -> Config {
        config(&self.flags, &self.feature_gates)
    }

    fn controllers(&self) -> Controllers {
        controllers(&self.controllers)
    }

    fn memory(&self) -> vpa_core::update::UpdaterMemory {
        memory(&self.config(), &self.pods, &self.last_in_place_attempts, &self.infeasible_attempts, self.now)
    }

    fn pod(&self, name: &str) -> Arc<Pod> {
        let found = self.pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(name));
        Arc::clone(found.expect("a pod of the case"))
    }

    fn limits(&self, pod: &Pod) -> Arc<vpa_core::policy::LimitRanges> {
        Limits::new(&self.limit_ranges).limit_ranges(pod.metadata.namespace.as_deref().unwrap_or_default())
    }
}

#[derive(Deserialize)]
pub(crate) struct Order {
    #[serde(flatten)]
    scene: Scene,
    want: Value,
}

pub(crate) fn update_order(case: &Order) -> Result<(), String> {
    let scene = &case.scene;
    let (config, memory) = (scene.config(), scene.memory());
    let mut accepted = Vec::new();
    for pod in &scene.pods {
        let processed = process(&scene.vpa, pod, &scene.limits(pod)).map(|processed| processed.containers);
        let infeasible = memory.infeasible(pod).filter(|_| mode(&scene.vpa) == Mode::InPlace);
        if let Ok(priority) = accept(pod, &scene.vpa, processed.as_deref(), infeasible, &config, scene.now) {
            let passes =
                meets_eviction_requirements(pod, &scene.vpa, processed.as_deref().unwrap_or_default());
            accepted.push((pod, priority, passes));
        }
    }
    accepted.sort_by(|a, b| a.1.cmp_urgency(&b.1));
    let name = |pod: &Pod| pod.metadata.name.clone();
    let show = |(pod, priority, _): &(&Arc<Pod>, PodPriority, bool)| {
        let mut shown = show_priority(priority);
        shown["pod"] = json!(name(pod));
        shown
    };
    let got = json!({
        "accepted": accepted.iter().map(show).collect::<Vec<_>>(),
        "order": accepted.iter().filter(|(_, _, passes)| *passes).map(|(pod, _, _)| name(pod)).collect::<Vec<_>>(),
    });
    expect_json("want", &case.want, &got)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Eviction {
    #[serde(flatten)]
    scene: Scene,
    evict: Vec<String>,
    want: EvictionWant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EvictionWant {
    groups: Value,
    groups_after: Value,
    tracked_pods: Value,
    can_evict: Value,
    steps: Vec<Value>,
    last_in_place_attempts_after: BTreeMap<String, Timestamp>,
}

pub(crate) fn eviction(case: &Eviction) -> Result<(), String> {
    let scene = &case.scene;
    let (config, memory) = (scene.config(), scene.memory());
    let mut groups = groups_of(&scene.vpa, &scene.pods, &config, &scene.controllers());
    let can_evict = |groups: &_| -> Vec<bool> {
        scene
            .pods
            .iter()
            .map(|pod| may_evict(pod, groups, memory.state(pod), &config, scene.now).is_ok())
            .collect()
    };
    let mut tracked: Vec<_> =
        scene.pods.iter().filter(|pod| groups.of(pod).is_ok()).map(|pod| pod_name(pod)).collect();
    tracked.sort();
    expect_json("groups", &case.want.groups, &show_groups(&groups))?;
    expect_json("trackedPods", &case.want.tracked_pods, &tracked)?;
    expect_json("canEvict", &case.want.can_evict, &can_evict(&groups))?;
    for (name, want) in case.evict.iter().zip(&case.want.steps) {
        let pod = scene.pod(name);
        let mut got = json!({ "evict": name, "ok": false });
        match may_evict(&pod, &groups, memory.state(&pod), &config, scene.now) {
            Err(_) => got["error"] = want["error"].clone(),
            Ok(()) => {
                let outcome = answer(&scene.api_errors, "evict", &pod);
                got["ok"] = json!(outcome == Outcome::Done);
                let mut log = vec![call("evict", &pod, None, outcome != Outcome::Done)];
                match outcome {
                    Outcome::Done => {
                        groups.note_eviction(&pod);
                        log.push(show_event(&Event::evicted_pod(&pod)));
                        log.push(show_event(&Event::evicted_by_vpa(&scene.vpa, &pod)));
                    }
                    Outcome::Blocked(message) | Outcome::Transient(message) => got["error"] = json!(message),
                    Outcome::Refused(refusal) => got["error"] = json!(refusal.message),
                    other => return Err(format!("unexpected outcome {other:?}")),
                }
                got["log"] = json!(log);
            }
        }
        got["canEvictAfter"] = json!(can_evict(&groups));
        expect_json(&format!("eviction of {name}"), want, &got)?;
    }
    expect("number of steps", &case.evict.len(), &case.want.steps.len())?;
    expect_json("groupsAfter", &case.want.groups_after, &show_groups(&groups))?;
    expect_timers(&case.want.last_in_place_attempts_after, &scene.pods, &memory)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InPlace {
    #[serde(flatten)]
    scene: Scene,
    #[serde(default)]
    decide_only: bool,
    want: InPlaceWant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InPlaceWant {
    groups: Value,
    groups_after: Option<Value>,
    steps: Vec<Value>,
    last_in_place_attempts_after: BTreeMap<String, Timestamp>,
}

pub(crate) fn in_place(case: &InPlace) -> Result<(), String> {
    let scene = &case.scene;
    let (config, memory) = (scene.config(), scene.memory());
    let mut groups = groups_of(&scene.vpa, &scene.pods, &config, &scene.controllers());
    expect_json("groups", &case.want.groups, &show_groups(&groups))?;
    expect("number of steps", &scene.pods.len(), &case.want.steps.len())?;
    for (pod, want) in scene.pods.iter().zip(&case.want.steps) {
        let processed = process(&scene.vpa, pod, &scene.limits(pod)).map(|processed| processed.containers);
        let has_recommendation =
            scene.vpa.status.as_ref().is_some_and(|status| status.recommendation.is_some());
        let decision = decide_resize(
            pod,
            &Situation {
                mode: mode(&scene.vpa),
                groups: &groups,
                state: memory.state(pod),
                processed: processed.as_deref().filter(|_| has_recommendation),
                infeasible: memory.infeasible(pod),
                config: &config,
                now: scene.now,
                disruptive: false,
            },
        );
        let mut got = json!({
            "pod": pod.metadata.name,
            "resizeStatus": format!("Resize{}", ResizePhase::of(pod)),
            "decision": match decision {
                Decision::Approved => "InPlaceApproved",
                // The reference patches deferred pods too, and a failed resize is deferred there.
                Decision::Deferred(_) | Decision::Retry => "InPlaceDeferred",
                Decision::FallBack(_) => "InPlaceEvict",
                Decision::Infeasible => "InPlaceInfeasible",
                Decision::InfeasibleRemembered => "InPlaceInfeasibleCached",
            },
            "canEvict": may_evict(pod, &groups, memory.state(pod), &config, scene.now).is_ok(),
        });
        let sends = matches!(decision, Decision::Approved | Decision::Retry | Decision::Infeasible)
            && !case.decide_only;
        if sends && groups.of(pod).is_ok_and(|group| may_resize(pod, group, false, &config)) {
            let expired = expired_annotations(pod, &scene.vpa, scene.now);
            let patch =
                resize_patch(pod, &scene.vpa, processed.as_deref(), &scene.limits(pod), &expired).unwrap();
            if patch.changes(pod) && patch.qos_change(pod).is_none() {
                let (log, outcome) = resize_calls(pod, &patch.resize, &patch.annotate, &scene.api_errors);
                got["update"] = show_update(pod, log, &outcome);
                if outcome == Outcome::Done {
                    groups.note_resize(pod);
                }
            }
        }
        expect_json(&format!("pod {}", pod_name(pod)), want, &got)?;
    }
    if let Some(want) = &case.want.groups_after {
        expect_json("groupsAfter", want, &show_groups(&groups))?;
    }
    expect_timers(&case.want.last_in_place_attempts_after, &scene.pods, &memory)
}

fn show_update(pod: &Pod, mut log: Vec<Value>, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Done => {
            log.push(show_event(&Event::resized(pod)));
            json!({ "ok": true, "log": log })
        }
        Outcome::Refused(refusal) => json!({ "ok": false, "log": log, "error": refusal.message }),
        Outcome::Transient(message) | Outcome::Blocked(message) => {
            json!({ "ok": false, "log": log, "error": message })
        }
        other => json!({ "unexpected": format!("{other:?}") }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Resize {
    now: Timestamp,
    pod: Pod,
    vpa: VerticalPodAutoscaler,
    #[serde(default)]
    limit_ranges: Vec<LimitRange>,
    want: Value,
}

pub(crate) fn resize_patches(case: &Resize) -> Result<(), String> {
    let limits = Limits::new(&case.limit_ranges);
    let limits = limits.limit_ranges(case.pod.metadata.namespace.as_deref().unwrap_or_default());
    let processed = process(&case.vpa, &case.pod, &limits).map(|processed| processed.containers);
    let expired = expired_annotations(&case.pod, &case.vpa, case.now);
    let patch = resize_patch(&case.pod, &case.vpa, processed.as_deref(), &limits, &expired);
    let patch = patch.map_err(|error| error.to_string())?;
    expect_json("resize", &case.want["resize"], &patch.resize)?;
    expect_json("patch", &case.want["patch"], &patch.annotate)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Boost {
    #[serde(flatten)]
    scene: Scene,
    want: BoostWant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BoostWant {
    has_startup_boost: bool,
    groups: Value,
    steps: Vec<Value>,
}

pub(crate) fn startup_boost(case: &Boost) -> Result<(), String> {
    let scene = &case.scene;
    let (config, memory) = (scene.config(), scene.memory());
    let mut groups = groups_of(&scene.vpa, &scene.pods, &config, &scene.controllers());
    expect("hasStartupBoost", &case.want.has_startup_boost, &has_startup_boost(&scene.vpa))?;
    expect_json("groups", &case.want.groups, &show_groups(&groups))?;
    expect("number of steps", &scene.pods.len(), &case.want.steps.len())?;
    for (pod, want) in scene.pods.iter().zip(&case.want.steps) {
        let expired = expired_annotations(pod, &scene.vpa, scene.now);
        let may = config.features.cpu_startup_boost
            && !expired.is_empty()
            && may_end_boost(pod, &groups, memory.state(pod)).is_ok();
        let mut got = json!({
            "pod": pod.metadata.name, "boostInProgress": is_boosted(pod), "expired": expired, "canUnboost": may,
        });
        if may {
            let processed =
                process(&scene.vpa, pod, &scene.limits(pod)).map(|processed| processed.containers);
            match resize_patch(pod, &scene.vpa, processed.as_deref(), &scene.limits(pod), &expired) {
                // The text is this suite's own.
                Err(_) => {
                    got["unboost"] = json!({ "ok": false, "log": [], "error": want["unboost"]["error"] })
                }
                Ok(patch) => {
                    let resize = if patch.changes(pod) { patch.resize } else { Vec::new() };
                    let (log, outcome) = resize_calls(pod, &resize, &patch.annotate, &scene.api_errors);
                    got["unboost"] = show_update(pod, log, &outcome);
                    groups.note_resize(pod);
                }
            }
        }
        expect_json(&format!("pod {}", pod_name(pod)), want, &got)?;
    }
    Ok(())
}
