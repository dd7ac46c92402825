//! Which controller is this, who owns it, which pods does it select.
//!
//! The kinds that Kubernetes brings are watched ([`workload`]); any other kind is asked for its scale subresource
//! ([`scales`]), once in a while and in the background. [`Targets`] answers from both without waiting, as `vpa-core`
//! needs it; [`Targets::settled`] is for those who can wait a moment for an answer that is on its way.

mod scales;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ReplicationController;
use tokio::time::Instant;
use vpa_core::target::{ChainError, ControllerKey, ControllerSource, Lookup, WellKnown};

use crate::flags::Scope;
use crate::preflight::Permission;
use crate::store::Synced;
use crate::{Cluster, Error, Shell, Store, StoreOptions};

pub use scales::Scales;
pub use workload::Workload;

/// How long an owner that is not in the stores may be on its way: a controller creates the owner's pods milliseconds
/// after the owner, and the watch needs about as long.
const OWNER_LAG_MAX: Duration = Duration::from_millis(500);
/// Time between two looks while waiting.
const POLL: Duration = Duration::from_millis(20);

/// Controllers of pods. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Targets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cron_jobs: Store<Workload<CronJob>>,
    daemon_sets: Store<Workload<DaemonSet>>,
    deployments: Store<Workload<Deployment>>,
    jobs: Store<Workload<Job>>,
    replica_sets: Store<Workload<ReplicaSet>>,
    replication_controllers: Store<Workload<ReplicationController>>,
    stateful_sets: Store<Workload<StatefulSet>>,
    scales: Scales,
}

/// Rights that [`Targets`] needs.
pub fn permissions(scope: &Scope) -> Vec<Permission> {
    let purpose = "find the pods of a VPA's target";
    [
        ("batch", "cronjobs"),
        ("apps", "daemonsets"),
        ("apps", "deployments"),
        ("batch", "jobs"),
        ("apps", "replicasets"),
        ("", "replicationcontrollers"),
        ("apps", "statefulsets"),
    ]
    .into_iter()
    .flat_map(|(group, resource)| {
        // A store lists and watches; it never gets a single object.
        ["list", "watch"].map(|verb| Permission::new(verb, group, resource, purpose))
    })
    .chain([Permission::new("get", "*", "*/scale", "find the pods of targets that are custom resources")
        .optional()])
    .map(|permission| permission.in_namespace(scope.namespace.as_deref()))
    .collect()
}

impl Targets {
    /// Starts to watch the well-known kinds, in the scope's namespace if it names one.
    pub fn start(shell: &Shell, cluster: &Cluster, scope: &Scope) -> Self {
        let scales = Scales::new(cluster.client.clone());
        let worker = scales.clone();
        let stop = shell.stopping();
        shell.vital("look-up of scale subresources", async move {
            tokio::select! {
                () = worker.run() => Ok::<(), Error>(()),
                () = stop.cancelled() => Ok(()),
            }
        });
        macro_rules! watch {
            ($name:literal) => {
                shell.watch(cluster, StoreOptions::named($name).scope(scope))
            };
        }
        Self(Arc::new(Inner {
            cron_jobs: watch!("cronjobs"),
            daemon_sets: watch!("daemonsets"),
            deployments: watch!("deployments"),
            jobs: watch!("jobs"),
            replica_sets: watch!("replicasets"),
            replication_controllers: watch!("replicationcontrollers"),
            stateful_sets: watch!("statefulsets"),
            scales,
        }))
    }

    /// Asks `question` until its answer waits for nothing that is on its way, for `budget` at most: a scale
    /// subresource that is being looked up, or an owner that the watch has not shown yet.
    ///
    /// # Errors
    /// The last answer's.
    pub async fn settled<T>(
        &self,
        budget: Duration,
        mut question: impl FnMut(&Self) -> Result<T, ChainError>,
    ) -> Result<T, ChainError> {
        let began = Instant::now();
        loop {
            let answer = question(self);
            let patience = match &answer {
                Err(ChainError::Pending(_)) => budget,
                Err(ChainError::Missing(_)) => budget.min(OWNER_LAG_MAX),
                _ => return answer,
            };
            if began.elapsed() >= patience {
                return answer;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Forgets what is known of kinds that are not watched, so that the next question asks the API server.
    pub fn forget_scales(&self) {
        self.0.scales.forget();
    }
}

impl ControllerSource for Targets {
    fn get(&self, key: &ControllerKey) -> Lookup {
        let Inner {
            cron_jobs,
            daemon_sets,
            deployments,
            jobs,
            replica_sets,
            replication_controllers,
            stateful_sets,
            scales,
        } = &*self.0;
        match key.well_known() {
            Some(WellKnown::CronJob) => look(cron_jobs, key),
            Some(WellKnown::DaemonSet) => look(daemon_sets, key),
            Some(WellKnown::Deployment) => look(deployments, key),
            Some(WellKnown::Job) => look(jobs, key),
            Some(WellKnown::ReplicaSet) => look(replica_sets, key),
            Some(WellKnown::ReplicationController) => look(replication_controllers, key),
            Some(WellKnown::StatefulSet) => look(stateful_sets, key),
            None => scales.get(key),
        }
    }
}

fn look<K>(store: &Store<Workload<K>>, key: &ControllerKey) -> Lookup {
    match store.get(&key.namespace, &key.name) {
        Some(workload) => Lookup::Found(workload.controller.clone()),
        None if store.synced() => Lookup::NotFound,
        None => Lookup::Pending,
    }
}

impl Synced for Targets {
    fn check(&self) -> Result<(), String> {
        let Inner {
            cron_jobs,
            daemon_sets,
            deployments,
            jobs,
            replica_sets,
            replication_controllers,
            stateful_sets,
            scales: _,
        } = &*self.0;
        cron_jobs.ready()?;
        daemon_sets.ready()?;
        deployments.ready()?;
        jobs.ready()?;
        replica_sets.ready()?;
        replication_controllers.ready()?;
        stateful_sets.ready()
    }
}
