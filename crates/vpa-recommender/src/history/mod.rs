//! History from Prometheus, read before the first cycle.
//!
//! ```text
//!  labels of pods ─▶ for each slice of the span, oldest first: CPU, memory ─▶ samples by container, in order ─▶ model
//! ```
//! One query over the whole span would take as much memory here, and there, as the cluster is large, and would begin
//! anew with each failure. So the span is parted into slices of about as many samples as a slice may have; each is read as a
//! stream, and asked for again until it comes. A slice that is too much for the server is halved. Nothing is
//! recommended before all of it is there: from a part of the history, recommendations would be wrong.

mod answer;
mod api;
mod metrics;
mod queries;
mod slices;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use vpa_core::model::pod::{Labels, ObservedContainer, ObservedPod};
use vpa_core::model::{ClusterState, ContainerId, Observation, PodId};
use vpa_core::recommend::Scope;
use vpa_runtime::executor::jitter;
use vpa_runtime::{Error, Store};

use crate::args::PrometheusOptions;
use crate::cycle::Clock;
use crate::pods::StoredPod;
use api::{Prometheus, QueryError};
pub(crate) use metrics::HistoryMetrics;
use queries::Queries;
use slices::Slices;
use take::{Resource, Samples, SeenLabels, Take};

/// Samples of one query that are held at most, at 16 bytes and their container's name; with more the slice is halved.
const SAMPLES_MAX: usize = 4_000_000;
/// How the refusal of more begins.
const TOO_MANY_SAMPLES: &str = "more than 4000000 samples in one answer";
/// First wait after a failure; doubles with each, up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait after a failure: short enough that nobody waits for long once Prometheus is back.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How far the load is, for `/readyz`. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    complete: bool,
    part: f64,
    failure: Option<String>,
}

impl Progress {
    /// # Errors
    /// What is missing, with the last failure.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let State { complete, part, failure } = &*self.0.lock();
        if *complete {
            return Ok(());
        }
        let failure =
            failure.as_ref().map(|failure| format!("; last failure: {failure}")).unwrap_or_default();
        Err(format!("history from Prometheus is read to {:.0} %{failure}", part * 100.0))
    }
}

/// See the [module](self).
pub(crate) struct History {
    prometheus: Prometheus,
    queries: Queries,
    options: PrometheusOptions,
    metrics: Arc<HistoryMetrics>,
    progress: Progress,
    /// First and longest wait after a failure.
    waits: [Duration; 2],
}

/// What history is read for.
pub(crate) struct Wanted<'a> {
    pub(crate) state: &'a mut ClusterState,
    /// Pods that are there; their labels and containers count, not what Prometheus says of them.
    pub(crate) live: &'a Store<StoredPod>,
    pub(crate) scope: &'a Scope,
    /// Whether pods that no VPA selects are left out.
    pub(crate) selected_only: bool,
    pub(crate) clock: Clock,
}

impl History {
    /// # Errors
    /// The address or a file of the options cannot be used.
    pub(crate) fn new(options: &PrometheusOptions, metrics: Arc<HistoryMetrics>) -> Result<Self, Error> {
        Ok(Self {
            prometheus: Prometheus::new(options, metrics.clone())?,
            queries: Queries::new(options),
            options: options.clone(),
            metrics,
            progress: Progress::default(),
            waits: [BACKOFF_FIRST, BACKOFF_MAX],
        })
    }

    /// How far the load is.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Reads all of it into the model. Tries until it comes: to go on without would publish recommendations made from
    /// nothing. Returns `false` if `stop` came first.
    pub(crate) async fn load(&self, mut wanted: Wanted<'_>, stop: &CancellationToken) -> bool {
        let began = tokio::time::Instant::now();
        tokio::select! {
            pods = self.read(&mut wanted) => {
                self.progress.0.lock().complete = true;
                self.metrics.observe_progress(1.0);
                let seconds = began.elapsed().as_secs_f64();
                tracing::info!(pods, aggregates = wanted.state.aggregate_count(), seconds, "history from Prometheus read");
                true
            }
            () = stop.cancelled() => false,
        }
    }

    async fn read(&self, wanted: &mut Wanted<'_>) -> usize {
        let now = (wanted.clock)();
        let keys = wanted
            .live
            .snapshot()
            .iter()
            .flat_map(|pod| pod.labels.keys().cloned().collect::<Vec<_>>())
            .collect();
        let labels = self.labels(now, keys).await;
        tracing::info!(pods = labels.len(), "labels of pods read from Prometheus");
        let mut placing = Placing { wanted, labels, placed: BTreeSet::new(), gone: BTreeMap::new() };
        let mut slices = Slices::new(now, self.options.length.length, self.options.resolution.length);
        while let Some(slice) = slices.next() {
            let mut count = 0;
            let mut too_much = false;
            for resource in [Resource::Cpu, Resource::Memory] {
                let query = self.queries.usage(resource);
                let parameters = [
                    ("query", query.clone()),
                    ("start", seconds(slice.from)),
                    ("end", seconds(slice.to)),
                    (
                        "step",
                        seconds(
                            i64::try_from(self.options.resolution.length.as_millis()).unwrap_or(i64::MAX),
                        ),
                    ),
                    ("timeout", format!("{}s", self.options.timeout.as_secs().max(1))),
                ];
                let empty = || Samples::new(self.options.container.clone(), resource);
                match self.ask("query_range", &parameters, empty, true).await {
                    Ok(samples) => count = count.max(placing.take(samples, &self.metrics)),
                    Err(reason) => {
                        too_much = true;
                        tracing::info!(query, reason, "a slice of history is too much at once");
                        break;
                    }
                }
            }
            if too_much {
                if !slices.halve() {
                    // One moment cannot be parted: the server is in trouble of another kind, which may pass.
                    tokio::time::sleep(self.waits[1]).await;
                }
                continue;
            }
            slices.done(count);
            self.note(slices.progress());
        }
        placing.finish()
    }

    /// Labels of pods as Prometheus last saw them.
    async fn labels(
        &self,
        now: Timestamp,
        keys: BTreeSet<compact_str::CompactString>,
    ) -> BTreeMap<PodId, Labels> {
        let parameters = [
            ("query", self.queries.labels()),
            ("time", seconds(now.as_millisecond())),
            ("timeout", format!("{}s", self.options.timeout.as_secs().max(1))),
        ];
        loop {
            let empty =
                || SeenLabels::new(self.options.pod.clone(), self.options.label_prefix.clone(), keys.clone());
            match self.ask("query", &parameters, empty, false).await {
                Ok(seen) => return seen.into_labels(),
                Err(_) => tokio::time::sleep(self.waits[1]).await,
            }
        }
    }

    /// Asks until an answer comes, unless it says that it is too much and `part` says that less can be asked for.
    async fn ask<T: Take>(
        &self,
        path: &str,
        parameters: &[(&str, String)],
        empty: impl Fn() -> T,
        part: bool,
    ) -> Result<T, String> {
        let [mut wait, longest] = self.waits;
        loop {
            let failure = match self.prometheus.query(path, parameters, empty()).await {
                Ok(taken) => {
                    self.progress.0.lock().failure = None;
                    return Ok(taken);
                }
                Err(failure) => failure,
            };
            self.metrics.count_failure();
            let query = &parameters[0].1;
            let repeated = self.progress.0.lock().failure.replace(failure.to_string());
            if let (QueryError::TooMuch(reason), true) = (&failure, part) {
                return Err(reason.clone());
            }
            if repeated.as_deref() != Some(&failure.to_string()) {
                let address = self.options.address.to_string();
                tracing::warn!(address, query, error = %failure, "history does not come from Prometheus; trying until it does");
            }
            tokio::time::sleep(wait + jitter(wait)).await;
            wait = (wait * 2).min(longest);
        }
    }

    fn note(&self, part: f64) {
        self.progress.0.lock().part = part;
        self.metrics.observe_progress(part);
        tracing::info!(percent = (part * 100.0).round(), "history is being read from Prometheus");
    }
}

/// Milliseconds as the seconds of a query.
fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
}

/// Puts samples under their pods.
struct Placing<'a, 'b> {
    wanted: &'a mut Wanted<'b>,
    labels: BTreeMap<PodId, Labels>,
    /// Pods that the model knows of.
    placed: BTreeSet<PodId>,
    /// Those of them that are there no more, as far as they were seen.
    gone: BTreeMap<PodId, ObservedPod>,
}

impl Placing<'_, '_> {
    /// Takes the samples of a slice in; returns how many there were.
    fn take(&mut self, samples: Samples, metrics: &HistoryMetrics) -> u64 {
        let resource = samples.resource();
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut all = 0;
        for (container, mut samples) in samples.into_containers() {
            all += samples.len() as u64;
            if !self.place(&container) {
                *counts.entry("not_wanted").or_default() += samples.len() as u64;
                continue;
            }
            // Several series of one container, one for each of its runs, come one after the other.
            samples.sort_by_key(|(time, _)| *time);
            for (time, amount) in samples {
                let container = &container;
                let observation = match resource {
                    Resource::Cpu => Observation::Cpu { container, time, millicores: amount },
                    Resource::Memory => Observation::Memory { container, time, bytes: amount },
                };
                let outcome = self.wanted.state.apply(observation, (self.wanted.clock)());
                *counts.entry(if outcome.is_ok() { "taken" } else { "rejected" }).or_default() += 1;
            }
        }
        for (outcome, count) in counts {
            metrics.count_samples(outcome, count);
        }
        all
    }

    /// Makes the container known to the model. Returns `false` where nobody wants its history.
    fn place(&mut self, container: &ContainerId) -> bool {
        let Wanted { state, live, scope, selected_only, clock } = &mut *self.wanted;
        let id = &container.pod;
        if !scope.has_namespace(&id.namespace) {
            return false;
        }
        let now = clock();
        let live = live.get(&id.namespace, &id.name);
        let labels = live.as_ref().map(|pod| &pod.labels).or_else(|| self.labels.get(id));
        if *selected_only && !labels.is_some_and(|labels| state.selects(&id.namespace, labels)) {
            return false;
        }
        if let Some(live) = live {
            if self.placed.insert(id.clone()) {
                let _ = state.apply(Observation::Pod(&live), now);
            }
            return true;
        }
        let pod = self.gone.entry(id.clone()).or_insert_with(|| ObservedPod {
            id: id.clone(),
            labels: labels.cloned().unwrap_or_default(),
            active: true,
            ..ObservedPod::default()
        });
        if pod.container(&container.container).is_none() {
            let fresh =
                ObservedContainer { name: container.container.clone(), memory_request: 0, reported: false };
            pod.containers = pod.containers.iter().cloned().chain([fresh]).collect();
            let _ = state.apply(Observation::Pod(pod), now);
        }
        true
    }

    /// Forgets the pods that are there no more, but not what they used. Returns how many pods had a history.
    fn finish(self) -> usize {
        for id in self.gone.keys() {
            let _ = self.wanted.state.apply(Observation::PodGone(id), (self.wanted.clock)());
        }
        self.placed.len() + self.gone.len()
    }
}

#[cfg(test)]
mod tests;
