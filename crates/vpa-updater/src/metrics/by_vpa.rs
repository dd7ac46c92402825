//! Counters that carry the name of a VPA.

use std::collections::{BTreeMap, BTreeSet};

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
    series: Mutex<BTreeMap<String, Series>>,
}

/// Families and label values.
type Series = BTreeSet<(Family, Vec<String>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Evicted,
    FailedEvictions,
    Updated,
    InfeasibleSkipped,
    FailedUpdates,
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

    /// Counts what was done for a VPA; `size` is the value of `vpa_size_log2`.
    pub(super) fn observe(&self, vpa: &VpaReport, size: &str) {
        let (size, tally) = (size.to_owned(), &vpa.tally);
        let key = format!("{}/{}", vpa.namespace, vpa.name);
        // Nearly all VPAs of nearly all passes.
        if tally.is_nothing() && self.series.lock().contains_key(&key) {
            return;
        }
        let (mode, name, namespace) = (vpa.mode.clone(), vpa.name.clone(), vpa.namespace.clone());
        let plain = vec![size.clone(), name.clone(), namespace.clone()];
        let moded = vec![size.clone(), mode.clone(), name.clone(), namespace.clone()];
        // Also with 0, so that a rate over the series begins with the VPA.
        self.count(vpa, Family::Evicted, moded, tally.evicted);
        self.count(vpa, Family::Updated, plain.clone(), tally.resized);
        if tally.infeasible_skipped > 0 {
            self.count(vpa, Family::InfeasibleSkipped, plain, tally.infeasible_skipped);
        }
        for (reason, count) in &tally.failed_evictions {
            let labels =
                vec![size.clone(), mode.clone(), (*reason).to_owned(), name.clone(), namespace.clone()];
            self.count(vpa, Family::FailedEvictions, labels, *count);
        }
        for (reason, count) in &tally.failed_resizes {
            let labels = vec![size.clone(), (*reason).to_owned(), name.clone(), namespace.clone()];
            self.count(vpa, Family::FailedUpdates, labels, *count);
        }
    }

    fn count(&self, vpa: &VpaReport, family: Family, labels: Vec<String>, count: usize) {
        self.family(family).with_label_values(&labels).inc_by(count as u64);
        let key = format!("{}/{}", vpa.namespace, vpa.name);
        self.series.lock().entry(key).or_default().insert((family, labels));
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
            if !stays {
                for (family, labels) in series.iter() {
                    // It is there, unless somebody removed it already.
                    let _ = self.family(*family).remove_label_values(labels);
                }
            }
            stays
        });
    }
}
