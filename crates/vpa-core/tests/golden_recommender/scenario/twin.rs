//! Lives in which what is handled differently does not occur.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use vpa_core::model::Settings;

use super::Case;
use crate::flags;

/// Deviations that a twin is compared with.
const WITH_TWIN: [&str; 3] = ["settings-end", "zero-is-no-peak", "time-goes-forward"];

pub(super) fn has_twin(case: &Case) -> bool {
    case.deviations.iter().any(|deviation| WITH_TWIN.contains(&deviation.as_str()))
}

pub(super) fn of(case: &Case) -> Result<Case, String> {
    let mut twin = case.clone();
    for deviation in &case.deviations {
        match deviation.as_str() {
            "settings-end" => settings_stay(&mut twin)?,
            "zero-is-no-peak" => without_zeros(&mut twin),
            "time-goes-forward" => without_late_samples(&mut twin)?,
            _ => {}
        }
    }
    Ok(twin)
}

/// Samples of 0 bytes are not reported.
fn without_zeros(case: &mut Case) {
    for event in case.events.iter_mut().filter(|event| event[0].is_i64()) {
        if event[3] == json!(0) {
            event[3] = Value::Null;
        }
    }
}

/// Memory samples and OOM kills that are older than what came before do not come.
fn without_late_samples(case: &mut Case) -> Result<(), String> {
    let interval = flags::parse(&case.flags)?.settings.memory_interval.as_secs();
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let containers = case.containers.clone();
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let pod_of = |container: i64| containers[container as usize].0 as i64;
    for event in &mut case.events {
        let kind = event[0].as_str().unwrap_or("").to_owned();
        match kind.as_str() {
            "" if known.contains(&pod_of(number(&event[1]))) => {
                let (time, container) = (number(&event[0]), number(&event[1]));
                let newest = last.entry(container).or_insert(i64::MIN);
                match event[3].as_i64() {
                    Some(_) if time < *newest => event[3] = Value::Null,
                    Some(bytes) if bytes >= 0 => *newest = time,
                    _ => {}
                }
            }
            "oom" if known.contains(&pod_of(number(&event[2]))) => {
                let (time, container) = (number(&event[1]), number(&event[2]));
                let newest = last.entry(container).or_insert(i64::MIN);
                if time < newest.saturating_sub(interval) {
                    // An OOM kill that is refused in any case, for its place in the list is needed.
                    event[1] = json!(i64::from(i32::MIN));
                } else {
                    *newest = (*newest).max(time);
                }
            }
            "pod" => drop(known.insert(number(&event[1]))),
            "gone" => {
                let pod = number(&event[1]);
                known.remove(&pod);
                last.retain(|container, _| pod_of(*container) != pod);
            }
            "restart" => last.clear(),
            _ => {}
        }
    }
    Ok(())
}

/// Settings of a VPA's own that end are followed by the defaults, spelled out.
fn settings_stay(case: &mut Case) -> Result<(), String> {
    let Settings { memory_interval, memory_interval_count, oom_bump_up_ratio, oom_min_bump_up_bytes, .. } =
        flags::parse(&case.flags)?.settings;
    let names: BTreeSet<_> = case.containers.iter().map(|(_, name)| name.clone()).collect();
    for vpa in case.vpas.iter_mut().skip(1) {
        let mut policies = vpa["containerPolicies"].as_array().cloned().unwrap_or_default();
        let wildcard = policies.iter().any(|policy| policy["containerName"] == "*");
        for name in names.iter().filter(|_| !wildcard) {
            if !policies.iter().any(|policy| policy["containerName"] == name.as_str()) {
                policies.push(json!({"containerName": name}));
            }
        }
        for policy in policies.iter_mut().filter_map(Value::as_object_mut) {
            let defaults = [
                ("memoryAggregationIntervalSeconds", json!(memory_interval.as_secs())),
                ("memoryAggregationIntervalCount", json!(memory_interval_count)),
                ("oomBumpUpRatio", json!(oom_bump_up_ratio.to_string())),
                ("oomMinBumpUp", json!(oom_min_bump_up_bytes.to_string())),
            ];
            for (key, value) in defaults {
                policy.entry(key).or_insert(value);
            }
        }
        vpa["containerPolicies"] = Value::Array(policies);
    }
    Ok(())
}
