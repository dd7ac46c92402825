//! Deployments: one ReplicaSet for each template, moved from old to new within the limits of the strategy.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;
use serde_json::json;

use super::{
    Pods, add_labels, controller_of, create, is_going, owned_by, scaled, second, status_write, template_hash,
};
use crate::simulate::act::{Kind, Op, Write};
use crate::simulate::world::World;

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Old ReplicaSets kept where the deployment says nothing.
const HISTORY: usize = 10;

pub(super) fn plan(world: &World, pods: &Pods, now: Timestamp) -> Vec<Write> {
    let sets = world.replica_sets.all();
    let mut writes = Vec::new();
    for deployment in world.deployments.all().iter().filter(|deployment| !is_going(&deployment.metadata)) {
        let uid = deployment.metadata.uid.as_ref();
        let own: Vec<_> = sets
            .iter()
            .filter(|set| {
                controller_of(&set.metadata).map(|owner| &owner.uid) == uid && !is_going(&set.metadata)
            })
            .cloned()
            .collect();
        writes.extend(one(deployment, &own, pods, now));
    }
    writes
}

/// Replicas wanted and available of one ReplicaSet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) wanted: i32,
    pub(super) available: i32,
}

/// The replicas that the new ReplicaSet and the old ones, oldest first, are to have next.
pub(super) fn roll(total: i32, surge: i32, unavailable: i32, new: Share, old: &[Share]) -> (i32, Vec<i32>) {
    let all = new.wanted + old.iter().map(|share| share.wanted).sum::<i32>();
    let next_new = match new.wanted.cmp(&total) {
        std::cmp::Ordering::Less => new.wanted + (total + surge - all).clamp(0, total - new.wanted),
        _ => total,
    };
    // What is not available may go at once; what is available only while enough others are.
    let available = new.available.min(new.wanted) + old.iter().map(|share| share.available).sum::<i32>();
    let mut spare = (available - (total - unavailable)).max(0);
    let next_old = old
        .iter()
        .map(|share| {
            let broken = (share.wanted - share.available).max(0);
            let taken = spare.min(share.wanted - broken).max(0);
            spare -= taken;
            share.wanted - broken - taken
        })
        .collect();
    (next_new, next_old)
}

fn one(deployment: &Deployment, sets: &[Arc<ReplicaSet>], pods: &Pods, now: Timestamp) -> Vec<Write> {
    let Some(spec) = &deployment.spec else { return Vec::new() };
    let total = spec.replicas.unwrap_or(1);
    let hash = template_hash(&spec.template);
    let name = format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default());
    let is_new = |set: &&Arc<ReplicaSet>| set.metadata.name.as_deref() == Some(&name);
    let new = sets.iter().find(is_new);
    let mut old: Vec<&Arc<ReplicaSet>> = sets.iter().filter(|set| !is_new(set)).collect();
    old.sort_by_key(|set| revision(set));
    let mut writes = Vec::new();
    if spec.paused != Some(true) || new.is_none() {
        let recreate =
            spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
        let old_gone = old.iter().all(|set| pods.of(&set.metadata).is_empty());
        let shares: Vec<Share> = old.iter().map(|set| share(set)).collect();
        let (next_new, next_old) = if recreate {
            (if old_gone { total } else { 0 }, vec![0; old.len()])
        } else {
            let (surge, unavailable) = limits(spec, total);
            roll(total, surge, unavailable, new.map(|set| share(set)).unwrap_or_default(), &shares)
        };
        match new {
            None => writes.extend(new_set(deployment, spec, &name, &hash, next_new, next_revision(sets))),
            Some(set) => writes.extend(scale(set, next_new)),
        }
        writes.extend(old.iter().zip(next_old).filter_map(|(set, next)| scale(set, next)));
    }
    let keep = spec.revision_history_limit.map_or(HISTORY, |limit| usize::try_from(limit).unwrap_or(0));
    let empty: Vec<_> =
        old.iter().filter(|set| share(set).wanted == 0 && pods.of(&set.metadata).is_empty()).collect();
    let surplus = empty.len().saturating_sub(keep);
    writes.extend(empty.iter().take(surplus).map(|set| Write::delete(Kind::ReplicaSet, &set.metadata)));
    let status = status(deployment, spec, new, sets, now);
    writes.extend(status_write(Kind::Deployment, &deployment.metadata, deployment.status.as_ref(), &status));
    writes
}

fn limits(spec: &DeploymentSpec, total: i32) -> (i32, i32) {
    let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), "25%", total, true);
    let unavailable =
        scaled(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), "25%", total, false);
    // With neither allowed nothing would ever move.
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

fn share(set: &ReplicaSet) -> Share {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    Share { wanted, available }
}

fn revision(set: &ReplicaSet) -> i64 {
    let annotations = set.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(REVISION)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn next_revision(sets: &[Arc<ReplicaSet>]) -> i64 {
    sets.iter().map(|set| revision(set)).max().unwrap_or(0) + 1
}

fn new_set(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    name: &str,
    hash: &str,
    replicas: i32,
    revision: i64,
) -> Option<Write> {
    let mut template = spec.template.clone();
    add_labels(&mut template.metadata.get_or_insert_default().labels, &[(HASH, hash)]);
    let mut selector: LabelSelector = spec.selector.clone();
    add_labels(&mut selector.match_labels, &[(HASH, hash)]);
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: deployment.metadata.namespace.clone(),
        labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
        annotations: Some([(REVISION.to_owned(), revision.to_string())].into()),
        owner_references: owned_by(deployment),
        ..ObjectMeta::default()
    };
    let spec = ReplicaSetSpec {
        replicas: Some(replicas),
        min_ready_seconds: spec.min_ready_seconds,
        selector,
        template: Some(template),
    };
    create(Kind::ReplicaSet, &ReplicaSet { metadata, spec: Some(spec), status: None })
}

fn scale(set: &ReplicaSet, replicas: i32) -> Option<Write> {
    let patch = json!({
        "metadata": { "resourceVersion": set.metadata.resource_version },
        "spec": { "replicas": replicas },
    });
    (share(set).wanted != replicas).then(|| Write::new(Kind::ReplicaSet, &set.metadata, Op::Patch(patch)))
}

fn status(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    new: Option<&Arc<ReplicaSet>>,
    sets: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |part: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| {
        sets.iter().filter_map(|set| set.status.as_ref()).map(part).sum::<i32>()
    };
    let total = spec.replicas.unwrap_or(1);
    let replicas = sum(|status| status.replicas);
    let available = sum(|status| status.available_replicas.unwrap_or(0));
    let updated = new.and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
    let (_, unavailable) = limits(spec, total);
    let enough = available >= total - unavailable;
    let complete = updated == total && replicas == total && available == total;
    let old = deployment.status.as_ref();
    let condition = |kind: &str, holds: bool, reason: &str| {
        let word = if holds { "True" } else { "False" };
        let known =
            old.into_iter().flat_map(|old| old.conditions.iter().flatten()).find(|known| known.type_ == kind);
        let same = known.filter(|known| known.status == word && known.reason.as_deref() == Some(reason));
        same.cloned().unwrap_or_else(|| DeploymentCondition {
            type_: kind.to_owned(),
            status: word.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(String::new()),
            last_transition_time: Some(second(now)),
            last_update_time: Some(second(now)),
        })
    };
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(updated),
        ready_replicas: Some(sum(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: Some(available),
        unavailable_replicas: Some((total.max(replicas) - available).max(0)),
        conditions: Some(vec![
            condition(
                "Available",
                enough,
                if enough { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
            ),
            condition(
                "Progressing",
                true,
                if complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" },
            ),
        ]),
        collision_count: old.and_then(|old| old.collision_count),
        terminating_replicas: old.and_then(|old| old.terminating_replicas),
    }
}
