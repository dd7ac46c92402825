//! The status of PodDisruptionBudgets: how many pods may go.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::replica_set::count;
use super::{Pods, controller_of, is_active, is_going, is_ready, scaled, second, selects, status_write};
use crate::simulate::act::{Kind, Write};
use crate::simulate::world::World;

/// Time that an evicted pod may take to be marked as going; after it the eviction counts as not having happened.
const EVICTED_FOR: SignedDuration = SignedDuration::from_secs(120);

pub(super) fn plan(world: &World, pods: &Pods, now: Timestamp) -> Vec<Write> {
    let budgets = world.budgets.all();
    let live = budgets.iter().filter(|budget| !is_going(&budget.metadata));
    live.filter_map(|budget| one(world, budget, pods, now)).collect()
}

fn one(world: &World, budget: &PodDisruptionBudget, pods: &Pods, now: Timestamp) -> Option<Write> {
    let spec = budget.spec.as_ref()?;
    let matching: Vec<&Arc<Pod>> = pods
        .all
        .iter()
        .filter(|pod| pod.metadata.namespace == budget.metadata.namespace)
        .filter(|pod| selects(spec.selector.as_ref(), pod.metadata.labels.as_ref()))
        .collect();
    let old = budget.status.clone().unwrap_or_default();
    let disrupted = still_disrupted(old.disrupted_pods.as_ref(), &matching, now);
    let healthy = matching.iter().filter(|pod| {
        is_active(pod)
            && is_ready(pod)
            && !disrupted.contains_key(pod.metadata.name.as_deref().unwrap_or_default())
    });
    let healthy = count(healthy.count());
    let active = count(matching.iter().filter(|pod| is_active(pod)).count());
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = scale_of_owners(world, &matching);
            (expected, (expected - scaled(Some(most), "0%", expected, true)).max(0))
        }
        (None, Some(least @ k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(_))) => {
            let expected = scale_of_owners(world, &matching);
            (expected, scaled(Some(least), "0%", expected, true))
        }
        (None, least) => (active, scaled(least.as_ref(), "0%", active, true)),
    };
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let status = PodDisruptionBudgetStatus {
        current_healthy: healthy,
        desired_healthy: desired,
        expected_pods: expected,
        disruptions_allowed: allowed,
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: Some(vec![condition(budget, &old, allowed > 0, now)]),
    };
    let mut write =
        status_write(Kind::PodDisruptionBudget, &budget.metadata, budget.status.as_ref(), &status)?;
    // In a merge patch a map is not replaced: what is no longer disrupted has to be named.
    if let crate::simulate::act::Op::Status(patch) = &mut write.op {
        let gone = old.disrupted_pods.unwrap_or_default().into_keys();
        for name in
            gone.filter(|name| status.disrupted_pods.as_ref().is_none_or(|left| !left.contains_key(name)))
        {
            patch["status"]["disruptedPods"][name] = serde_json::Value::Null;
        }
    }
    Some(write)
}

/// Evicted pods that are not yet marked as going.
fn still_disrupted(
    known: Option<&BTreeMap<String, Time>>,
    pods: &[&Arc<Pod>],
    now: Timestamp,
) -> BTreeMap<String, Time> {
    let waits = |name: &String, since: &Time| {
        let pod = pods.iter().find(|pod| pod.metadata.name.as_ref() == Some(name));
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()) && now < since.0 + EVICTED_FOR
    };
    let known = known.into_iter().flatten().filter(|(name, since)| waits(name, since));
    known.map(|(name, since)| (name.clone(), since.clone())).collect()
}

/// Pods that the controllers of these pods want together.
fn scale_of_owners(world: &World, pods: &[&Arc<Pod>]) -> i32 {
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    for pod in pods {
        let Some(owner) = controller_of(&pod.metadata) else { continue };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some((uid, replicas)) = scale(world, namespace, owner) {
            scales.insert(uid, replicas);
        }
    }
    scales.into_values().sum()
}

fn scale(
    world: &World,
    namespace: &str,
    owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference,
) -> Option<(String, i32)> {
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let set = world.replica_sets.get(namespace, &owner.name)?;
            if let Some(deployment) = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")
            {
                let found = world.deployments.get(namespace, &deployment.name)?;
                return Some((deployment.uid.clone(), found.spec.as_ref()?.replicas.unwrap_or(1)));
            }
            Some((owner.uid.clone(), set.spec.as_ref()?.replicas.unwrap_or(1)))
        }
        "StatefulSet" => {
            let set = world.stateful_sets.get(namespace, &owner.name)?;
            Some((owner.uid.clone(), set.spec.as_ref()?.replicas.unwrap_or(1)))
        }
        _ => None,
    }
}

fn condition(
    budget: &PodDisruptionBudget,
    old: &PodDisruptionBudgetStatus,
    allowed: bool,
    now: Timestamp,
) -> Condition {
    let (word, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let known = old.conditions.iter().flatten().find(|known| known.type_ == "DisruptionAllowed");
    Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: word.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        observed_generation: budget.metadata.generation,
        last_transition_time: known
            .filter(|known| known.status == word)
            .map_or_else(|| second(now), |known| known.last_transition_time.clone()),
    }
}
