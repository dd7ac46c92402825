//! What the simulators know of the cluster.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::act::Kind;
use super::cache::{Cache, keep};

/// Tells the simulators that something changed.
#[derive(Clone, Debug)]
pub(crate) struct Wake(watch::Sender<u64>);

impl Wake {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(crate) fn all(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// The objects that the simulators read.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) nodes: Arc<Cache<Node>>,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(crate) stateful_sets: Arc<Cache<StatefulSet>>,
    pub(crate) daemon_sets: Arc<Cache<DaemonSet>>,
    pub(crate) jobs: Arc<Cache<Job>>,
    pub(crate) cron_jobs: Arc<Cache<CronJob>>,
    pub(crate) budgets: Arc<Cache<PodDisruptionBudget>>,
}

impl World {
    /// Watches pods and nodes, and with `controllers` the workload kinds too.
    pub(crate) fn watch(
        &self,
        client: &Client,
        controllers: bool,
        wake: &Wake,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        macro_rules! watch {
            ($($field:ident),*) => {$(
                tasks.spawn(keep(self.$field.clone(), Api::all(client.clone()), wake.clone(), stop.clone()));
            )*};
        }
        watch!(pods, nodes);
        if controllers {
            watch!(deployments, replica_sets, stateful_sets, daemon_sets, jobs, cron_jobs, budgets);
        }
    }

    /// Whether the first lists of everything watched are in.
    pub(crate) fn synced(&self, controllers: bool) -> bool {
        self.pods.synced()
            && self.nodes.synced()
            && (!controllers
                || self.deployments.synced()
                    && self.replica_sets.synced()
                    && self.stateful_sets.synced()
                    && self.daemon_sets.synced()
                    && self.jobs.synced()
                    && self.cron_jobs.synced()
                    && self.budgets.synced())
    }

    /// Takes in the answer to a write.
    pub(crate) fn observe(&self, kind: Kind, object: Value) {
        match kind {
            Kind::Pod => observe(&self.pods, object),
            Kind::Node => observe(&self.nodes, object),
            Kind::Deployment => observe(&self.deployments, object),
            Kind::ReplicaSet => observe(&self.replica_sets, object),
            Kind::StatefulSet => observe(&self.stateful_sets, object),
            Kind::DaemonSet => observe(&self.daemon_sets, object),
            Kind::Job => observe(&self.jobs, object),
            Kind::CronJob => observe(&self.cron_jobs, object),
            Kind::PodDisruptionBudget => observe(&self.budgets, object),
        }
    }

    /// Takes in that a delete was answered with the object's end.
    pub(crate) fn remove(&self, kind: Kind, namespace: &str, name: &str, uid: &str) {
        macro_rules! remove {
            ($cache:expr) => {
                if let Some(object) = $cache.get(namespace, name)
                    && object.metadata.uid.as_deref() == Some(uid)
                {
                    $cache.remove(&object);
                }
            };
        }
        match kind {
            Kind::Pod => remove!(self.pods),
            Kind::Node => remove!(self.nodes),
            Kind::Deployment => remove!(self.deployments),
            Kind::ReplicaSet => remove!(self.replica_sets),
            Kind::StatefulSet => remove!(self.stateful_sets),
            Kind::DaemonSet => remove!(self.daemon_sets),
            Kind::Job => remove!(self.jobs),
            Kind::CronJob => remove!(self.cron_jobs),
            Kind::PodDisruptionBudget => remove!(self.budgets),
        }
    }
}

fn observe<K: kube::Resource + DeserializeOwned>(cache: &Cache<K>, object: Value) {
    match serde_json::from_value(object) {
        Ok(object) => cache.observe(object),
        // The watch will bring it; until then the simulators go on with what they had.
        Err(error) => tracing::debug!(%error, "answer to a write cannot be read"),
    }
}
