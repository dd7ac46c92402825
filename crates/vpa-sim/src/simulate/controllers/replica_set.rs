//! ReplicaSets: as many pods as asked for.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::{
    BURST, Pods, create, is_active, is_available, is_going, is_ready, owned_by, pod_from, status_write,
};
use crate::simulate::act::{Kind, Write};
use crate::simulate::world::World;

pub(super) fn plan(world: &World, pods: &Pods, now: Timestamp) -> Vec<Write> {
    let sets = world.replica_sets.all();
    sets.iter()
        .filter(|set| !is_going(&set.metadata))
        .flat_map(|set| one(set, pods.of(&set.metadata), now))
        .collect()
}

fn one(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Vec<Write> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let mut active: Vec<&Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).collect();
    let mut writes = Vec::new();
    if active.len() < wanted {
        let template = spec.template.clone().unwrap_or_default();
        let prefix = format!("{}-", set.metadata.name.as_deref().unwrap_or_default());
        let pod = pod_from(&template, set.metadata.namespace.as_ref(), &prefix, &[], owned_by(set));
        let missing = (wanted - active.len()).min(BURST);
        writes.extend((0..missing).filter_map(|_| create(Kind::Pod, &pod)));
    }
    if active.len() > wanted {
        active.sort_by_key(|pod| expendable(pod));
        let surplus = (active.len() - wanted).min(BURST);
        writes.extend(active.iter().take(surplus).map(|pod| Write::delete(Kind::Pod, &pod.metadata)));
    }
    let status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: Some(count(active.len())),
        ready_replicas: Some(count(active.iter().filter(|pod| is_ready(pod)).count())),
        available_replicas: Some(count(
            active.iter().filter(|pod| is_available(pod, spec.min_ready_seconds, now)).count(),
        )),
        observed_generation: set.metadata.generation,
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        terminating_replicas: set.status.as_ref().and_then(|status| status.terminating_replicas),
    };
    writes.extend(status_write(Kind::ReplicaSet, &set.metadata, set.status.as_ref(), &status));
    writes
}

/// Order in which pods are given up: not placed, not running, not ready, the cheapest to delete, then the newest.
fn expendable(pod: &Pod) -> (bool, bool, bool, i64, Reverse<Option<Timestamp>>, String) {
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let running = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations.and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost"));
    let cost = cost.and_then(|text| text.parse().ok()).unwrap_or(0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (placed, running, is_ready(pod), cost, Reverse(created), pod.metadata.name.clone().unwrap_or_default())
}

pub(super) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
