//! Carrying out a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vpa_core::model::CheckpointWrite;
use vpa_core::recommend::{CycleReport, StatusWrite, VpaReport};
use vpa_runtime::executor::Report;
use vpa_runtime::{Executor, Outcome};

use super::Cycle;
use crate::{checkpoints, statuses};

/// Longest time for writing statuses in a cycle. At the API server's slowest (200 writes a second) it is enough for the
/// 10,000 VPAs of the largest clusters; those that do not get their turn are in the next plan.
const STATUSES_MAX: Duration = Duration::from_secs(60);

/// Longest time for removing checkpoints in a cycle; those that are left come up again.
const REMOVAL_MAX: Duration = Duration::from_secs(10);

impl Cycle {
    pub(super) async fn write_statuses(
        &mut self,
        writes: Vec<StatusWrite>,
        found: &CycleReport,
        stop: &CancellationToken,
    ) {
        let step = Instant::now();
        let now = (self.sources.clock)();
        let reports: BTreeMap<_, _> = found.vpas.iter().map(|report| (&report.vpa, report)).collect();
        let deadline = Instant::now() + STATUSES_MAX;
        let report = statuses::write(&self.cluster, &self.statuses, writes, deadline, stop).await;
        let mut problems = Problems::default();
        let mut first = 0;
        for (write, outcome) in &report.outcomes {
            let explained = reports.get(&write.vpa).copied();
            match outcome {
                Outcome::Done(()) => {
                    self.state.status_written(&write.vpa);
                    self.metrics.observe_status(write, explained, now);
                    first += usize::from(write.is_first());
                    explain(write, explained);
                }
                Outcome::Unchanged => self.state.status_written(&write.vpa),
                Outcome::NotFound | Outcome::Cancelled => {}
                other => problems.add(other.problem(), || write.vpa.to_string()),
            }
        }
        problems.log("statuses not written");
        if first > 0 {
            tracing::info!(vpas = first, "first recommendations written");
        }
        self.metrics.observe_step("UpdateVPAs", step.elapsed());
    }

    pub(super) async fn write_checkpoints(&mut self, writes: Vec<CheckpointWrite>, stop: &CancellationToken) {
        let step = Instant::now();
        let deadline = Instant::now() + self.options.writing.timeout;
        let now = (self.sources.clock)();
        let executor = self.checkpoints.clone();
        let report = self.save(&executor, writes, now, deadline, stop).await;
        let mut deferred = 0;
        let mut problems = Problems::default();
        for (write, outcome) in &report.outcomes {
            match outcome {
                Outcome::Done(()) | Outcome::Unchanged => {
                    self.state.checkpoint_written(&write.vpa, &write.container, write.content, now);
                }
                Outcome::NotStarted => deferred += 1,
                Outcome::Cancelled => {}
                other => problems.add(other.problem(), || format!("{}-{}", write.vpa, write.container)),
            }
        }
        problems.log("checkpoints not written");
        if deferred > 0 {
            tracing::info!(deferred, "checkpoints left for the next cycle");
        }
        self.metrics.observe_deferred(deferred);
        let unsaved = self.state.oldest_unsaved().map(|since| (self.sources.clock)().duration_since(since));
        self.metrics.observe_unsaved(unsaved.unwrap_or_default());
        self.metrics.observe_step("MaintainCheckpoints", step.elapsed());
    }

    /// Writes checkpoints as they are at `now`, each made when its turn comes.
    pub(super) async fn save(
        &mut self,
        executor: &Executor,
        writes: Vec<CheckpointWrite>,
        now: Timestamp,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Report<CheckpointWrite, ()> {
        let state = Mutex::new(&mut self.state);
        let make = |write: &CheckpointWrite| state.lock().checkpoint(&write.vpa, &write.container, now);
        checkpoints::write(&self.cluster, executor, writes, make, deadline, stop).await
    }

    pub(super) async fn remove_checkpoints(&mut self, stop: &CancellationToken) {
        // While the store does not follow the cluster it may miss VPAs that there are.
        let trusted = self.sources.vpas.synced() && self.sources.vpas.trouble().is_none();
        if !trusted || self.last_removal.elapsed() < self.options.checkpoints_gc_interval {
            return;
        }
        self.last_removal = Instant::now();
        let scope = &self.options.scope;
        let vpas = &self.sources.vpas;
        let found = checkpoints::orphans(
            &self.cluster,
            scope.namespace.as_deref(),
            |namespace| scope.has_namespace(namespace),
            |id| vpas.get(&id.namespace, &id.name).is_some(),
        );
        let found = match found.await {
            Ok(found) => checkpoints::seen_twice(found, &mut self.orphans),
            Err(error) => return tracing::warn!(%error, "checkpoints without a VPA were not looked for"),
        };
        let deadline = Instant::now() + REMOVAL_MAX;
        let report = checkpoints::remove(&self.cluster, &self.removals, found, deadline, stop).await;
        for (orphan, outcome) in &report.outcomes {
            match outcome {
                Outcome::Done(()) => {
                    tracing::info!(checkpoint = %orphan.id, "checkpoint of a VPA that is gone removed")
                }
                other => {
                    let problem = other.problem();
                    tracing::debug!(checkpoint = %orphan.id, problem, "checkpoint not removed");
                }
            }
        }
    }
}

/// Says how a recommendation came about.
fn explain(write: &StatusWrite, report: Option<&VpaReport>) {
    for container in report.iter().flat_map(|report| &report.containers) {
        tracing::debug!(
            vpa = %write.vpa,
            container = %container.container,
            samples = container.samples,
            target = ?container.estimate.target,
            lower_bound = ?container.estimate.lower_bound,
            upper_bound = ?container.estimate.upper_bound,
            first = write.is_first(),
            "recommended"
        );
    }
}

/// What went wrong with writes, told once for each problem however many objects have it.
#[derive(Default)]
struct Problems(BTreeMap<String, (String, usize)>);

impl Problems {
    /// Problems that are told apart: texts that name their object would otherwise make a line for each.
    const MAX: usize = 10;

    fn add(&mut self, problem: Option<&str>, object: impl FnOnce() -> String) {
        let object = object();
        let problem = problem.unwrap_or("unknown");
        tracing::debug!(object, problem, "not written");
        let key = if self.0.len() < Self::MAX || self.0.contains_key(problem) { problem } else { "other" };
        self.0.entry(key.to_owned()).or_insert((object, 0)).1 += 1;
    }

    fn log(self, what: &str) {
        for (problem, (first, count)) in self.0 {
            tracing::warn!(count, first, problem, "{what}");
        }
    }
}
