//! The cycle: from what the stores show to what is written.

mod observe;
mod restore;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vpa_api::VerticalPodAutoscaler;
use vpa_core::model::{ClusterState, ObjectId, PodId, VpaId};
use vpa_core::recommend::{Config, CyclePlan, plan};
use vpa_runtime::metrics::RuntimeMetrics;
use vpa_runtime::targets::Targets;
use vpa_runtime::{Cluster, Executor, Store};

use crate::FINISH_MAX;
use crate::args::Options;
use crate::inbox::Inbox;
use crate::metrics::RecommenderMetrics;
use crate::pods::StoredPod;

/// The wall clock. Handed in, so that a test can let days pass.
pub(crate) type Clock = fn() -> Timestamp;

/// Where observations come from.
pub(crate) struct Sources {
    pub(crate) vpas: Store<VerticalPodAutoscaler>,
    pub(crate) pods: Store<StoredPod>,
    pub(crate) targets: Targets,
    pub(crate) inbox: Inbox,
    pub(crate) clock: Clock,
}

/// The state between cycles.
pub(crate) struct Cycle {
    cluster: Cluster,
    sources: Sources,
    options: Options,
    metrics: Arc<RecommenderMetrics>,
    state: ClusterState,
    /// Pods as they were last handed to the state; one that has not changed since is not handed over again.
    known_pods: BTreeMap<PodId, Arc<StoredPod>>,
    statuses: Executor,
    checkpoints: Executor,
    /// For the program's end, which waits for no budget.
    last_checkpoints: Executor,
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
        cluster.pace.set_most(options.writing.workers);
        let executor = |plan| Executor::new(plan, cluster.pace.clone(), runtime.clone());
        Self {
            statuses: executor("statuses"),
            checkpoints: executor("checkpoints").at_rate(options.writing.rate.clone()),
            last_checkpoints: executor("checkpoints"),
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

    /// One cycle. `stop` ends it early between writes, `leading` is cancelled with leadership.
    pub(crate) async fn run(&mut self, stop: &CancellationToken, leading: &CancellationToken) {
        let began = Instant::now();
        self.observe().await;
        let plan = self.plan();
        let halt = either(stop, leading);
        // Ends with the cycle, and the task that passes the cancelling on with it.
        let _end = halt.clone().drop_guard();
        self.write_statuses(plan.statuses, &plan.report, &halt).await;
        if self.options.history.keeps_checkpoints() {
            self.write_checkpoints(plan.checkpoint_writes, &halt).await;
            self.remove_checkpoints(&halt).await;
        }
        let step = Instant::now();
        if let Some(removed) =
            self.state.collect_garbage((self.sources.clock)()).filter(|removed| *removed > 0)
        {
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
        if !self.options.history.keeps_checkpoints() {
            return;
        }
        self.load_vpas();
        self.take_ooms((self.sources.clock)());
        let config = Config { checkpoints: None, ..self.options.config.clone() };
        let now = (self.sources.clock)();
        let writes = plan(&mut self.state, &config, now).checkpoint_writes;
        if writes.is_empty() {
            return;
        }
        let deadline = Instant::now() + FINISH_MAX;
        let count = writes.len();
        let executor = self.last_checkpoints.clone();
        let report = self.save(&executor, writes, now, deadline, leading).await;
        let written = report.outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count();
        tracing::info!(written, of = count, "checkpoints written before the end");
    }

    fn plan(&mut self) -> CyclePlan {
        let now = (self.sources.clock)();
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

#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod soak_tests;
#[cfg(test)]
mod testbed;
