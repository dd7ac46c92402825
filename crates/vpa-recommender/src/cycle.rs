//! The cycle: from what the stores show to what is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_core::model::{ApplyError, ClusterState, ObjectId, Observation, PodId, Rejection, VpaId};
use vpa_core::recommend::{CyclePlan, StatusWrite, VpaReport, plan, resolve};
use vpa_runtime::metrics::RuntimeMetrics;
use vpa_runtime::targets::Targets;
use vpa_runtime::{Cluster, Executor, Outcome, Store, clock};

use crate::args::Options;
use crate::inbox::Inbox;
use crate::metrics::RecommenderMetrics;
use crate::{FINISH_MAX, checkpoints, statuses, usage};

/// Longest time for writing statuses in a cycle. At the API server's slowest (200 writes a second) it is enough for the
/// 10,000 VPAs of the largest clusters; those that do not get their turn are in the next plan.
const STATUSES_MAX: Duration = Duration::from_secs(60);

/// Time between two tries to read the checkpoints; the client has tried for some seconds by itself then.
const RESTORE_RETRY: Duration = Duration::from_secs(2);

/// Longest time for removing checkpoints in a cycle; those that are left come up again.
const REMOVAL_MAX: Duration = Duration::from_secs(10);

/// Where observations come from.
pub(crate) struct Sources {
    pub(crate) vpas: Store<VerticalPodAutoscaler>,
    pub(crate) pods: Store<Pod>,
    pub(crate) targets: Targets,
    pub(crate) inbox: Inbox,
}

/// The state between cycles.
pub(crate) struct Cycle {
    cluster: Cluster,
    sources: Sources,
    options: Options,
    metrics: Arc<RecommenderMetrics>,
    state: ClusterState,
    /// Pods as they were last handed to the state; one that has not changed since is not handed over again.
    known_pods: BTreeMap<PodId, Arc<Pod>>,
    statuses: Executor,
    checkpoints: Executor,
    removals: Executor,
    orphans: BTreeSet<ObjectId>,
    last_removal: Instant,
    /// Problems that were logged, so that each is logged once until it changes.
    logged: BTreeMap<VpaId, String>,
    usage_problem: Option<String>,
}

impl Cycle {
    pub(crate) fn new(
        cluster: Cluster,
        sources: Sources,
        options: Options,
        metrics: Arc<RecommenderMetrics>,
        runtime: Arc<RuntimeMetrics>,
    ) -> Self {
        let executor = |plan| Executor::new(plan, options.workers, runtime.clone());
        Self {
            statuses: executor("statuses"),
            checkpoints: executor("checkpoints"),
            removals: executor("checkpoint removals"),
            state: ClusterState::new(options.settings.clone()),
            known_pods: BTreeMap::new(),
            orphans: BTreeSet::new(),
            last_removal: Instant::now(),
            logged: BTreeMap::new(),
            usage_problem: None,
            cluster,
            sources,
            options,
            metrics,
        }
    }

    /// Reads the checkpoints, before the first cycle. Tries until they come: to go on without history would publish
    /// recommendations made from nothing, and write them over the history. Returns `false` if `stop` came first.
    pub(crate) async fn restore(&mut self, stop: &CancellationToken) -> bool {
        let began = Instant::now();
        self.load_vpas();
        loop {
            let now = clock::wall();
            let namespace = self.options.scope.namespace.clone();
            let (state, scope) = (&mut self.state, &self.options.scope);
            let mut restored = 0;
            let read = checkpoints::for_each(&self.cluster, namespace.as_deref(), |checkpoint| {
                let id = ObjectId::new(
                    checkpoint.metadata.namespace.as_deref().unwrap_or(""),
                    checkpoint.metadata.name.as_deref().unwrap_or(""),
                );
                if !scope.has_namespace(&id.namespace) {
                    return;
                }
                match state.apply(Observation::Checkpoint(&checkpoint), now) {
                    Ok(()) => restored += 1,
                    Err(ApplyError::Rejected(_)) => {
                        tracing::debug!(checkpoint = %id, "no VPA here for this checkpoint");
                    }
                    Err(error) => {
                        tracing::warn!(checkpoint = %id, %error, "a checkpoint cannot be restored");
                    }
                }
            });
            match read.await {
                Ok((read, unreadable)) => {
                    let seconds = began.elapsed().as_secs_f64();
                    tracing::info!(read, unreadable, restored, seconds, "checkpoints restored");
                    return true;
                }
                Err(error) => tracing::warn!(%error, "checkpoints do not come; trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RESTORE_RETRY) => {}
            }
        }
    }

    /// One cycle. `stop` ends it early between writes, `leading` is cancelled with leadership.
    pub(crate) async fn run(&mut self, stop: &CancellationToken, leading: &CancellationToken) {
        let began = Instant::now();
        self.observe().await;
        let plan = self.plan();
        let halt = either(stop, leading);
        self.write_statuses(&plan, &halt).await;
        self.write_checkpoints(plan, &halt).await;
        self.remove_checkpoints(&halt).await;
        let step = Instant::now();
        if let Some(removed) = self.state.collect_garbage(clock::wall()).filter(|removed| *removed > 0) {
            tracing::info!(removed, "histories forgotten");
        }
        self.metrics.observe_step("GarbageCollect", step.elapsed());
        self.metrics.observe_step("total", began.elapsed());
        tracing::debug!(
            vpas = self.state.vpas().count(),
            pods = self.state.pod_count(),
            aggregates = self.state.aggregate_count(),
            seconds = began.elapsed().as_secs_f64(),
            "cycle done"
        );
    }

    /// Writes what checkpoints have to say, at the program's end.
    pub(crate) async fn finish(&mut self, leading: &CancellationToken) {
        self.load_vpas();
        self.take_ooms(clock::wall());
        let plan = plan(&mut self.state, &self.options.config, clock::wall());
        let writes = plan.checkpoint_writes;
        if writes.is_empty() {
            return;
        }
        let deadline = Instant::now() + FINISH_MAX;
        let count = writes.len();
        let report = checkpoints::write(&self.cluster, &self.checkpoints, writes, deadline, leading).await;
        let written = report.outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count();
        tracing::info!(written, of = count, "checkpoints written before the end");
    }

    async fn observe(&mut self) {
        let step = Instant::now();
        self.load_vpas();
        self.metrics.observe_step("LoadVPAs", step.elapsed());
        let step = Instant::now();
        let removed = self.load_pods();
        self.metrics.observe_step("LoadPods", step.elapsed());
        let step = Instant::now();
        self.load_usage().await;
        self.take_ooms(clock::wall());
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
    fn apply(&mut self, observation: Observation<'_>) {
        if let Err(error) = self.state.apply(observation, clock::wall()) {
            tracing::debug!(%error, "an observation was not taken");
        }
    }

    fn load_vpas(&mut self) {
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
    fn load_pods(&mut self) -> Vec<PodId> {
        let mut gone: BTreeSet<PodId> = self.known_pods.keys().cloned().collect();
        for pod in self.sources.pods.snapshot() {
            let id = PodId::of_pod(&pod);
            if self.options.memory_saver && !self.state.selects(&id.namespace, pod.labels()) {
                continue;
            }
            gone.remove(&id);
            if self.known_pods.get(&id).is_some_and(|known| Arc::ptr_eq(known, &pod)) {
                continue;
            }
            self.apply(Observation::Pod(&pod));
            self.known_pods.insert(id, pod);
        }
        gone.into_iter().collect()
    }

    async fn load_usage(&mut self) {
        let usage = usage::read(&self.cluster, self.options.scope.namespace.as_deref()).await;
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
        let now = clock::wall();
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        if usage.unreadable > 0 {
            counts.insert("unreadable", usage.unreadable as u64);
            tracing::debug!(entries = usage.unreadable, "entries of metrics.k8s.io that cannot be read");
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

    fn take_ooms(&mut self, now: Timestamp) {
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
    }

    fn plan(&mut self) -> CyclePlan {
        let now = clock::wall();
        let plan = tokio::task::block_in_place(|| plan(&mut self.state, &self.options.config, now));
        self.metrics.observe_report(&plan.report);
        self.metrics.observe_quality(&self.state.take_quality());
        for vpa in &plan.report.vpas {
            let known = self.logged.get(&vpa.vpa);
            match &vpa.problem {
                Some(problem) if known != Some(problem) => {
                    tracing::warn!(vpa = %vpa.vpa, problem, held = vpa.held, "target cannot be used");
                    self.logged.insert(vpa.vpa.clone(), problem.clone());
                }
                None if known.is_some() => {
                    tracing::info!(vpa = %vpa.vpa, "target found again");
                    self.logged.remove(&vpa.vpa);
                }
                _ => {}
            }
        }
        plan
    }

    async fn write_statuses(&mut self, plan: &CyclePlan, stop: &CancellationToken) {
        let step = Instant::now();
        let now = clock::wall();
        let reports: BTreeMap<_, _> = plan.report.vpas.iter().map(|report| (&report.vpa, report)).collect();
        let deadline = Instant::now() + STATUSES_MAX;
        let writes = plan.statuses.clone();
        let report = statuses::write(&self.cluster, &self.statuses, writes, deadline, stop).await;
        let mut problems = Problems::default();
        let mut first = 0;
        for (write, outcome) in &report.outcomes {
            let explained = reports.get(&write.vpa).copied();
            match outcome {
                Outcome::Done(_) => {
                    self.metrics.observe_status(write, explained, now);
                    first += usize::from(write.first_recommendation);
                    explain(write, explained);
                }
                Outcome::Unchanged | Outcome::NotFound | Outcome::Cancelled => {}
                other => problems.add(other.problem(), || write.vpa.to_string()),
            }
        }
        problems.log("statuses not written");
        if first > 0 {
            tracing::info!(vpas = first, "first recommendations written");
        }
        self.metrics.observe_step("UpdateVPAs", step.elapsed());
    }

    async fn write_checkpoints(&mut self, plan: CyclePlan, stop: &CancellationToken) {
        let step = Instant::now();
        let deadline = Instant::now() + self.options.checkpoints_timeout;
        let writes = plan.checkpoint_writes;
        let report = checkpoints::write(&self.cluster, &self.checkpoints, writes, deadline, stop).await;
        let now = clock::wall();
        let mut deferred = plan.report.checkpoints_deferred;
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
        self.metrics.observe_step("MaintainCheckpoints", step.elapsed());
    }

    async fn remove_checkpoints(&mut self, stop: &CancellationToken) {
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
            first = write.first_recommendation,
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

/// Cancelled with either.
fn either(a: &CancellationToken, b: &CancellationToken) -> CancellationToken {
    let token = a.child_token();
    let (child, b) = (token.clone(), b.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = b.cancelled() => child.cancel(),
            () = child.cancelled() => {}
        }
    });
    token
}
