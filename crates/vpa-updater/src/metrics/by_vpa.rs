//! Counters that carry the name of a VPA.

use hashbrown::HashMap;
use parking_lot::Mutex;
use prometheus::IntCounterVec;
use vpa_core::update::VpaReport;
use vpa_runtime::Error;
use vpa_runtime::metrics::Metrics;

/// What was done and what failed, by VPA, under the Go suite's names. The series of a VPA go when the VPA goes.
#[derive(Debug)]
pub(super) struct CountersByVpa {
    evicted: IntCounterVec,
    failed_evictions: IntCounterVec,
    updated: IntCounterVec,
    infeasible_skipped: IntCounterVec,
    failed_updates: IntCounterVec,
    /// By `namespace/name`.
    series: Mutex<HashMap<String, Vec<Series>>>,
}

/// A series of one VPA: what tells its labels beside the VPA's names, since there are several for each of thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Series {
    family: Family,
    size_log2: u32,
    /// Empty where the family does not tell it.
    mode: Box<str>,
    /// Empty where the family does not tell it.
    reason: &'static str,
}

impl Series {
    /// Values of the labels, in the order of the family.
    fn labels<'a>(&'a self, size: &'a str, namespace: &'a str, name: &'a str) -> Vec<&'a str> {
        let mut labels = vec![size];
        labels.extend([&*self.mode, self.reason].into_iter().filter(|label| !label.is_empty()));
        labels.extend([name, namespace]);
        labels
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Evicted,
    FailedEvictions,
    Updated,
    InfeasibleSkipped,
    FailedUpdates,
}

impl Family {
    fn tells_mode(self) -> bool {
        matches!(self, Self::Evicted | Self::FailedEvictions)
    }
}

impl CountersByVpa {
    pub(super) fn new(metrics: Metrics<'_>) -> Result<Self, Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            metrics.counter_vec(&format!("vpa_updater_{name}"), help, labels)
        };
        Ok(Self {
            evicted: counter(
                "evicted_pods_total",
                "Pods evicted",
                &["vpa_size_log2", "update_mode", "vpa_name", "vpa_namespace"],
            )?,
            failed_evictions: counter(
                "failed_eviction_attempts_total",
                "Evictions that failed",
                &["vpa_size_log2", "update_mode", "reason", "vpa_name", "vpa_namespace"],
            )?,
            updated: counter(
                "in_place_updated_pods_total",
                "Pods resized in place",
                &["vpa_size_log2", "vpa_name", "vpa_namespace"],
            )?,
            infeasible_skipped: counter(
                "in_place_infeasible_skip_pods_total",
                "Pods skipped since their node cannot take the resize",
                &["vpa_size_log2", "vpa_name", "vpa_namespace"],
            )?,
            failed_updates: counter(
                "failed_in_place_update_attempts_total",
                "Resizes in place that failed",
                &["vpa_size_log2", "reason", "vpa_name", "vpa_namespace"],
            )?,
            series: Mutex::default(),
        })
    }

    /// Counts what was done for a VPA.
    pub(super) fn observe(&self, vpa: &VpaReport, size_log2: u32) {
        let tally = &vpa.tally;
        let mut all = self.series.lock();
        let own = all.entry(vpa.vpa()).or_default();
        // Nearly all VPAs of nearly all passes.
        if tally.is_nothing() && !own.is_empty() {
            return;
        }
        let mut count = |family: Family, reason: &'static str, count: usize| {
            let mode = if family.tells_mode() { vpa.mode.as_str().into() } else { Box::default() };
            let series = Series { family, size_log2, mode, reason };
            let size = size_log2.to_string();
            let labels = series.labels(&size, &vpa.namespace, &vpa.name);
            self.family(family).with_label_values(&labels).inc_by(count as u64);
            if !own.contains(&series) {
                own.push(series);
                own.shrink_to_fit();
            }
        };
        // Also with 0, so that a rate over the series begins with the VPA.
        count(Family::Evicted, "", tally.evicted);
        count(Family::Updated, "", tally.resized);
        if tally.infeasible_skipped > 0 {
            count(Family::InfeasibleSkipped, "", tally.infeasible_skipped);
        }
        tally.failed_evictions.iter().for_each(|(reason, n)| count(Family::FailedEvictions, reason, *n));
        tally.failed_resizes.iter().for_each(|(reason, n)| count(Family::FailedUpdates, reason, *n));
    }

    fn family(&self, family: Family) -> &IntCounterVec {
        match family {
            Family::Evicted => &self.evicted,
            Family::FailedEvictions => &self.failed_evictions,
            Family::Updated => &self.updated,
            Family::InfeasibleSkipped => &self.infeasible_skipped,
            Family::FailedUpdates => &self.failed_updates,
        }
    }

    /// Removes the series of VPAs that are gone.
    pub(super) fn forget(&self, exists: impl Fn(&str) -> bool) {
        self.series.lock().retain(|vpa, series| {
            let stays = exists(vpa);
            if !stays && let Some((namespace, name)) = vpa.split_once('/') {
                for series in series.iter() {
                    let size = series.size_log2.to_string();
                    // It is there, unless somebody removed it already.
                    let _ = self
                        .family(series.family)
                        .remove_label_values(&series.labels(&size, namespace, name));
                }
            }
            stays
        });
    }
}
