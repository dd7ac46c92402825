//! Metrics of the admission controller, by the names of the Go suite.

use std::time::Duration;

use jiff::Timestamp;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use vpa_core::admit::{Outcome, Report, Reviewed};

/// Buckets of `admission_latency_seconds`, in seconds; the Go suite's.
const LATENCY_BUCKETS: [f64; 21] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0,
    120.0, 300.0,
];

/// Buckets of `execution_latency_seconds`, in seconds; the Go suite's.
const STEP_BUCKETS: [f64; 23] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0,
    100.0, 120.0, 150.0, 240.0, 300.0,
];

/// Buckets of `review_duration_seconds`, in seconds. A review takes about 50 µs without its way over the network, which the
/// Go suite's buckets cannot tell from 10 ms.
const REVIEW_BUCKETS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// A part of the work on a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading the body.
    ReadRequest,
    /// Decoding and deciding.
    Admit,
    /// Writing the answer down.
    BuildResponse,
    /// All of it.
    Total,
}

impl Step {
    const ALL: [Self; 4] = [Self::ReadRequest, Self::Admit, Self::BuildResponse, Self::Total];

    fn label(self) -> &'static str {
        match self {
            Self::ReadRequest => "read_request",
            Self::Admit => "admit",
            Self::BuildResponse => "build_response",
            Self::Total => "total",
        }
    }
}

/// What the webhook counts.
#[derive(Clone, Debug)]
pub struct WebhookMetrics {
    pods: IntCounterVec,
    latency: HistogramVec,
    reviews: HistogramVec,
    /// In the order of [`Step::ALL`], since each review needs them all.
    steps: [Histogram; 4],
    refused: IntCounterVec,
    certificate_end: IntGauge,
}

impl WebhookMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            let name = format!("vpa_admission_controller_{name}");
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)
        };
        let counter = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(format!("vpa_admission_controller_{name}"), help), &[label])
        };
        let steps = histogram(
            "execution_latency_seconds",
            "Time of the parts of a review.",
            &STEP_BUCKETS,
            &["step"],
        )?;
        let metrics = Self {
            pods: counter(
                "admission_pods_total",
                "Pods that were reviewed, by whether they got a patch.",
                "applied",
            )?,
            latency: histogram(
                "admission_latency_seconds",
                "Time of a review.",
                &LATENCY_BUCKETS,
                &["status", "resource"],
            )?,
            reviews: histogram(
                "review_duration_seconds",
                "Time from the head of a request to its answer, by resource and outcome.",
                &REVIEW_BUCKETS,
                &["resource", "outcome"],
            )?,
            steps: Step::ALL.map(|step| steps.with_label_values(&[step.label()])),
            refused: counter(
                "requests_refused_total",
                "Requests that were not reviewed, by reason; with overload and decode the object was admitted as it is.",
                "reason",
            )?,
            certificate_end: IntGauge::new(
                "vpa_admission_controller_certificate_expiry_timestamp_seconds",
                "End of validity of the certificate that is served, as a Unix time. After it the API server calls no more.",
            )?,
        };
        registry.register(Box::new(metrics.pods.clone()))?;
        registry.register(Box::new(metrics.latency.clone()))?;
        registry.register(Box::new(metrics.reviews.clone()))?;
        registry.register(Box::new(steps))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.certificate_end.clone()))?;
        Ok(metrics)
    }

    /// Shows until when the certificate is valid that is served from now on.
    pub fn certificate(&self, end: Timestamp) {
        self.certificate_end.set(end.as_second());
    }

    /// Counts the time of a part.
    pub fn step(&self, step: Step, took: Duration) {
        self.steps[step as usize].observe(took.as_secs_f64());
    }

    /// Counts a review.
    pub fn reviewed(&self, report: &Report, took: Duration) {
        let status = match report.outcome {
            Outcome::Applied => "applied",
            Outcome::Skipped(_) | Outcome::Denied => "skipped",
            Outcome::Failed(_) | Outcome::Pending(_) => "error",
        };
        let outcome = match report.outcome {
            Outcome::Applied => "patched",
            Outcome::Skipped(_) => "unchanged",
            Outcome::Denied => "denied",
            Outcome::Failed(_) => "failed",
            Outcome::Pending(_) => "lookup_timeout",
        };
        let resource = match report.reviewed {
            Reviewed::Pod => "Pod",
            Reviewed::Vpa => "VPA",
            Reviewed::Other => "unknown",
        };
        if report.reviewed == Reviewed::Pod {
            let applied = if report.outcome == Outcome::Applied { "true" } else { "false" };
            self.pods.with_label_values(&[applied]).inc();
        }
        self.latency.with_label_values(&[status, resource]).observe(took.as_secs_f64());
        self.reviews.with_label_values(&[resource, outcome]).observe(took.as_secs_f64());
    }

    /// Counts a request that was not reviewed, by reason: `content_type`, `too_large`, `busy`, `timeout`, `body`, `decode`, or
    /// `overload` where the object was admitted as it is, since there was no time for more.
    pub fn refused(&self, reason: &'static str, took: Duration) {
        self.refused.with_label_values(&[reason]).inc();
        self.latency.with_label_values(&["error", "unknown"]).observe(took.as_secs_f64());
        self.reviews.with_label_values(&["unknown", reason]).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_suites_metrics_are_there() {
        let registry = Registry::new();
        let metrics = WebhookMetrics::new(&registry).unwrap();
        let report = Report { reviewed: Reviewed::Pod, outcome: Outcome::Applied, vpa: None };
        metrics.reviewed(&report, Duration::from_millis(1));
        metrics.step(Step::Total, Duration::from_millis(1));
        metrics.refused("decode", Duration::ZERO);
        let page = vpa_runtime::metrics::render(&registry).unwrap();
        assert_eq!(golden::metrics::missing("admission-controller", &page).unwrap(), Vec::<String>::new());
    }
}
