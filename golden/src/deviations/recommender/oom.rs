//! OOM kills that the reference overlooks.

use serde_json::{Value, json};

use super::amounts::nanos;

/// The records that should be there besides the reference's.
pub(super) fn overlooked(case: &Value) -> Vec<Value> {
    let statuses = |pod: &Value| pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    let (old, new) = (&case["old"], &case["new"]);
    let before = statuses(old);
    let mut found = Vec::new();
    for status in statuses(new) {
        let killed = |state: &str| {
            let run = &status[state]["terminated"];
            (run["reason"] == "OOMKilled").then(|| run["finishedAt"].clone())
        };
        let record = |time: Value, pod: &Value| {
            json!({
                "namespace": new["metadata"]["namespace"],
                "pod": new["metadata"]["name"],
                "container": status["name"],
                "memoryBytes": request(pod, &status["name"]),
                "time": time,
            })
        };
        match before.iter().find(|other| other["name"] == status["name"]) {
            None => {
                let last = killed("lastState").map(|time| record(time, old));
                found.extend(killed("state").map(|time| record(time, new)).or(last));
            }
            Some(other) => {
                let restarted = status["restartCount"].as_i64() > other["restartCount"].as_i64();
                let waits = status["state"].get("waiting").is_some();
                let known = |time: &Value| {
                    ["state", "lastState"]
                        .iter()
                        .any(|state| other[state]["terminated"]["finishedAt"] == *time)
                };
                let time = killed("lastState").filter(|time| restarted && waits && !known(time));
                found.extend(time.map(|time| record(time, old)));
            }
        }
    }
    found
}

/// Memory request in force for a container, in bytes: what the kubelet reports, else what the spec says.
fn request(pod: &Value, name: &Value) -> i64 {
    let named = |list: &Value| list.as_array().into_iter().flatten().find(|c| c["name"] == *name).cloned();
    let status =
        named(&pod["status"]["containerStatuses"]).filter(|status| status.get("resources").is_some());
    let container = status.or_else(|| named(&pod["spec"]["containers"])).unwrap_or_default();
    let memory = container["resources"]["requests"]["memory"].as_str().and_then(nanos).unwrap_or(0);
    (memory / 1_000_000_000) as i64
}
