//! What the updater counts, under the Go suite's names.

mod by_vpa;

use std::collections::BTreeMap;
use std::time::Duration;

use by_vpa::CountersByVpa;
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use vpa_core::update::{Action, Outcome, PassReport, Reason, Verdict, VpaReport};
use vpa_runtime::Error;
use vpa_runtime::metrics::{Metrics, REQUEST_BUCKETS};

use crate::journal::{action_label, outcome_label};

/// Steps of a pass, as the Go suite names them.
pub mod step {
    /// Taking the VPAs out of the store.
    pub const LIST_VPAS: &str = "ListVPAs";
    /// Taking the pods out of the store.
    pub const LIST_PODS: &str = "ListPods";
    /// Finding the pods of each VPA.
    pub const FILTER_PODS: &str = "FilterPods";
    /// All writes.
    pub const EVICT_PODS: &str = "EvictPods";
    /// All of it.
    pub const TOTAL: &str = "total";
}

const LATENCY_BUCKETS: [f64; 23] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0,
    100.0, 120.0, 150.0, 240.0, 300.0,
];

/// Largest exponent in `vpa_size_log2`; keeps the number of series small.
const SIZE_LOG2_MAX: u32 = 31;

/// The metrics of the updater.
#[derive(Debug)]
pub struct UpdaterMetrics {
    controlled: IntGaugeVec,
    evictable: IntGaugeVec,
    vpas_with_evictable: IntGaugeVec,
    vpas_with_evicted: IntGaugeVec,
    updatable: IntGaugeVec,
    vpas_with_updatable: IntGaugeVec,
    vpas_with_updated: IntGaugeVec,
    latency: HistogramVec,
    by_vpa: CountersByVpa,
    own: Own,
}

/// Metrics that the Go suite does not have.
#[derive(Debug)]
struct Own {
    left_alone: IntGaugeVec,
    incomplete: IntCounterVec,
    update_seconds: HistogramVec,
    unexpected_restarts: IntCounter,
    evictions_stopped: IntGauge,
}

impl UpdaterMetrics {
    /// Makes and registers the metrics.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let metrics = Metrics(registry);
        let (by_mode, by_size) = (["vpa_size_log2", "update_mode"], ["vpa_size_log2"]);
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            metrics.gauge_vec(&format!("vpa_updater_{name}"), help, labels)
        };
        Ok(Self {
            controlled: gauge("controlled_pods_total", "Pods that a VPA controls", &by_mode)?,
            evictable: gauge(
                "evictable_pods_total",
                "Pods that meet all criteria for an eviction",
                &by_mode,
            )?,
            vpas_with_evictable: gauge(
                "vpas_with_evictable_pods_total",
                "VPAs of which a pod meets all criteria for an eviction",
                &by_mode,
            )?,
            vpas_with_evicted: gauge(
                "vpas_with_evicted_pods_total",
                "VPAs of which a pod was evicted in the last pass",
                &by_mode,
            )?,
            updatable: gauge(
                "in_place_updatable_pods_total",
                "Pods that meet all criteria for a resize in place",
                &by_size,
            )?,
            vpas_with_updatable: gauge(
                "vpas_with_in_place_updatable_pods_total",
                "VPAs of which a pod meets all criteria for a resize in place",
                &by_size,
            )?,
            vpas_with_updated: gauge(
                "vpas_with_in_place_updated_pods_total",
                "VPAs of which a pod was resized in place in the last pass",
                &by_size,
            )?,
            latency: metrics.histogram_vec(
                "vpa_updater_execution_latency_seconds",
                "Time of the parts of a pass",
                &LATENCY_BUCKETS,
                &["step"],
            )?,
            by_vpa: CountersByVpa::new(metrics)?,
            own: Own::new(metrics)?,
        })
    }

    /// Notes the time of a part of a pass.
    pub fn step(&self, step: &str, time: Duration) {
        self.latency.with_label_values(&[step]).observe(time.as_secs_f64());
    }

    /// Notes how a step ended and how long that took.
    pub fn performed(&self, action: &Action, outcome: &Outcome, took: Duration) {
        let labels = [action_label(action), outcome_label(outcome)];
        self.own.update_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// Notes that a pass did not take place, or was cut off.
    pub fn cut_off(&self, reason: &str) {
        self.own.incomplete.with_label_values(&[reason]).inc();
    }

    /// Takes in the report of a pass. `exists` tells whether a VPA, as `namespace/name`, is still there.
    pub fn observe(&self, report: &PassReport, exists: impl Fn(&str) -> bool) {
        let (mut by_mode, mut by_size) = (BTreeMap::new(), BTreeMap::new());
        for vpa in &report.vpas {
            let size = size_log2(vpa);
            by_mode.entry((size, vpa.mode.as_str())).or_insert_with(ByMode::default).add(vpa);
            by_size.entry(size).or_insert_with(BySize::default).add(vpa);
            self.by_vpa.observe(vpa, size);
        }
        self.show(&by_mode, &by_size);
        self.own.observe(report);
        self.by_vpa.forget(exists);
    }

    /// Sets the gauges of a pass, all sums at hand: who reads in between would take a part for the whole.
    fn show(&self, by_mode: &BTreeMap<(u32, &str), ByMode>, by_size: &BTreeMap<u32, BySize>) {
        for gauge in [&self.controlled, &self.evictable, &self.vpas_with_evictable, &self.vpas_with_evicted] {
            gauge.reset();
        }
        for ((size, mode), sums) in by_mode {
            let labels = [size.to_string(), (*mode).to_owned()];
            let set = |gauge: &IntGaugeVec, sum: i64| gauge.with_label_values(&labels).set(sum);
            set(&self.controlled, sums.controlled);
            set(&self.vpas_with_evicted, sums.with_evicted);
            if let Some((pods, vpas)) = sums.evictable {
                set(&self.evictable, pods);
                set(&self.vpas_with_evictable, vpas);
            }
        }
        for gauge in [&self.updatable, &self.vpas_with_updatable, &self.vpas_with_updated] {
            gauge.reset();
        }
        for (size, sums) in by_size {
            let labels = [size.to_string()];
            let set = |gauge: &IntGaugeVec, sum: i64| gauge.with_label_values(&labels).set(sum);
            set(&self.vpas_with_updated, sums.with_updated);
            if let Some((pods, vpas)) = sums.updatable {
                set(&self.updatable, pods);
                set(&self.vpas_with_updatable, vpas);
            }
        }
    }
}

/// Sums over the VPAs of one size and mode.
#[derive(Default)]
struct ByMode {
    controlled: i64,
    /// Pods, and VPAs with one.
    evictable: Option<(i64, i64)>,
    with_evicted: i64,
}

impl ByMode {
    fn add(&mut self, vpa: &VpaReport) {
        self.controlled += count(vpa.pods.len());
        add(&mut self.evictable, vpa.tally.evictable);
        self.with_evicted += i64::from(vpa.tally.evicted > 0);
    }
}

/// Sums over the VPAs of one size.
#[derive(Default)]
struct BySize {
    /// Pods, and VPAs with one.
    updatable: Option<(i64, i64)>,
    with_updated: i64,
}

impl BySize {
    fn add(&mut self, vpa: &VpaReport) {
        add(&mut self.updatable, vpa.tally.in_place_updatable);
        self.with_updated += i64::from(vpa.tally.resized > 0);
    }
}

fn add(sums: &mut Option<(i64, i64)>, pods: Option<usize>) {
    if let Some(found) = pods {
        let (pods, vpas) = sums.get_or_insert_default();
        *pods += count(found);
        *vpas += i64::from(found > 0);
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Own {
    fn new(metrics: Metrics<'_>) -> Result<Self, Error> {
        Ok(Self {
            left_alone: metrics.gauge_vec(
                "vpa_updater_pods_left_alone",
                "Pods left alone in the last pass, by reason",
                &["reason"],
            )?,
            incomplete: metrics.counter_vec(
                "vpa_updater_incomplete_passes_total",
                "Passes that were cut off, by reason",
                &["reason"],
            )?,
            update_seconds: metrics.histogram_vec(
                "vpa_updater_update_seconds",
                "Time of an eviction or a resize until the API server's answer, by what it was and how it ended",
                &REQUEST_BUCKETS,
                &["action", "outcome"],
            )?,
            unexpected_restarts: metrics.counter(
                "vpa_updater_unexpected_restarts_total",
                "Containers that restarted on a resize although their resize policy does not ask for it",
            )?,
            evictions_stopped: metrics.gauge(
                "vpa_updater_vpas_with_evictions_stopped",
                "VPAs whose evictions are stopped, since a pod came back with the resources it had",
            )?,
        })
    }

    fn observe(&self, report: &PassReport) {
        let mut left = BTreeMap::new();
        for (_, pod) in report.pods() {
            if let Verdict::Left(reason) = &pod.verdict {
                *left.entry(reason.code()).or_insert(0_i64) += 1;
            }
        }
        self.left_alone.reset();
        left.iter().for_each(|(reason, pods)| self.left_alone.with_label_values(&[reason]).set(*pods));
        let restarted = report.unexpected_restarts.iter().map(|restart| restart.containers.len());
        self.unexpected_restarts.inc_by(restarted.sum::<usize>() as u64);
        let stopped = report.vpas.iter().filter(|vpa| evictions_stopped(vpa)).count();
        self.evictions_stopped.set(count(stopped));
    }
}

fn evictions_stopped(vpa: &VpaReport) -> bool {
    let mut verdicts = vpa.pods.iter().map(|pod| &pod.verdict);
    verdicts.any(|verdict| matches!(verdict, Verdict::Left(Reason::RecreatedUnchanged { .. })))
}

fn size_log2(vpa: &VpaReport) -> u32 {
    vpa.pods.len().checked_ilog2().unwrap_or(0).min(SIZE_LOG2_MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vpa_core::update::{PodReport, Tally, failure};

    use super::*;

    fn report() -> PassReport {
        let pods = vec![PodReport { object: Arc::default(), verdict: Verdict::Resized }; 5];
        let tally = Tally {
            evictable: Some(3),
            in_place_updatable: Some(2),
            evicted: 1,
            resized: 1,
            infeasible_skipped: 1,
            failed_evictions: BTreeMap::from([(failure::EVICTION, 2)]),
            failed_resizes: BTreeMap::from([(failure::RESIZE, 1)]),
        };
        let vpa = VpaReport {
            namespace: "ns".into(),
            name: "v".into(),
            mode: "Recreate".into(),
            handled: true,
            pods,
            tally,
            ..VpaReport::default()
        };
        PassReport { vpas: vec![vpa], complete: true, ..PassReport::default() }
    }

    #[test]
    fn all_metrics_of_the_go_suite_are_there() {
        let registry = Registry::new();
        let metrics = UpdaterMetrics::new(&registry).unwrap();
        metrics.observe(&report(), |_| true);
        metrics.step(step::TOTAL, Duration::from_millis(5));
        let page = vpa_runtime::metrics::render(&registry).unwrap();
        assert_eq!(golden::metrics::missing("updater", &page), Ok(Vec::new()), "{page}");
    }

    #[test]
    fn series_of_a_vpa_end_with_it() {
        let registry = Registry::new();
        let metrics = UpdaterMetrics::new(&registry).unwrap();
        metrics.observe(&report(), |_| true);
        let named = |registry: &Registry| {
            vpa_runtime::metrics::render(registry).unwrap().matches("vpa_name=\"v\"").count()
        };
        assert_eq!(named(&registry), 5);
        metrics.observe(&PassReport::default(), |_| false);
        assert_eq!(named(&registry), 0);
    }
}
