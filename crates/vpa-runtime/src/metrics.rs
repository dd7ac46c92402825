//! Making metrics, and the few that this crate counts itself ([`RuntimeMetrics`]). All other names live in the programs.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::Error;

/// Latency buckets of the programs' main loops, in seconds; the Go suite's.
pub const EXECUTION_BUCKETS: [f64; 23] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0,
    100.0, 120.0, 150.0, 240.0, 300.0,
];

/// Latency buckets of single requests, in seconds.
pub const REQUEST_BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 15.0, 30.0];

/// Makes metrics and registers them.
///
/// All methods fail with [`Error::Other`] on a name that is invalid or taken.
#[derive(Clone, Copy, Debug)]
pub struct Metrics<'a>(pub &'a Registry);

#[allow(clippy::missing_errors_doc, reason = "said once at the type")]
impl Metrics<'_> {
    /// A counter.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.register(name, IntCounter::new(name, help))
    }

    /// Counters by label.
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.register(name, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// Counters of fractions by label.
    pub fn float_counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec, Error> {
        self.register(name, CounterVec::new(Opts::new(name, help), labels))
    }

    /// A gauge of whole numbers.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.register(name, IntGauge::new(name, help))
    }

    /// Gauges of whole numbers by label.
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.register(name, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A gauge of fractions.
    pub fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.register(name, Gauge::new(name, help))
    }

    /// Gauges of fractions by label.
    pub fn float_gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
        self.register(name, GaugeVec::new(Opts::new(name, help), labels))
    }

    /// A histogram.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.register(name, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    /// Histograms by label.
    pub fn histogram_vec(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, Error> {
        self.register(
            name,
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels),
        )
    }

    fn register<M: Collector + Clone + 'static>(
        &self,
        name: &str,
        made: prometheus::Result<M>,
    ) -> Result<M, Error> {
        let metric = made.map_err(|e| Error::other(format!("metric {name}"), e))?;
        self.0.register(Box::new(metric.clone())).map_err(|e| Error::other(format!("metric {name}"), e))?;
        Ok(metric)
    }
}

/// All metrics of a registry in Prometheus' text format.
///
/// # Errors
/// A metric cannot be written down.
pub fn render(registry: &Registry) -> prometheus::Result<String> {
    let mut buffer = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// What the shell counts, the same in every program. Labels have few values: kinds of call, names of stores.
#[derive(Clone, Debug)]
pub struct RuntimeMetrics {
    /// Requests to the API server by kind of call and code; code 0 where none came back.
    pub requests: IntCounterVec,
    /// Time of a request, retries and waiting included, by kind of call.
    pub request_seconds: HistogramVec,
    /// Attempts after the first, by kind of call.
    pub retries: IntCounterVec,
    /// Time spent waiting for `--kube-api-qps`.
    pub throttled_seconds: prometheus::Counter,
    /// Objects in a store.
    pub store_objects: IntGaugeVec,
    /// Times that a store had to list from scratch.
    pub store_lists: IntCounterVec,
    /// Failed lists and watches of a store.
    pub store_errors: IntCounterVec,
    /// States of objects that could not be decoded.
    pub store_bad_objects: IntCounterVec,
    /// Writes by plan and outcome.
    pub writes: IntCounterVec,
    /// Writes that met a conflict and were tried again after reading, by plan.
    pub conflicts: IntCounterVec,
    /// How many writes may be under way at present.
    pub workers: IntGauge,
    /// Writes that wait for their turn, by plan.
    pub queue_length: IntGaugeVec,
    /// 1 while this replica leads.
    pub leading: IntGauge,
    /// 1 for the holder of the lease that this replica waits for, by name.
    pub lease_holder: IntGaugeVec,
}

impl RuntimeMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let make = Metrics(registry);
        let throttled = prometheus::Counter::new(
            "vpa_client_throttled_seconds_total",
            "Time that requests waited for --kube-api-qps.",
        );
        Ok(Self {
            requests: make.counter_vec(
                "vpa_client_requests_total",
                "Attempts of requests to the API server, by kind of call and status code (0: no answer).",
                &["call", "code"],
            )?,
            request_seconds: make.histogram_vec(
                "vpa_client_request_duration_seconds",
                "Time of requests to the API server until the answer, with retries and waiting.",
                &REQUEST_BUCKETS,
                &["call"],
            )?,
            retries: make.counter_vec(
                "vpa_client_retries_total",
                "Attempts of requests to the API server after the first.",
                &["call"],
            )?,
            throttled_seconds: make.register("vpa_client_throttled_seconds_total", throttled)?,
            store_objects: make.gauge_vec("vpa_store_objects", "Objects held from watches.", &["store"])?,
            store_lists: make.counter_vec("vpa_store_lists_total", "Lists from scratch.", &["store"])?,
            store_errors: make.counter_vec(
                "vpa_store_errors_total",
                "Failed lists and watches.",
                &["store"],
            )?,
            store_bad_objects: make.counter_vec(
                "vpa_store_bad_objects_total",
                "States of objects that could not be decoded and were skipped.",
                &["store"],
            )?,
            writes: make.counter_vec(
                "vpa_writes_total",
                "Writes by plan and outcome.",
                &["plan", "outcome"],
            )?,
            conflicts: make.counter_vec(
                "vpa_write_conflicts_total",
                "Writes that met a conflict and were tried again after reading.",
                &["plan"],
            )?,
            workers: make.gauge(
                "vpa_write_workers",
                "Writes that may be under way at once, as the API server's answers allow.",
            )?,
            queue_length: make.gauge_vec(
                "vpa_write_queue_length",
                "Writes of the present cycle that wait for their turn, by plan.",
                &["plan"],
            )?,
            leading: make.gauge("vpa_leading", "Whether this replica leads.")?,
            lease_holder: make.gauge_vec(
                "vpa_lease_holder",
                "1 for the holder of the lease that this replica waits for.",
                &["lease", "holder"],
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_an_error_that_names_it() {
        let registry = Registry::new();
        let make = Metrics(&registry);
        make.counter("a_total", "A.").unwrap().inc();
        let error = make.gauge("a_total", "B.").unwrap_err();
        assert!(error.to_string().contains("metric a_total"), "{error}");
        assert!(make.counter("a-b", "Bad.").is_err());
        assert!(render(&registry).unwrap().contains("a_total 1"));
    }

    #[test]
    fn the_shells_own_metrics_register() {
        RuntimeMetrics::new(&Registry::new()).unwrap();
    }
}
