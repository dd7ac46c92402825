//! StatefulSets: pods with stable names, made in order and replaced from the last to the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::replica_set::count;
use super::{
    Pods, create, is_active, is_available, is_going, is_ready, owned_by, pod_from, status_write,
    template_hash,
};
use crate::simulate::act::{Kind, Write};
use crate::simulate::world::World;

const REVISION: &str = "controller-revision-hash";

pub(super) fn plan(world: &World, pods: &Pods, now: Timestamp) -> Vec<Write> {
    let sets = world.stateful_sets.all();
    sets.iter()
        .filter(|set| !is_going(&set.metadata))
        .flat_map(|set| one(set, pods.of(&set.metadata), now))
        .collect()
}

fn one(set: &StatefulSet, pods: &[Arc<Pod>], now: Timestamp) -> Vec<Write> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let revision = format!("{name}-{}", template_hash(&spec.template));
    let by_ordinal: BTreeMap<i32, &Arc<Pod>> =
        pods.iter().filter_map(|pod| Some((ordinal(name, pod.metadata.name.as_deref()?)?, pod))).collect();
    let mut writes = moves(set, spec, &revision, &by_ordinal);
    let active: Vec<_> = by_ordinal.values().filter(|pod| is_active(pod)).collect();
    let ready = active.iter().filter(|pod| is_ready(pod)).count();
    let updated = active.iter().filter(|pod| revision_of(pod) == Some(&revision)).count();
    let available = active.iter().filter(|pod| is_available(pod, spec.min_ready_seconds, now)).count();
    let old = set.status.as_ref();
    let done = updated == active.len();
    let current = old
        .and_then(|old| old.current_revision.clone())
        .filter(|_| !done)
        .unwrap_or_else(|| revision.clone());
    let on_current = active.iter().filter(|pod| revision_of(pod) == Some(&current)).count();
    let status = StatefulSetStatus {
        replicas: count(active.len()),
        ready_replicas: Some(count(ready)),
        available_replicas: Some(count(available)),
        current_replicas: Some(count(on_current)),
        updated_replicas: Some(count(updated)),
        current_revision: Some(current),
        update_revision: Some(revision),
        observed_generation: set.metadata.generation,
        collision_count: Some(0),
        conditions: old.and_then(|old| old.conditions.clone()),
    };
    writes.extend(status_write(Kind::StatefulSet, &set.metadata, old, &status));
    writes
}

/// What to do next: one thing at a time, or everything at once with the `Parallel` policy.
fn moves(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    revision: &str,
    pods: &BTreeMap<i32, &Arc<Pod>>,
) -> Vec<Write> {
    let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
    let most = if parallel { usize::MAX } else { 1 };
    let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    let wanted = first..first.saturating_add(spec.replicas.unwrap_or(1));
    let mut writes = Vec::new();
    for ordinal in wanted.clone() {
        match pods.get(&ordinal) {
            None => writes.extend(new_pod(set, spec, revision, ordinal)),
            Some(pod) if parallel || is_active(pod) && is_ready(pod) => {}
            Some(pod) if !is_active(pod) && pod.metadata.deletion_timestamp.is_none() => {
                writes.push(Write::delete(Kind::Pod, &pod.metadata));
            }
            // Its successors wait for it.
            Some(_) => return writes,
        }
        if writes.len() >= most {
            return writes;
        }
    }
    let surplus = pods.iter().rev().filter(|(ordinal, _)| !wanted.contains(ordinal));
    for (_, pod) in surplus {
        if pod.metadata.deletion_timestamp.is_none() {
            writes.push(Write::delete(Kind::Pod, &pod.metadata));
        }
        if writes.len() >= most || !parallel {
            return writes;
        }
    }
    if !writes.is_empty() || pods.values().any(|pod| !is_active(pod) || !is_ready(pod)) {
        return writes;
    }
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return writes;
    }
    let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or(0);
    let outdated = pods.iter().rev().find(|(ordinal, pod)| {
        **ordinal - first >= partition && revision_of(pod).map(String::as_str) != Some(revision)
    });
    writes.extend(outdated.map(|(_, pod)| Write::delete(Kind::Pod, &pod.metadata)));
    writes
}

fn new_pod(set: &StatefulSet, spec: &StatefulSetSpec, revision: &str, ordinal: i32) -> Option<Write> {
    let name = format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default());
    let index = ordinal.to_string();
    let labels = [
        (REVISION, revision),
        ("statefulset.kubernetes.io/pod-name", name.as_str()),
        ("apps.kubernetes.io/pod-index", index.as_str()),
    ];
    create(
        Kind::Pod,
        &pod_from(&spec.template, set.metadata.namespace.as_ref(), &name, &labels, owned_by(set)),
    )
}

fn revision_of(pod: &Pod) -> Option<&String> {
    pod.metadata.labels.as_ref()?.get(REVISION)
}

fn ordinal(set: &str, pod: &str) -> Option<i32> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}
