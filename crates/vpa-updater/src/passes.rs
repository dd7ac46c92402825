//! The loop of passes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::Client;
use prometheus::IntGauge;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::limit_range::LimitRange;
use vpa_api::pod::Pod;
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::update::{
    Config, Heartbeat, Next, Outcome, Pass, PassReport, Reason, Snapshot, Step, UpdaterMemory, vpa_name,
};
use vpa_runtime::targets::Targets;
use vpa_runtime::{Leadership, Pacer, Shell, Store, clock};

use crate::events::EventWriter;
use crate::explain::Explainer;
use crate::heartbeat::HeartbeatReader;
use crate::metrics::{UpdaterMetrics, step};
use crate::narrate::Narrator;
use crate::nodes::Nodes;
use crate::writes;

/// How often the admission controller's lease is read again during a long pass: often enough to notice within its
/// default timeout of a minute that it died, and three reads a minute cost nothing.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(20);

/// All that a pass needs.
pub(crate) struct Updater {
    pub(crate) config: Config,
    pub(crate) vpas: Store<VerticalPodAutoscaler>,
    pub(crate) pods: Store<Pod>,
    pub(crate) limit_ranges: Store<LimitRange>,
    pub(crate) nodes: Nodes,
    pub(crate) targets: Targets,
    pub(crate) heartbeat: HeartbeatReader,
    pub(crate) client: Client,
    /// How many calls may be under way.
    pub(crate) pace: Pacer,
    pub(crate) write_workers: IntGauge,
    pub(crate) metrics: UpdaterMetrics,
    pub(crate) events: EventWriter,
    pub(crate) narrator: Narrator,
    pub(crate) explainer: Explainer,
}

/// A step that was carried out, or could not be.
struct Performed {
    step: Step,
    outcome: Outcome,
    took: Duration,
}

impl Updater {
    /// Makes a pass each interval until the program stops or leadership is lost.
    pub(crate) async fn run(
        &mut self,
        shell: &Shell,
        leadership: &Leadership,
        mut memory: UpdaterMemory,
        interval: Duration,
    ) {
        let mut ticks = tokio::time::interval(interval);
        // A pass that took too long is not made up for.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick comes at once; like the Go suite, the first pass waits for one interval.
        ticks.tick().await;
        let stop = shell.stopping();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            if !leadership.holds() {
                return;
            }
            memory = self.pass(shell, leadership, memory).await;
            shell.health().active();
        }
    }

    async fn pass(&mut self, shell: &Shell, leadership: &Leadership, memory: UpdaterMemory) -> UpdaterMemory {
        let began = Instant::now();
        let heartbeat = self.heartbeat.read().await;
        if let Some(why) = heartbeat.problem(clock::wall()) {
            tracing::warn!(why, "the admission controller cannot be relied on: no pod is touched");
            self.metrics.cut_off("HeartbeatStale");
        }
        let pass = self.look(heartbeat, memory);
        let (report, memory) = self.carry_out(pass, shell, leadership).await;
        self.metrics.step(step::TOTAL, began.elapsed());
        self.conclude(report, began.elapsed());
        memory
    }

    /// Takes a snapshot and decides.
    fn look(&self, heartbeat: Heartbeat, memory: UpdaterMemory) -> Pass {
        let timed = |name: &str, began: Instant| self.metrics.step(name, began.elapsed());
        let began = Instant::now();
        let vpas = self.vpas.snapshot();
        timed(step::LIST_VPAS, began);
        let began = Instant::now();
        let pods = self.pods.snapshot();
        timed(step::LIST_PODS, began);
        let began = Instant::now();
        let limits = Limits::new(&self.limit_ranges);
        let snapshot = Snapshot {
            vpas,
            pods,
            controllers: &self.targets,
            limit_ranges: &limits,
            nodes: Arc::new(self.nodes.clone()),
            heartbeat,
        };
        // Thousands of pods take a while; other tasks of this thread need not wait.
        let pass =
            tokio::task::block_in_place(|| Pass::new(&snapshot, self.config.clone(), memory, clock::wall()));
        timed(step::FILTER_PODS, began);
        pass
    }

    /// Carries out the steps, several at once, until the pass is done.
    async fn carry_out(
        &self,
        mut pass: Pass,
        shell: &Shell,
        leadership: &Leadership,
    ) -> (PassReport, UpdaterMemory) {
        let began = Instant::now();
        let (stop, lost) = (shell.stopping(), leadership.token());
        let mut under_way = FuturesUnordered::new();
        // A stream, so that answers to steps are taken in while the lease is read.
        let mut heartbeats = std::pin::pin!(futures::stream::unfold((), |()| async {
            tokio::time::sleep(HEARTBEAT_EVERY).await;
            Some((self.heartbeat.read().await, ()))
        }));
        loop {
            let mut until = None;
            let mut done = false;
            self.write_workers.set(i64::try_from(self.pace.limit()).unwrap_or(i64::MAX));
            while under_way.len() < self.pace.limit() {
                match pass.next(clock::wall()) {
                    Next::Step(step) => under_way.push(self.perform(*step, shell, leadership)),
                    Next::Wait { until: at } => {
                        until = at;
                        break;
                    }
                    Next::Done => {
                        done = true;
                        break;
                    }
                }
            }
            for event in pass.take_events() {
                self.events.write(event);
            }
            if done && under_way.is_empty() {
                break;
            }
            tokio::select! {
                Some(performed) = under_way.next() => self.settle(&mut pass, performed),
                () = sleep_until(until), if until.is_some() => {}
                Some(heartbeat) = heartbeats.next() => pass.set_heartbeat(heartbeat),
                () = stop.cancelled(), if !pass.is_stopped() => pass.stop(Reason::ShuttingDown),
                () = lost.cancelled(), if !pass.is_stopped() => pass.stop(Reason::NotLeader),
            }
        }
        self.metrics.step(step::EVICT_PODS, began.elapsed());
        let (mut report, memory) = pass.finish(clock::wall());
        for event in std::mem::take(&mut report.events) {
            self.events.write(event);
        }
        (report, memory)
    }

    /// Carries out one step, unless this process may not write any more.
    async fn perform(&self, step: Step, shell: &Shell, leadership: &Leadership) -> Performed {
        let began = Instant::now();
        let outcome = if !leadership.holds() {
            Outcome::NotLeader
        } else if shell.stopping().is_cancelled() {
            Outcome::ShuttingDown
        } else {
            writes::perform(&self.client, &step.pod, &step.action).await
        };
        Performed { step, outcome, took: began.elapsed() }
    }

    /// Takes in what became of a step.
    fn settle(&self, pass: &mut Pass, performed: Performed) {
        let Performed { step, outcome, took } = performed;
        let now = clock::wall();
        self.metrics.performed(&step.action, &outcome, took);
        self.explainer.journal(|journal| journal.note(vpa_name(&step.vpa), &step, &outcome, now, took));
        pass.on_outcome(step.id, outcome, now);
    }

    /// Counts, logs and keeps what became of the pods.
    fn conclude(&mut self, report: PassReport, took: Duration) {
        let exists = |vpa: &str| {
            vpa.split_once('/').is_some_and(|(namespace, name)| self.vpas.get(namespace, name).is_some())
        };
        self.metrics.observe(&report, exists);
        if report.cut_off {
            self.metrics.cut_off("PassOver");
            tracing::warn!("the pass was cut off; the next one goes on where it stopped");
        }
        self.narrator.tell(&report);
        let count = |pick: fn(&vpa_core::update::Tally) -> usize| -> usize {
            report.vpas.iter().map(|vpa| pick(&vpa.tally)).sum()
        };
        tracing::debug!(
            vpas = report.vpas.len(),
            pods = report.pods().count(),
            evicted = count(|tally| tally.evicted),
            resized = count(|tally| tally.resized),
            took_ms = took.as_millis() as u64,
            "pass"
        );
        self.explainer.pass(clock::wall(), report, exists);
    }
}

async fn sleep_until(time: Option<Timestamp>) {
    let wait = time.map(|time| time.duration_since(clock::wall()));
    tokio::time::sleep(wait.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default()).await;
}

/// Limits of all namespaces at one moment.
struct Limits(HashMap<String, Arc<LimitRanges>>);

impl Limits {
    fn new(store: &Store<LimitRange>) -> Self {
        let mut by_namespace: HashMap<String, Vec<Arc<LimitRange>>> = HashMap::new();
        for object in store.snapshot() {
            by_namespace
                .entry(object.metadata.namespace.clone().unwrap_or_default())
                .or_default()
                .push(object);
        }
        let merged = |list: Vec<Arc<LimitRange>>| Arc::new(LimitRanges::merge(list.iter().map(Arc::as_ref)));
        Self(by_namespace.into_iter().map(|(namespace, list)| (namespace, merged(list))).collect())
    }
}

impl LimitRangeSource for Limits {
    fn limit_ranges(&self, namespace: &str) -> Arc<LimitRanges> {
        self.0.get(namespace).cloned().unwrap_or_default()
    }
}
