//! What the stores and the metrics source show, handed to the model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use vpa_core::model::{ApplyError, Observation, PodId, Rejection, VpaId};
use vpa_core::recommend::resolve;

use super::Cycle;
use crate::args::UsageSource;
use crate::external;
use crate::usage::{self, Usage, UsageError};

impl Cycle {
    pub(super) async fn observe(&mut self) {
        let step = Instant::now();
        self.load_vpas();
        self.metrics.observe_step("LoadVPAs", step.elapsed());
        let step = Instant::now();
        let removed = self.load_pods();
        self.metrics.observe_step("LoadPods", step.elapsed());
        let step = Instant::now();
        self.load_usage().await;
        self.take_ooms((self.sources.clock)());
        self.metrics.observe_step("LoadMetrics", step.elapsed());
        let step = Instant::now();
        for id in removed {
            // Only now, since an OOM kill may have been its last word.
            self.known_pods.remove(&id);
            self.apply(Observation::PodGone(&id));
        }
        self.metrics.observe_step("DeleteRemovedPods", step.elapsed());
    }

    /// For observations that are always taken.
    pub(super) fn apply(&mut self, observation: Observation<'_>) {
        if let Err(error) = self.state.apply(observation, (self.sources.clock)()) {
            tracing::debug!(%error, "an observation was not taken");
        }
    }

    pub(super) fn load_vpas(&mut self) {
        let mut gone: BTreeSet<VpaId> = self.state.vpas().map(|(id, _)| id).collect();
        for vpa in self.sources.vpas.snapshot() {
            if !self.options.scope.serves(&vpa) {
                continue;
            }
            gone.remove(&VpaId::of_vpa(&vpa));
            let target = resolve(&self.sources.targets, &vpa);
            self.apply(Observation::Vpa(vpa, target));
        }
        for id in gone {
            tracing::debug!(vpa = %id, "VPA is gone or not served any more");
            self.logged.remove(&id);
            self.apply(Observation::VpaGone(&id));
        }
    }

    /// Returns pods that are gone.
    pub(super) fn load_pods(&mut self) -> Vec<PodId> {
        let mut gone: BTreeSet<PodId> = self.known_pods.keys().cloned().collect();
        for pod in self.sources.pods.snapshot() {
            let id = &pod.id;
            if self.options.memory_saver && !self.state.selects(&id.namespace, &pod.labels) {
                continue;
            }
            gone.remove(id);
            if self.known_pods.get(id).is_some_and(|known| Arc::ptr_eq(known, &pod)) {
                continue;
            }
            self.apply(Observation::Pod(&pod));
            self.known_pods.insert(id.clone(), pod);
        }
        gone.into_iter().collect()
    }

    async fn read_usage(&self) -> Result<Usage, UsageError> {
        match &self.options.usage {
            UsageSource::Resource => {
                usage::read(&self.cluster, self.options.scope.namespace.as_deref()).await
            }
            UsageSource::External { cpu, memory, container_label } => {
                let pods =
                    self.state.selections().map(|(pod, selector)| (pod, selector.to_string())).collect();
                let metrics =
                    external::Metrics { cpu: cpu.as_deref(), memory: memory.as_deref(), container_label };
                external::read(&self.cluster, pods, metrics).await
            }
        }
    }

    pub(super) async fn load_usage(&mut self) {
        let usage = self.read_usage().await;
        self.metrics.observe_read(usage.is_err());
        let usage = match usage {
            Ok(usage) => {
                if self.usage_problem.take().is_some() {
                    tracing::info!("usage comes again");
                }
                usage
            }
            Err(error) => {
                let problem = error.to_string();
                if self.usage_problem.as_ref() != Some(&problem) {
                    tracing::warn!(error = problem, "no usage; recommendations rest on what was seen before");
                }
                self.usage_problem = Some(problem);
                return;
            }
        };
        let now = (self.sources.clock)();
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        if usage.unreadable > 0 {
            counts.insert("unreadable", usage.unreadable as u64);
            tracing::debug!(entries = usage.unreadable, "entries of usage that cannot be read");
        }
        for usage::Sample { container, time, amounts } in &usage.samples {
            let cpu = amounts.cpu_millicores.map(|millicores| Observation::Cpu {
                container,
                time: *time,
                millicores,
            });
            let memory =
                amounts.memory_bytes.map(|bytes| Observation::Memory { container, time: *time, bytes });
            for observation in cpu.into_iter().chain(memory) {
                let outcome = label(&self.state.apply(observation, now));
                *counts.entry(outcome).or_default() += 1;
            }
        }
        for (outcome, count) in counts {
            self.metrics.count_samples(outcome, count);
        }
    }

    pub(super) fn take_ooms(&mut self, now: Timestamp) {
        for oom in self.sources.inbox.take() {
            let outcome = self.state.apply(Observation::Oom(&oom), now);
            let container = oom.container.to_string();
            match &outcome {
                Ok(()) => {
                    let requested_bytes = oom.requested_bytes;
                    tracing::info!(container, requested_bytes, at = %oom.time, "OOM kill taken into account");
                }
                Err(ApplyError::Rejected(Rejection::UnknownPod | Rejection::UnknownContainer))
                    if self.sources.inbox.put_back(oom.clone(), now) =>
                {
                    continue;
                }
                Err(error) => tracing::debug!(container, at = %oom.time, %error, "OOM kill not taken"),
            }
            self.metrics.count_oom(label(&outcome));
        }
        self.metrics.observe_inbox(self.sources.inbox.len());
    }
}

/// Value of the metrics' label.
fn label(outcome: &Result<(), ApplyError>) -> &'static str {
    match outcome {
        Ok(()) => "taken",
        Err(ApplyError::Checkpoint(_)) => "unreadable",
        Err(ApplyError::Rejected(rejection)) => match rejection {
            Rejection::UnknownPod => "unknown_pod",
            Rejection::UnknownContainer => "unknown_container",
            Rejection::InitContainer => "init_container",
            Rejection::Negative => "negative",
            Rejection::OutOfOrder => "out_of_order",
            Rejection::TooOld => "too_old",
            Rejection::Duplicate => "duplicate",
            Rejection::TimeOutOfRange => "time_out_of_range",
            Rejection::UnknownVpa => "unknown_vpa",
        },
    }
}
