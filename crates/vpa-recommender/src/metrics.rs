//! Metrics, by the names of the Go suite; those without a counterpart there are marked as own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus::{Gauge, Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use vpa_api::Quantity;
use vpa_api::vpa::VerticalPodAutoscalerStatus;
use vpa_core::model::{ObservedPod, Quality, Resource};
use vpa_core::policy::Mode;
use vpa_core::recommend::{CycleReport, StatusWrite, VpaReport};
use vpa_runtime::Error;
use vpa_runtime::metrics::{EXECUTION_BUCKETS, Metrics};

/// Value of the label `client_name` of reads from metrics.k8s.io.
const METRICS_CLIENT: &str = "default-metrics-client";

/// Version of the API that is read; the API server converts objects of others.
const API: &str = "v1";

const LATENCY_BUCKETS: [f64; 19] = [
    1.0, 2.0, 5.0, 7.5, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 90.0, 120.0, 150.0, 180.0, 240.0, 300.0, 600.0,
    900.0, 1800.0,
];

const RELATIVE_BUCKETS: [f64; 29] = [
    -1.0, -0.75, -0.5, -0.25, -0.1, -0.05, -0.025, -0.01, -0.005, -0.0025, -0.001, 0.0, 0.001, 0.0025, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0,
];

/// Buckets of amounts: each twice the one before.
fn doubling(first: f64) -> Vec<f64> {
    std::iter::successors(Some(first), |value| Some(value * 2.0)).take(17).collect()
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct RecommenderMetrics {
    objects: IntGaugeVec,
    latency: Histogram,
    execution: HistogramVec,
    aggregates: IntGauge,
    responses: IntCounterVec,
    resources: IntCounterVec,
    relative_diffs: HistogramVec,
    missing: IntCounterVec,
    cpu_over: HistogramVec,
    memory_over: HistogramVec,
    cpu_lower: HistogramVec,
    memory_lower: HistogramVec,
    cpu_recommendations: HistogramVec,
    memory_recommendations: HistogramVec,
    changes: HistogramVec,
    ooms: IntCounterVec,
    samples: IntCounterVec,
    held: IntGauge,
    deferred: IntGauge,
    saved: IntCounterVec,
    unsaved: Gauge,
    first: Histogram,
    waiting_ooms: IntGauge,
}

impl RecommenderMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub(crate) fn new(registry: &Registry) -> Result<Self, Error> {
        let make = Metrics(registry);
        let (cores, bytes) = (doubling(0.01), doubling(1e6));
        let by_mode = ["update_mode", "recommendation_missing"];
        let by_mode_and_oom = ["update_mode", "recommendation_missing", "is_oom"];
        Ok(Self {
            objects: make.gauge_vec(
                "vpa_recommender_vpa_objects_count",
                "VPAs that are served.",
                &["update_mode", "has_recommendation", "api", "matches_pods", "unsupported_config"],
            )?,
            latency: make.histogram(
                "vpa_recommender_recommendation_latency_seconds",
                "Time from the creation of a VPA to its first recommendation.",
                &LATENCY_BUCKETS,
            )?,
            execution: make.histogram_vec(
                "vpa_recommender_execution_latency_seconds",
                "Time of the steps of a cycle.",
                &EXECUTION_BUCKETS,
                &["step"],
            )?,
            aggregates: make.gauge(
                "vpa_recommender_aggregate_container_states_count",
                "Histories kept, one for each container name and set of pod labels.",
            )?,
            responses: make.counter_vec(
                "vpa_recommender_metric_server_responses",
                "Reads of usage from metrics.k8s.io.",
                &["is_error", "client_name"],
            )?,
            resources: make.counter_vec(
                "vpa_resources_get_resources_count",
                "Look-ups of a container's resources, by where they were found.",
                &["source"],
            )?,
            relative_diffs: make.histogram_vec(
                "vpa_quality_usage_recommendation_relative_diffs",
                "Usage minus recommendation, as part of the recommendation.",
                &RELATIVE_BUCKETS,
                &["update_mode", "resource", "is_oom"],
            )?,
            missing: make.counter_vec(
                "vpa_quality_usage_sample_missing_recommendation_count",
                "Usage samples of containers that should have had a recommendation and had none.",
                &["update_mode", "resource", "is_oom"],
            )?,
            cpu_over: make.histogram_vec(
                "vpa_quality_cpu_recommendation_over_usage_diffs_cores",
                "By how much CPU recommendations were above usage.",
                &cores,
                &by_mode,
            )?,
            memory_over: make.histogram_vec(
                "vpa_quality_mem_recommendation_over_usage_diffs_bytes",
                "By how much memory recommendations were above usage.",
                &bytes,
                &by_mode_and_oom,
            )?,
            cpu_lower: make.histogram_vec(
                "vpa_quality_cpu_recommendation_lower_equal_usage_diffs_cores",
                "By how much CPU recommendations were below usage, or at it.",
                &cores,
                &by_mode,
            )?,
            memory_lower: make.histogram_vec(
                "vpa_quality_mem_recommendation_lower_equal_usage_diffs_bytes",
                "By how much memory recommendations were below usage, or at it.",
                &bytes,
                &by_mode_and_oom,
            )?,
            cpu_recommendations: make.histogram_vec(
                "vpa_quality_cpu_recommendations_cores",
                "CPU recommendations in force as usage samples came.",
                &cores,
                &["update_mode"],
            )?,
            memory_recommendations: make.histogram_vec(
                "vpa_quality_mem_recommendations_bytes",
                "Memory recommendations in force as usage samples came.",
                &bytes,
                &["update_mode", "is_oom"],
            )?,
            changes: make.histogram_vec(
                "vpa_quality_relative_recommendation_changes",
                "Changes from one recommendation to the next, as part of the former.",
                &RELATIVE_BUCKETS,
                &["update_mode", "resource", "vpa_size_log2"],
            )?,
            ooms: make.counter_vec(
                "vpa_recommender_oom_kills_total",
                "OOM kills by what became of them: taken, or why not.",
                &["outcome"],
            )?,
            samples: make.counter_vec(
                "vpa_recommender_usage_samples_total",
                "Usage samples by what became of them: taken, or why not.",
                &["outcome"],
            )?,
            held: make.gauge(
                "vpa_recommender_targets_held",
                "VPAs whose target cannot be found at present and whose history is kept for the time being.",
            )?,
            deferred: make.gauge(
                "vpa_recommender_checkpoints_deferred",
                "Checkpoints that did not get their turn in the last cycle.",
            )?,
            saved: make.counter_vec(
                "vpa_recommender_writes_saved_total",
                "Writes that a cycle did without: the status or checkpoint said nothing new, or little enough to wait.",
                &["kind", "reason"],
            )?,
            unsaved: make.float_gauge(
                "vpa_recommender_oldest_unsaved_checkpoint_seconds",
                "Age of the oldest sample that is in no checkpoint yet; a crash now would lose what is younger.",
            )?,
            waiting_ooms: make.gauge(
                "vpa_recommender_oom_kills_waiting",
                "OOM kills that wait for the next cycle, or for their pod to be known.",
            )?,
            first: make.histogram(
                "vpa_recommender_first_recommendation_wait_seconds",
                "Time from when there were both the VPA and a pod of it to its first recommendation.",
                &LATENCY_BUCKETS,
            )?,
        })
    }

    /// Time of a step of the cycle.
    pub(crate) fn observe_step(&self, step: &str, time: Duration) {
        self.execution.with_label_values(&[step]).observe(time.as_secs_f64());
    }

    /// A read of usage.
    pub(crate) fn observe_read(&self, failed: bool) {
        self.responses.with_label_values(&[text(failed), METRICS_CLIENT]).inc();
    }

    /// Usage samples and what became of them.
    pub(crate) fn count_samples(&self, outcome: &str, count: u64) {
        self.samples.with_label_values(&[outcome]).inc_by(count);
    }

    /// An OOM kill and what became of it.
    pub(crate) fn count_oom(&self, outcome: &str) {
        self.ooms.with_label_values(&[outcome]).inc();
    }

    /// OOM kills that wait.
    pub(crate) fn observe_inbox(&self, waiting: usize) {
        self.waiting_ooms.set(clamp(waiting));
    }

    /// Where the request of an OOM-killed container was found.
    pub(crate) fn observe_oom_source(&self, pod: &ObservedPod, container: &str) {
        let in_status = pod.container(container).is_some_and(|container| container.reported);
        let source = if in_status { "Pod.Status.ContainerStatuses" } else { "Pod.Spec.Containers" };
        self.resources.with_label_values(&[source]).inc();
    }

    /// What a cycle found.
    pub(crate) fn observe_report(&self, report: &CycleReport) {
        let mut counts: BTreeMap<_, i64> = BTreeMap::new();
        for vpa in &report.vpas {
            let mode = vpa.mode.unwrap_or(Mode::Recreate).as_str();
            *counts.entry((mode, vpa.has_recommendation, vpa.pods > 0, vpa.unsupported)).or_default() += 1;
        }
        // Combinations that are no more would otherwise stay.
        self.objects.reset();
        for ((mode, has, matches, unsupported), count) in counts {
            let labels = [mode, text(has), API, text(matches), text(unsupported)];
            self.objects.with_label_values(&labels).set(count);
        }
        let saved = [
            ("status", "unchanged", report.statuses_unchanged),
            ("status", "small", report.statuses_waiting),
            ("checkpoint", "unchanged", report.checkpoints_unchanged),
            ("checkpoint", "young", report.checkpoints_waiting),
        ];
        for (kind, reason, count) in saved {
            self.saved.with_label_values(&[kind, reason]).inc_by(count as u64);
        }
        self.aggregates.set(clamp(report.aggregates));
        self.held.set(clamp(report.vpas.iter().filter(|vpa| vpa.held).count()));
    }

    /// Checkpoints that have to wait.
    pub(crate) fn observe_deferred(&self, count: usize) {
        self.deferred.set(clamp(count));
    }

    /// Age of the oldest sample that is in no checkpoint.
    pub(crate) fn observe_unsaved(&self, age: SignedDuration) {
        self.unsaved.set(age.as_secs_f64().max(0.0));
    }

    /// A status that is written: how long its first recommendation took, or how the new one differs.
    pub(crate) fn observe_status(&self, write: &StatusWrite, report: Option<&VpaReport>, now: Timestamp) {
        if write.is_first() {
            let age = |since: Timestamp| now.duration_since(since).as_secs_f64().max(0.0);
            if let Some(created) = &write.object.metadata.creation_timestamp {
                self.latency.observe(age(created.0));
            }
            write.awaited_since.into_iter().for_each(|since| self.first.observe(age(since)));
            return;
        }
        let mode = report.and_then(|report| report.mode).map_or("", Mode::as_str);
        let size = size_log2(report.map_or(0, |report| report.pods));
        for (resource, old, new) in changes(write.object.status.as_ref(), &write.status) {
            self.changes.with_label_values(&[mode, &resource, &size]).observe((new - old) / old);
        }
    }

    /// How usage samples compared with the recommendations in force.
    pub(crate) fn observe_quality(&self, samples: &[Quality]) {
        for sample in samples {
            let mode = sample.mode.map_or("", Mode::as_str);
            let oom = text(sample.oom);
            let resource = sample.resource.as_str();
            let missing = text(sample.recommended.is_none());
            let recommended = sample.recommended.unwrap_or(0.0);
            match sample.recommended {
                None => self.missing.with_label_values(&[mode, resource, oom]).inc(),
                Some(amount) => {
                    let relative = (sample.usage - amount) / amount;
                    self.relative_diffs.with_label_values(&[mode, resource, oom]).observe(relative);
                    match sample.resource {
                        Resource::Cpu => self.cpu_recommendations.with_label_values(&[mode]).observe(amount),
                        Resource::Memory => {
                            self.memory_recommendations.with_label_values(&[mode, oom]).observe(amount);
                        }
                    }
                }
            }
            let over = recommended > sample.usage;
            let diff = (sample.usage - recommended).abs();
            match (sample.resource, over) {
                (Resource::Cpu, true) => self.cpu_over.with_label_values(&[mode, missing]).observe(diff),
                (Resource::Cpu, false) => self.cpu_lower.with_label_values(&[mode, missing]).observe(diff),
                (Resource::Memory, true) => {
                    self.memory_over.with_label_values(&[mode, missing, oom]).observe(diff);
                }
                (Resource::Memory, false) => {
                    self.memory_lower.with_label_values(&[mode, missing, oom]).observe(diff);
                }
            }
        }
    }
}

fn text(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn clamp(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Size of a VPA's set of pods as the metrics write it: whole powers of two, at most 2^20.
fn size_log2(pods: usize) -> String {
    pods.checked_ilog2().unwrap_or(0).min(20).to_string()
}

/// Resource, old and new amount of every uncapped target that was there before.
fn changes(
    old: Option<&VerticalPodAutoscalerStatus>,
    new: &VerticalPodAutoscalerStatus,
) -> Vec<(String, f64, f64)> {
    let containers = |status: &VerticalPodAutoscalerStatus| {
        let recommendation = status.recommendation.as_ref();
        recommendation
            .and_then(|recommendation| recommendation.container_recommendations.clone())
            .unwrap_or_default()
    };
    let before = old.map(containers).unwrap_or_default();
    let mut changes = Vec::new();
    for container in containers(new) {
        let same = before.iter().find(|other| other.container_name == container.container_name);
        let Some(old) = same.and_then(|same| same.uncapped_target.as_ref()) else { continue };
        for (resource, amount) in container.uncapped_target.iter().flatten() {
            let was = old.get(resource).map_or(0.0, Quantity::as_f64);
            if was > 0.0 {
                changes.push((resource.to_string(), was, amount.as_f64()));
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::HistoryMetrics;
    use vpa_runtime::metrics::render;

    #[test]
    fn names_types_labels_and_buckets_are_those_of_the_go_suite() {
        let registry = Registry::new();
        let metrics = RecommenderMetrics::new(&registry).unwrap();
        metrics.observe_step("total", Duration::from_secs(1));
        metrics.observe_read(false);
        metrics.objects.with_label_values(&["Off", "true", "v1", "true", "false"]).set(1);
        metrics.observe_oom_source(&ObservedPod::default(), "c");
        metrics.changes.with_label_values(&["Off", "cpu", "1"]).observe(0.1);
        let sample = |resource, usage, recommended| Quality {
            mode: Some(Mode::Off),
            resource,
            usage,
            recommended,
            oom: false,
        };
        metrics.observe_quality(&[
            sample(Resource::Cpu, 1.0, Some(2.0)),
            sample(Resource::Cpu, 1.0, Some(0.5)),
            sample(Resource::Cpu, 1.0, None),
            sample(Resource::Memory, 1.0, Some(2.0)),
            sample(Resource::Memory, 1.0, Some(0.5)),
        ]);
        let history = HistoryMetrics::new(&registry).unwrap();
        history.observe_request(200, "post", Duration::from_secs(1));
        let missing = golden::metrics::missing("recommender", &render(&registry).unwrap()).unwrap();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn sizes_are_powers_of_two() {
        let cases = [(0, "0"), (1, "0"), (2, "1"), (3, "1"), (4, "2"), (usize::MAX, "20")];
        for (pods, want) in cases {
            assert_eq!(size_log2(pods), want, "{pods}");
        }
    }
}
