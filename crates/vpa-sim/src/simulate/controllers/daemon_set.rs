//! DaemonSets: one pod on each node.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
};

use super::replica_set::count;
use super::{
    Pods, create, is_active, is_available, is_going, is_ready, owned_by, pod_from, scaled, status_write,
    template_hash,
};
use crate::simulate::act::{Kind, Write};
use crate::simulate::world::World;

const REVISION: &str = "controller-revision-hash";

pub(super) fn plan(world: &World, pods: &Pods, now: Timestamp) -> Vec<Write> {
    let nodes = world.nodes.all();
    let sets = world.daemon_sets.all();
    let live = sets.iter().filter(|set| !is_going(&set.metadata));
    live.flat_map(|set| one(set, &nodes, pods.of(&set.metadata), now)).collect()
}

fn one(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>], now: Timestamp) -> Vec<Write> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let revision = template_hash(&spec.template);
    let wanted: Vec<&str> = nodes
        .iter()
        .filter(|node| eligible(spec, node))
        .filter_map(|node| node.metadata.name.as_deref())
        .collect();
    let mut by_node: BTreeMap<String, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        by_node.entry(target_node(pod).unwrap_or_default()).or_default().push(pod);
    }
    let mut writes = Vec::new();
    for (node, pods) in &by_node {
        let live = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let keep = usize::from(wanted.contains(&node.as_str()));
        let (good, bad): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = live.copied().partition(|pod| is_active(pod));
        writes.extend(
            bad.into_iter()
                .chain(good.into_iter().skip(keep))
                .map(|pod| Write::delete(Kind::Pod, &pod.metadata)),
        );
    }
    for node in wanted.iter().filter(|node| !by_node.contains_key(**node)) {
        writes.extend(new_pod(set, spec, &revision, node));
    }
    let active: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(|pod| is_active(pod) && target_node(pod).is_some_and(|node| wanted.contains(&node.as_str())))
        .collect();
    writes.extend(replaced(spec, &active, wanted.len(), &revision, now));
    let available = active.iter().filter(|pod| is_available(pod, spec.min_ready_seconds, now)).count();
    let status = DaemonSetStatus {
        current_number_scheduled: count(active.len()),
        desired_number_scheduled: count(wanted.len()),
        number_available: Some(count(available)),
        number_unavailable: Some(count(wanted.len().saturating_sub(available))),
        number_ready: count(active.iter().filter(|pod| is_ready(pod)).count()),
        updated_number_scheduled: Some(count(active.iter().filter(|pod| is_current(pod, &revision)).count())),
        observed_generation: set.metadata.generation,
        ..DaemonSetStatus::default()
    };
    writes.extend(status_write(Kind::DaemonSet, &set.metadata, set.status.as_ref(), &status));
    writes
}

/// Pods of an old template that may go now.
fn replaced(
    spec: &DaemonSetSpec,
    active: &[&Arc<Pod>],
    wanted: usize,
    revision: &str,
    now: Timestamp,
) -> Vec<Write> {
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return Vec::new();
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let most = match rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) {
        Some(value) => scaled(Some(value), "0%", count(wanted), true),
        None => 1,
    };
    let available = active.iter().filter(|pod| is_available(pod, spec.min_ready_seconds, now)).count();
    let missing = wanted.saturating_sub(available);
    let room = usize::try_from(most).unwrap_or(0).saturating_sub(missing);
    let outdated = active.iter().filter(|pod| !is_current(pod, revision));
    let (up, down): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = outdated.copied().partition(|pod| is_ready(pod));
    down.into_iter()
        .chain(up.into_iter().take(room))
        .map(|pod| Write::delete(Kind::Pod, &pod.metadata))
        .collect()
}

fn is_current(pod: &Pod, revision: &str) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION)).map(String::as_str) == Some(revision)
}

fn eligible(spec: &DaemonSetSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let selector = spec.template.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let mut wanted = selector.into_iter().flatten();
    node.metadata.deletion_timestamp.is_none()
        && wanted.all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// The node that a pod runs on or is meant for.
fn target_node(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = &spec.node_name {
        return Some(node.clone());
    }
    let node = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = node.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields.into_iter().find(|field| field.key == "metadata.name")?.values.as_ref()?.first().cloned()
}

fn new_pod(set: &DaemonSet, spec: &DaemonSetSpec, revision: &str, node: &str) -> Option<Write> {
    let prefix = format!("{}-", set.metadata.name.as_deref().unwrap_or_default());
    let labels = [(REVISION, revision)];
    let mut pod = pod_from(&spec.template, set.metadata.namespace.as_ref(), &prefix, &labels, owned_by(set));
    let field = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None };
    let affinity = pod.spec.get_or_insert_default().affinity.get_or_insert_default();
    let required = NodeSelector { node_selector_terms: vec![term] };
    affinity.node_affinity = Some(NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(required),
        ..NodeAffinity::default()
    });
    create(Kind::Pod, &pod)
}
