//! The metrics server: samples what every running container uses.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::Simulator;
use super::act::Write;
use super::usage::{Usage, bounded};
use super::world::World;
use crate::metrics_api::{MetricsStore, PodSample};

/// Takes a sample of all pods at even intervals.
#[derive(Debug)]
pub(super) struct Sampler {
    usage: Usage,
    store: MetricsStore,
    interval: Duration,
    last: Option<Timestamp>,
}

impl Sampler {
    pub(super) fn new(usage: Usage, store: MetricsStore, interval: Duration) -> Self {
        Self { usage, store, interval, last: None }
    }

    fn sample(&self, pod: &Pod, now: Timestamp) -> Option<PodSample> {
        let status = pod.status.as_ref()?;
        if status.phase.as_deref() != Some("Running") || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let statuses =
            status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        let containers: Vec<_> = statuses.filter_map(|status| self.container(pod, status, now)).collect();
        (!containers.is_empty()).then(|| PodSample {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            timestamp: now,
            window: self.interval,
            containers,
        })
    }

    fn container(&self, pod: &Pod, status: &ContainerStatus, now: Timestamp) -> Option<(String, i64, i64)> {
        let started = status.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0;
        let demand = self.usage.demand(pod, &status.name, started, now);
        let limits = status.resources.clone().or_else(|| {
            let spec = pod.spec.as_ref()?;
            spec.containers.iter().find(|container| container.name == status.name)?.resources.clone()
        });
        let used = bounded(demand, limits.as_ref());
        Some((status.name.clone(), used.cpu_millis, used.memory_bytes))
    }
}

impl Simulator for Sampler {
    const NAME: &'static str = "metrics";

    fn plan(&mut self, world: &World, now: Timestamp) -> Vec<Write> {
        let interval = SignedDuration::try_from(self.interval).unwrap_or(SignedDuration::MAX);
        if self.last.is_none_or(|last| now.duration_since(last) >= interval) {
            self.last = Some(now);
            self.store.replace(world.pods.all().iter().filter_map(|pod| self.sample(pod, now)).collect());
        }
        Vec::new()
    }
}
