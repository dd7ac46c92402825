//! Counts in the reference's metrics.

use std::collections::BTreeMap;

use serde_json::Value;

pub(super) type Metrics = serde_json::Map<String, Value>;

const FAILED: &str = "vpa_updater_failed_in_place_update_attempts_total{";

fn is_failure(key: &str, labels: &str) -> bool {
    key.starts_with(FAILED) && key.contains(labels) && key.contains("reason=\"InPlaceUpdate")
}

pub(super) fn count_failures(metrics: &Metrics, labels: &str) -> i64 {
    let of = |(key, value): (&String, &Value)| {
        is_failure(key, labels).then(|| value.as_f64().unwrap_or(0.0) as i64)
    };
    metrics.iter().filter_map(of).sum()
}

pub(super) fn put_failures(metrics: &mut Metrics, labels: &str, failed: &BTreeMap<(String, u32), i64>) {
    metrics.retain(|key, _| !is_failure(key, labels));
    for ((reason, size), count) in failed {
        let key = format!("{FAILED}reason=\"{reason}\",{labels},vpa_size_log2=\"{size}\"}}");
        metrics.insert(key, (*count).into());
    }
}

/// Adds to a number; a number that is 0 then goes, unless it is a counter.
pub(super) fn add(metrics: &mut Metrics, key: &str, more: i64, counter: bool) {
    let now = metrics.get(key).and_then(Value::as_f64).unwrap_or(0.0) as i64 + more;
    if now != 0 || counter {
        metrics.insert(key.to_owned(), now.into());
    } else {
        metrics.remove(key);
    }
}
