//! Metrics of history: those of the Go suite by their names, and how far the load is.

use std::time::Duration;

use prometheus::{Gauge, HistogramVec, IntCounter, IntCounterVec, Registry};
use vpa_runtime::Error;
use vpa_runtime::metrics::Metrics;

const REQUEST_BUCKETS: [f64; 21] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0,
    120.0, 300.0,
];

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct HistoryMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    progress: Gauge,
    samples: IntCounterVec,
    failures: IntCounter,
}

impl HistoryMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub(crate) fn new(registry: &Registry) -> Result<Self, Error> {
        let make = Metrics(registry);
        Ok(Self {
            requests: make.counter_vec(
                "vpa_recommender_prometheus_client_api_requests_count",
                "Requests to Prometheus, by status code (0: no answer) and method.",
                &["code", "method"],
            )?,
            seconds: make.histogram_vec(
                "vpa_recommender_prometheus_client_api_requests_duration_seconds",
                "Time of requests to Prometheus until the answer begins.",
                &REQUEST_BUCKETS,
                &["code", "method"],
            )?,
            progress: make.float_gauge(
                "vpa_recommender_history_progress_ratio",
                "Part of the history from Prometheus that is read, from 0 to 1.",
            )?,
            samples: make.counter_vec(
                "vpa_recommender_history_samples_total",
                "Samples from Prometheus by what became of them: taken, or why not.",
                &["outcome"],
            )?,
            failures: make.counter(
                "vpa_recommender_history_failures_total",
                "Queries of history that failed and were, or will be, made again.",
            )?,
        })
    }

    pub(crate) fn observe_request(&self, code: u16, method: &str, time: Duration) {
        let code = code.to_string();
        self.requests.with_label_values(&[&code, method]).inc();
        self.seconds.with_label_values(&[&code, method]).observe(time.as_secs_f64());
    }

    pub(super) fn observe_progress(&self, part: f64) {
        self.progress.set(part);
    }

    pub(super) fn count_samples(&self, outcome: &str, count: u64) {
        self.samples.with_label_values(&[outcome]).inc_by(count);
    }

    pub(super) fn count_failure(&self) {
        self.failures.inc();
    }
}
