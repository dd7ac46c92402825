//! Right answers to whole passes.

use serde_json::Value;

use super::json::{list, number};

/// Whether more pods may be updated than the rate limit lets through in a pass, in the first loop.
pub(super) fn runs_out_of_rate(input: &Value) -> bool {
    let rate = number(input, "/flags/evictionRateLimit").unwrap_or(-1.0);
    let burst = number(input, "/flags/evictionRateBurst").unwrap_or(1.0);
    let interval = number(input, "/flags/updaterIntervalSeconds").unwrap_or(60.0);
    let fraction = number(input, "/flags/evictionTolerance").unwrap_or(0.5);
    let vpas = list(input, "/loops/0/vpas");
    let pods = list(input, "/loops/0/pods").len() as f64;
    rate > 0.0
        && burst > 0.0
        && vpas.len() == 1
        && (pods * fraction).floor() > burst + (rate * interval).floor()
}

/// Sets the gauges that the reference leaves out: how many VPAs had pods to update, and had some updated.
pub(super) fn rewrite_rate(case: &mut Value) {
    let Some(loops) = case["loops"].as_array_mut() else { return };
    for one in loops {
        let updated = one["want"]["actions"].as_object().is_some_and(|actions| !actions.is_empty());
        let Some(metrics) = one["want"]["metrics"].as_object_mut() else { continue };
        let found = |prefix: &str| {
            let label = |key: &String| key.strip_prefix(prefix).map(str::to_owned);
            metrics.keys().find_map(label)
        };
        let mut more = Vec::new();
        if let Some(labels) = found("vpa_updater_evictable_pods_total") {
            more.push(format!("vpa_updater_vpas_with_evictable_pods_total{labels}"));
            more.extend(updated.then(|| format!("vpa_updater_vpas_with_evicted_pods_total{labels}")));
        }
        if let Some(labels) = found("vpa_updater_in_place_updatable_pods_total") {
            more.push(format!("vpa_updater_vpas_with_in_place_updatable_pods_total{labels}"));
            more.extend(
                updated.then(|| format!("vpa_updater_vpas_with_in_place_updated_pods_total{labels}")),
            );
        }
        metrics.extend(more.into_iter().map(|key| (key, 1.into())));
    }
}
