//! The admission controller's sign of life: a lease that it renews and the updater reads before it evicts.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio_util::sync::CancellationToken;
use vpa_core::leader::{Heartbeat, Record};

use super::{CALL_MAX, host_name, lease_of, record_of};
use crate::client::Failure;
use crate::{Cluster, clock};

/// Renews a lease for as long as its program can do its work.
#[derive(Clone, Debug)]
pub struct HeartbeatWriter {
    api: Api<Lease>,
    namespace: String,
    name: String,
    holder: String,
    interval: Duration,
}

impl HeartbeatWriter {
    /// A writer of the lease `namespace/name`, which beats every `interval`.
    pub fn new(cluster: &Cluster, namespace: &str, name: &str, interval: Duration) -> Self {
        Self {
            api: Api::namespaced(cluster.client.clone(), namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            holder: host_name(),
            interval,
        }
    }

    /// Beats until `stop`. Before each beat `fit` is asked whether the program can do its work (it answers, its
    /// certificate is valid and trusted); if it cannot, or does not say so within the interval, the beat is left out and
    /// the reason is logged, so that nothing is evicted in the hope of an admission that will not come.
    pub async fn run<F>(self, stop: CancellationToken, mut fit: impl FnMut() -> F + Send)
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        let mut trouble: Option<String> = None;
        loop {
            let fit = tokio::time::timeout(self.interval, fit()).await.unwrap_or_else(|_| {
                Err("the program does not know in time whether it can do its work".to_owned())
            });
            let result = match fit {
                // The interval bounds the beat, as a late one is worth nothing.
                Ok(()) => tokio::time::timeout(self.interval, self.beat())
                    .await
                    .unwrap_or_else(|_| Err("no answer within the interval".to_owned())),
                Err(reason) => Err(reason),
            };
            match result {
                Ok(()) if trouble.take().is_some() => {
                    tracing::info!(lease = self.lease(), "heartbeat is back")
                }
                Ok(()) => {}
                Err(reason) if trouble.as_ref() != Some(&reason) => {
                    tracing::warn!(lease = self.lease(), reason, "no heartbeat; the updater will hold back");
                    trouble = Some(reason);
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.interval) => {}
            }
        }
    }

    /// Renews the lease once.
    ///
    /// # Errors
    /// What kept it from being written. A write by another replica in between is none: it is alive.
    pub async fn beat(&self) -> Result<(), String> {
        let found = self.api.get_opt(&self.name).await.map_err(|error| self.explain(&error, "get"))?;
        let now = clock::wall();
        let record = Record {
            holder: self.holder.clone(),
            duration_seconds: i32::try_from(self.interval.as_secs().max(1)).unwrap_or(i32::MAX),
            renewed: Some(now),
            acquired: None,
            transitions: 0,
            resource_version: found
                .as_ref()
                .and_then(|lease| lease.metadata.resource_version.clone())
                .unwrap_or_default(),
        };
        let exists = found.is_some();
        let mut lease = lease_of(&record, found, &self.namespace, &self.name);
        if let Some(spec) = &mut lease.spec {
            spec.lease_transitions = None;
        }
        let params = PostParams::default();
        let result = if exists {
            self.api.replace(&self.name, &params, &lease).await
        } else {
            self.api.create(&params, &lease).await
        };
        match result {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(self.explain(&error, if exists { "update" } else { "create" })),
        }
    }

    fn lease(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn explain(&self, error: &kube::Error, verb: &str) -> String {
        match Failure::of(error) {
            Failure::NotFound => format!("namespace {} does not exist", self.namespace),
            Failure::Forbidden(text) => {
                format!(
                    "no permission to {verb} leases.coordination.k8s.io in namespace {}: {text}",
                    self.namespace
                )
            }
            _ => crate::client::chain(error),
        }
    }
}

/// What a heartbeat says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeartbeatState {
    /// It beats; the last beat was so long ago.
    Alive(Duration),
    /// It has not beaten for longer than it may.
    Stale(Duration),
    /// There is no lease: nothing has ever beaten.
    Missing,
    /// It cannot be read.
    Unknown(String),
}

impl HeartbeatState {
    /// Whether it beats.
    pub const fn is_alive(&self) -> bool {
        matches!(self, Self::Alive(_))
    }
}

/// Reads a heartbeat.
#[derive(Debug)]
pub struct HeartbeatReader {
    api: Api<Lease>,
    name: String,
    timeout: Duration,
    heartbeat: Heartbeat,
}

impl HeartbeatReader {
    /// A reader of the lease `namespace/name`, which counts as stale after `timeout`.
    pub fn new(cluster: &Cluster, namespace: &str, name: &str, timeout: Duration) -> Self {
        let api = Api::namespaced(cluster.client.clone(), namespace);
        Self { api, name: name.to_owned(), timeout, heartbeat: Heartbeat::new() }
    }

    /// Reads it now.
    pub async fn read(&mut self) -> HeartbeatState {
        let lease = match tokio::time::timeout(CALL_MAX, self.api.get_opt(&self.name)).await {
            Ok(Ok(Some(lease))) => lease,
            Ok(Ok(None)) => {
                self.heartbeat.gone();
                return HeartbeatState::Missing;
            }
            Ok(Err(error)) => return HeartbeatState::Unknown(crate::client::chain(&error)),
            Err(_) => return HeartbeatState::Unknown("no answer in time".to_owned()),
        };
        // A lease that was made and not yet renewed lives since its creation.
        let created = lease.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let renewed = record_of(&lease).renewed.max(created);
        let age = self.heartbeat.observe(renewed, clock::steady(), clock::wall());
        if age <= self.timeout { HeartbeatState::Alive(age) } else { HeartbeatState::Stale(age) }
    }
}
