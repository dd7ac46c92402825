//! Inputs that several kinds of cases share.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::{Value, json};
use vpa_api::VerticalPodAutoscaler;
use vpa_api::limit_range::LimitRange;
use vpa_api::pod::Pod;
use vpa_api::vpa::{RecommendedContainerResources, RecommendedPodResources};
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::target::{Controller, ControllerKey, Lookup, Selector, controller_owner};
use vpa_core::update::{
    Config, Event, EventTarget, Features, Group, GroupKey, Groups, Outcome, PatchOp, Refusal, UpdaterMemory,
    groups, pod_name, replicas,
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Flags {
    min_replicas: Option<i64>,
    eviction_tolerance: Option<f64>,
    pod_update_threshold: Option<f64>,
    pod_lifetime_threshold_seconds: Option<f64>,
    evict_after_oom_threshold_seconds: Option<f64>,
    eviction_rate_limit: Option<f64>,
    eviction_rate_burst: Option<u32>,
    updater_interval_seconds: Option<f64>,
    in_place_skip_disruption_budget: Option<bool>,
    ignored_namespaces: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Gates(BTreeMap<String, bool>);

pub(crate) fn config(flags: &Flags, gates: &Gates) -> Config {
    let on = |gate: &str| gates.0.get(gate).copied().unwrap_or(false);
    let seconds = |seconds: f64| SignedDuration::try_from_secs_f64(seconds).unwrap();
    let default = Config::default();
    Config {
        min_replicas: flags.min_replicas.unwrap_or(default.min_replicas),
        eviction_tolerance: flags.eviction_tolerance.unwrap_or(default.eviction_tolerance),
        rate_limit: flags.eviction_rate_limit.unwrap_or(default.rate_limit),
        rate_burst: flags.eviction_rate_burst.unwrap_or(default.rate_burst),
        update_threshold: flags.pod_update_threshold.unwrap_or(default.update_threshold),
        pod_lifetime_threshold: flags
            .pod_lifetime_threshold_seconds
            .map_or(default.pod_lifetime_threshold, seconds),
        evict_after_oom_threshold: flags
            .evict_after_oom_threshold_seconds
            .map_or(default.evict_after_oom_threshold, seconds),
        pass_deadline: flags.updater_interval_seconds.map_or(default.pass_deadline, seconds),
        in_place_skip_disruption_budget: flags.in_place_skip_disruption_budget.unwrap_or(false),
        ignored_namespaces: flags.ignored_namespaces.clone().unwrap_or_default(),
        features: Features {
            in_place: on("InPlace"),
            per_vpa_config: on("PerVPAConfig"),
            cpu_startup_boost: on("CPUStartupBoost"),
        },
        ..default
    }
}

/// Controllers of a case, as a source.
pub(crate) type Controllers = BTreeMap<ControllerKey, Lookup>;

pub(crate) fn controllers(objects: &[Value]) -> Controllers {
    objects.iter().map(controller).collect()
}

fn controller(object: &Value) -> (ControllerKey, Lookup) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let key = ControllerKey {
        namespace: text("/metadata/namespace"),
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        name: text("/metadata/name"),
    };
    let owners = object.pointer("/metadata/ownerReferences").cloned().unwrap_or(json!([]));
    let owners: Vec<_> = serde_json::from_value(owners).unwrap();
    let selector = object.pointer("/spec/selector").cloned();
    let selector = if key.kind == "ReplicationController" {
        let labels: Option<BTreeMap<String, String>> = selector.map(|s| serde_json::from_value(s).unwrap());
        Selector::from_label_map(labels.as_ref())
    } else {
        let selector: Option<LabelSelector> = selector.map(|s| serde_json::from_value(s).unwrap());
        Selector::from_label_selector(selector.as_ref())
    };
    let replicas = match key.kind.as_str() {
        "DaemonSet" => {
            object.pointer("/status/numberReady").or(Some(&Value::Null)).and_then(Value::as_i64).or(Some(0))
        }
        "Job" => object.pointer("/spec/parallelism").and_then(Value::as_i64),
        _ => object.pointer("/spec/replicas").and_then(Value::as_i64),
    };
    let controller = Controller {
        uid: None,
        owner: controller_owner(&owners).map(|owner| ControllerKey::of_owner(&key.namespace, owner)),
        selector,
        replicas: replicas.map(|count| i32::try_from(count).unwrap()),
        containers: None,
        key: key.clone(),
    };
    (key, Lookup::Found(Arc::new(controller)))
}

/// Limit ranges of a case, by namespace.
pub(crate) struct Limits(BTreeMap<String, Arc<LimitRanges>>);

impl Limits {
    pub(crate) fn new(objects: &[LimitRange]) -> Self {
        let mut by_namespace: BTreeMap<String, Vec<&LimitRange>> = BTreeMap::new();
        for object in objects {
            by_namespace
                .entry(object.metadata.namespace.clone().unwrap_or_default())
                .or_default()
                .push(object);
        }
        Self(by_namespace.into_iter().map(|(ns, list)| (ns, Arc::new(LimitRanges::merge(list)))).collect())
    }
}

impl LimitRangeSource for Limits {
    fn limit_ranges(&self, namespace: &str) -> Arc<LimitRanges> {
        self.0.get(namespace).cloned().unwrap_or_default()
    }
}

pub(crate) fn groups_of(
    vpa: &VerticalPodAutoscaler,
    pods: &[Arc<Pod>],
    config: &Config,
    source: &Controllers,
) -> Groups {
    groups(vpa, pods, config, |key| replicas(source, key))
}

pub(crate) fn show_groups(groups: &Groups) -> Value {
    // The reference orders by namespace, kind and name too, but the one without owner has no name.
    groups.iter().map(show_group).collect()
}

fn show_group((key, group): (&GroupKey, &Group)) -> Value {
    json!({
        "namespace": key.namespace, "kind": key.kind, "name": key.name,
        "configured": group.configured, "pending": group.pending, "running": group.running,
        "evictionTolerance": group.eviction_tolerance, "evicted": group.evicted,
        "inPlaceUpdateOngoing": group.resizing, "inPlaceUpdateInitiated": group.resized,
        "belowMinReplicas": group.below_min_replicas, "isPodDisruptable": group.is_disruptable(),
    })
}

/// A memory as earlier passes would have left it.
pub(crate) fn memory(
    config: &Config,
    pods: &[Arc<Pod>],
    first_seen: &BTreeMap<String, Timestamp>,
    infeasible: &BTreeMap<String, RecommendedPodResources>,
    now: Timestamp,
) -> UpdaterMemory {
    let mut memory = UpdaterMemory::new(config).unwrap();
    for pod in pods {
        if let Some(time) = first_seen.get(&pod_name(pod)) {
            memory.set_first_seen(pod, *time);
        }
        if let Some(attempt) = infeasible.get(pod.metadata.uid.as_deref().unwrap_or_default()) {
            memory.remember_infeasible(pod, containers(attempt));
        }
    }
    memory.observe(pods, now);
    memory
}

pub(crate) fn containers(recommendation: &RecommendedPodResources) -> Vec<RecommendedContainerResources> {
    recommendation.container_recommendations.clone().unwrap_or_default()
}

/// Compares fallback timers where both have one.
pub(crate) fn expect_timers(
    want: &BTreeMap<String, Timestamp>,
    pods: &[Arc<Pod>],
    memory: &UpdaterMemory,
) -> Result<(), String> {
    for pod in pods {
        if let (Some(want), Some(got)) = (want.get(&pod_name(pod)), memory.state(pod).since()) {
            golden::expect(&format!("timer of {}", pod_name(pod)), want, &got)?;
        }
    }
    Ok(())
}

/// Answers of the API to calls: an error where the case has one.
pub(crate) fn answer(errors: &BTreeMap<String, Value>, call: &str, pod: &Pod) -> Outcome {
    let Some(status) = errors.get(&format!("{call} {}", pod_name(pod))) else { return Outcome::Done };
    let text = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let causes = status.pointer("/details/causes").and_then(Value::as_array).cloned().unwrap_or_default();
    let refusal = Refusal {
        code: status.get("code").and_then(Value::as_u64).unwrap_or_default() as u16,
        reason: text("reason"),
        message: text("message"),
        node_capacity: text("reason") == "Forbidden"
            && causes.iter().any(|cause| cause["reason"] == "NodeCapacity"),
    };
    Outcome::of_status(refusal, call == "evict")
}

/// Log entries of a resize: the two calls.
pub(crate) fn resize_calls(
    pod: &Pod,
    resize: &[PatchOp],
    annotate: &[PatchOp],
    errors: &BTreeMap<String, Value>,
) -> (Vec<Value>, Outcome) {
    let mut log = Vec::new();
    if !resize.is_empty() {
        let outcome = answer(errors, "resize", pod);
        log.push(call("resize", pod, Some(resize), outcome != Outcome::Done));
        if outcome != Outcome::Done {
            return (log, outcome);
        }
    }
    log.push(call("patch", pod, Some(annotate), answer(errors, "patch", pod) != Outcome::Done));
    (log, Outcome::Done)
}

pub(crate) fn call(name: &str, pod: &Pod, ops: Option<&[PatchOp]>, failed: bool) -> Value {
    let mut entry = json!({ "call": name, "pod": pod_name(pod) });
    if let Some(ops) = ops {
        entry["ops"] = serde_json::to_value(ops).unwrap();
    }
    if failed {
        entry["failed"] = true.into();
    }
    entry
}

pub(crate) fn show_event(event: &Event) -> Value {
    let on = match &event.on {
        EventTarget::Pod(object) => format!("Pod {}/{}", object.namespace, object.name),
        EventTarget::Vpa(object) => format!("VerticalPodAutoscaler {}/{}", object.namespace, object.name),
    };
    let kind = if event.warning { "Warning" } else { "Normal" };
    json!({ "event": event.reason, "message": event.message, "on": on, "type": kind })
}

/// Objects behind shared pointers, as stores hand them out.
pub(crate) fn arcs<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<Arc<T>>, D::Error> {
    Ok(Vec::<T>::deserialize(deserializer)?.into_iter().map(Arc::new).collect())
}
