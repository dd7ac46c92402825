//! The controllers of the built-in workload kinds. Each is a function from what there is to what to write. Garbage
//! collection is not among them: the embedded API server does it itself, and elsewhere kube-controller-manager.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use super::Simulator;
use super::act::{Kind, Op, Write, same};
use super::usage::UsageClock;
use super::usage::demand::hash;
use super::world::World;

mod cron;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod job;
mod replica_set;
mod stateful_set;

/// Pods made or removed for one owner in one pass, as many as kube-controller-manager does at most.
const BURST: usize = 500;

/// All controllers.
#[derive(Debug)]
pub(super) struct Controllers {
    clock: UsageClock,
}

impl Controllers {
    pub(super) fn new(clock: UsageClock) -> Self {
        Self { clock }
    }
}

impl Simulator for Controllers {
    const NAME: &'static str = "controllers";

    fn plan(&mut self, world: &World, now: Timestamp) -> Vec<Write> {
        let pods = Pods::new(world.pods.all());
        let mut writes = deployment::plan(world, &pods, now);
        writes.extend(replica_set::plan(world, &pods, now));
        writes.extend(stateful_set::plan(world, &pods, now));
        writes.extend(daemon_set::plan(world, &pods, now));
        writes.extend(cron_job::plan(world, self.clock, now));
        writes.extend(job::plan(world, &pods, now));
        writes.extend(disruption::plan(world, &pods, now));
        writes
    }
}

/// Pods by their controlling owner.
struct Pods {
    all: Vec<Arc<Pod>>,
    by_owner: HashMap<String, Vec<Arc<Pod>>>,
}

impl Pods {
    fn new(all: Vec<Arc<Pod>>) -> Self {
        let mut by_owner: HashMap<String, Vec<Arc<Pod>>> = HashMap::new();
        for pod in &all {
            if let Some(owner) = controller_of(&pod.metadata) {
                by_owner.entry(owner.uid.clone()).or_default().push(pod.clone());
            }
        }
        Self { all, by_owner }
    }

    /// Pods of an owner, by name.
    fn of(&self, owner: &ObjectMeta) -> &[Arc<Pod>] {
        owner.uid.as_ref().and_then(|uid| self.by_owner.get(uid)).map_or(&[], Vec::as_slice)
    }
}

fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn owned_by<K: Resource<DynamicType = ()>>(owner: &K) -> Option<Vec<OwnerReference>> {
    owner.controller_owner_ref(&()).map(|reference| vec![reference])
}

/// Not ended and not on its way out.
fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Since when a pod is ready.
fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready =
        conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0))
}

fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

fn is_available(pod: &Pod, min_ready_seconds: Option<i32>, now: Timestamp) -> bool {
    let wait = SignedDuration::from_secs(i64::from(min_ready_seconds.unwrap_or(0)));
    ready_since(pod).is_some_and(|since| since == Timestamp::MIN || wait.is_zero() || now >= since + wait)
}

/// A pod made from a template, with further labels; `name` is its name or, with a dash at the end, the start of it.
fn pod_from(
    template: &PodTemplateSpec,
    namespace: Option<&String>,
    name: &str,
    labels: &[(&str, &str)],
    owner: Option<Vec<OwnerReference>>,
) -> Pod {
    let source = template.metadata.clone().unwrap_or_default();
    let mut metadata = ObjectMeta {
        namespace: namespace.cloned(),
        labels: source.labels,
        annotations: source.annotations,
        owner_references: owner,
        ..ObjectMeta::default()
    };
    match name.ends_with('-') {
        true => metadata.generate_name = Some(name.to_owned()),
        false => metadata.name = Some(name.to_owned()),
    }
    add_labels(&mut metadata.labels, labels);
    Pod { metadata, spec: template.spec.clone(), status: None }
}

fn add_labels(to: &mut Option<BTreeMap<String, String>>, labels: &[(&str, &str)]) {
    if !labels.is_empty() {
        let to = to.get_or_insert_default();
        to.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    }
}

fn create<K: Resource<DynamicType = ()> + serde::Serialize>(kind: Kind, object: &K) -> Option<Write> {
    let value = serde_json::to_value(object).ok()?;
    Some(Write::new(kind, object.meta(), Op::Create(value)))
}

/// A write of the status if it says something new.
fn status_write(
    kind: Kind,
    meta: &ObjectMeta,
    old: Option<&impl serde::Serialize>,
    new: &impl serde::Serialize,
) -> Option<Write> {
    let new = serde_json::to_value(new).ok()?;
    let old = old.and_then(|old| serde_json::to_value(old).ok()).unwrap_or(Value::Null);
    let empty = Value::Object(serde_json::Map::new());
    let old = if old.is_null() { empty } else { old };
    (!same(&old, &new)).then(|| Write::status(kind, meta, &new))
}

/// A hash of a template for names and labels: ten letters and digits that are the same in every run.
fn template_hash(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_string(template).unwrap_or_default();
    // Letters and digits that make no words, as Kubernetes uses them.
    const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bits = hash(&[&text]);
    let mut name = String::with_capacity(10);
    for _ in 0..10 {
        name.push(char::from(SAFE[(bits % 27) as usize]));
        bits /= 27;
    }
    name
}

/// A number of pods, or a percentage of `total`.
fn scaled(value: Option<&IntOrString>, default: &str, total: i32, round_up: bool) -> i32 {
    let percent = |text: &str| {
        let share = text.trim_end_matches('%').parse::<f64>().unwrap_or(0.0) * f64::from(total) / 100.0;
        (if round_up { share.ceil() } else { share.floor() }) as i32
    };
    match value {
        Some(IntOrString::Int(count)) => *count,
        Some(IntOrString::String(text)) => percent(text),
        None => percent(default),
    }
}

/// Whether a selector picks an object with these labels. One that cannot be read picks nothing.
fn selects(selector: Option<&LabelSelector>, labels: Option<&BTreeMap<String, String>>) -> bool {
    let Some(selector) = selector.and_then(|selector| Selector::try_from(selector.clone()).ok()) else {
        return false;
    };
    match labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&BTreeMap::new()),
    }
}

fn second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

fn is_going(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests;
