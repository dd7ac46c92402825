//! Lives of a VPA in which something happens that is handled differently.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::amounts::nanos;
use super::{fit, mark};

pub(super) fn applies(input: &Value) -> bool {
    let walk = Walk::new(input);
    may_be_unfit(input) || own_minimum(input) || ends_settings(input) || walk.differs()
}

pub(super) fn rewrite(case: &mut Value) {
    let walk = Walk::new(case);
    if may_be_unfit(case) {
        for entry in case["recommendations"].as_array_mut().into_iter().flatten() {
            fit::rewrite(&mut entry["recommendation"]);
        }
        mark(case, "fit");
    }
    if own_minimum(case) {
        mark(case, "own-minimum");
    }
    if ends_settings(case) {
        mark(case, "settings-end");
    }
    if walk.opened_by_zero {
        mark(case, "zero-is-no-peak");
    }
    if walk.late {
        mark(case, "time-goes-forward");
    } else if !walk.shown.is_empty() {
        // Only what is shown differs.
        for (entry, container, time) in &walk.shown {
            for row in case["recommendations"][*entry]["containers"].as_array_mut().into_iter().flatten() {
                if row[0] == container.0.as_str() && row[1] == container.1.as_str() {
                    row[6] = (*time).into();
                }
            }
        }
        mark(case, "last-memory-time");
    }
}

fn flag(case: &Value, name: &str, default: f64) -> f64 {
    case["flags"][name].as_str().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn per_vpa_config(case: &Value) -> bool {
    case["flags"]["feature-gates"].as_str().is_some_and(|gates| gates.contains("PerVPAConfig=true"))
}

/// Whether the flags allow for zeros or for bounds on the wrong side.
fn may_be_unfit(case: &Value) -> bool {
    let minimum = ["pod-recommendation-min-cpu-millicores", "pod-recommendation-min-memory-mb"];
    let zero = minimum.iter().any(|name| flag(case, name, 1.0) < 0.01);
    let inverted = ["cpu", "memory"].iter().any(|resource| {
        let target = flag(case, &format!("target-{resource}-percentile"), 0.9);
        flag(case, &format!("recommendation-lower-bound-{resource}-percentile"), 0.5) > target
            || flag(case, &format!("recommendation-upper-bound-{resource}-percentile"), 0.95) < target
    });
    zero || inverted
}

fn policies(case: &Value) -> impl Iterator<Item = &Value> {
    let vpas = case["vpas"].as_array().into_iter().flatten();
    vpas.flat_map(|vpa| vpa["containerPolicies"].as_array().into_iter().flatten())
}

/// Whether a VPA allows less than the pod's minimum.
fn own_minimum(case: &Value) -> bool {
    let cpu = flag(case, "pod-recommendation-min-cpu-millicores", 25.0) * 1e6;
    let memory = flag(case, "pod-recommendation-min-memory-mb", 250.0) * 1_048_576e9;
    policies(case).any(|policy| {
        let below = |resource: &str, minimum: f64| {
            let own = policy["minAllowed"][resource].as_str().and_then(nanos);
            own.is_some_and(|own| own > 0 && (own as f64) < minimum)
        };
        below("cpu", cpu) || below("memory", memory)
    })
}

const SETTINGS: [&str; 4] =
    ["memoryAggregationIntervalCount", "memoryAggregationIntervalSeconds", "oomBumpUpRatio", "oomMinBumpUp"];

/// Whether a VPA's own settings end with a change of its policy.
fn ends_settings(case: &Value) -> bool {
    if !per_vpa_config(case) {
        return false;
    }
    let settings = |vpa: &Value| -> BTreeSet<(String, &str)> {
        let list = vpa["containerPolicies"].as_array().cloned().unwrap_or_default();
        let names = |policy: &Value| policy["containerName"].as_str().unwrap_or("").to_owned();
        list.iter()
            .flat_map(|policy| {
                SETTINGS.iter().filter(|key| policy.get(**key).is_some()).map(|key| (names(policy), *key))
            })
            .collect()
    };
    let mut present = settings(&case["vpas"][0]);
    for event in case["events"].as_array().into_iter().flatten().filter(|event| event[0] == "vpa") {
        let next = settings(&case["vpas"][event[1].as_u64().unwrap_or(0) as usize]);
        if !present.is_subset(&next) {
            return true;
        }
        present = next;
    }
    false
}

#[derive(Default)]
struct Container {
    window_end: Option<i64>,
    /// Time of the last memory sample, here and in the reference.
    last: Option<i64>,
    reference: Option<i64>,
}

/// What the memory windows of a case go through.
#[derive(Default)]
struct Walk {
    /// A sample of 0 bytes opens a window.
    opened_by_zero: bool,
    /// A sample or an OOM kill is taken in the one and refused in the other.
    late: bool,
    /// Recommendation, container and time where the last memory time that is shown differs.
    shown: Vec<(usize, (String, String), i64)>,
}

impl Walk {
    fn new(case: &Value) -> Self {
        let mut walk = Self::default();
        let mut containers: BTreeMap<u64, Container> = BTreeMap::new();
        let mut pods = BTreeSet::new();
        let mut vpa = 0;
        let mut recommendation = 0;
        let names: Vec<_> = case["containers"].as_array().cloned().unwrap_or_default();
        let pod_of = |container: u64| names[container as usize][0].as_u64().unwrap_or(0);
        for event in case["events"].as_array().into_iter().flatten() {
            let number = |place: usize| event[place].as_i64();
            let index = number(1).unwrap_or(0) as u64;
            match event[0].as_str() {
                None => {
                    let (time, bytes) = (number(0).unwrap_or(0), number(3));
                    if let Some(bytes) = bytes.filter(|bytes| *bytes >= 0 && pods.contains(&pod_of(index))) {
                        let interval = interval(case, vpa, &names[index as usize][1]);
                        walk.sample(containers.entry(index).or_default(), time, bytes, interval);
                    }
                }
                Some("oom") => {
                    let container = number(2).unwrap_or(0) as u64;
                    if pods.contains(&pod_of(container)) {
                        let interval = interval(case, vpa, &names[container as usize][1]);
                        walk.oom(containers.entry(container).or_default(), number(1).unwrap_or(0), interval);
                    }
                }
                Some("pod") => drop(pods.insert(index)),
                Some("gone") => {
                    pods.remove(&index);
                    containers.retain(|container, _| pod_of(*container) != index);
                }
                Some("vpa") => vpa = index as usize,
                Some("restart") => containers.clear(),
                Some("recommend") => {
                    for (container, state) in containers.iter().filter(|(_, s)| s.last != s.reference) {
                        let name = &names[*container as usize];
                        let pod = &case["pods"][name[0].as_u64().unwrap_or(0) as usize]["name"];
                        let key = (
                            pod.as_str().unwrap_or("").to_owned(),
                            name[1].as_str().unwrap_or("").to_owned(),
                        );
                        walk.shown.extend(state.last.map(|time| (recommendation, key, time)));
                    }
                    recommendation += 1;
                }
                Some(_) => {}
            }
        }
        walk
    }

    fn differs(&self) -> bool {
        self.opened_by_zero || self.late || !self.shown.is_empty()
    }

    fn sample(&mut self, container: &mut Container, time: i64, bytes: i64, interval: i64) {
        let here = container.last.is_none_or(|last| time >= last);
        let reference = container.reference.is_none_or(|last| time >= last);
        self.late |= here != reference;
        if !here {
            return;
        }
        container.last = Some(time);
        container.reference = Some(time);
        if !inside(container, time) && bytes == 0 {
            self.opened_by_zero = true;
            return;
        }
        open(container, time, interval);
    }

    fn oom(&mut self, container: &mut Container, time: i64, interval: i64) {
        let here = container.last.is_none_or(|last| time >= last - interval);
        let reference = container.reference.is_none_or(|last| time >= last - interval);
        self.late |= here != reference;
        if here {
            container.last = container.last.max(Some(time));
            container.reference = Some(time);
            open(container, time, interval);
        }
    }
}

fn inside(container: &Container, time: i64) -> bool {
    container.window_end.is_some_and(|end| time < end)
}

fn open(container: &mut Container, time: i64, interval: i64) {
    if !inside(container, time) {
        let end = container.window_end.unwrap_or(time);
        container.window_end = Some(end + (time - end) / interval * interval + interval);
    }
}

/// Length of a container's memory interval in seconds.
fn interval(case: &Value, vpa: usize, container: &Value) -> i64 {
    let list = case["vpas"][vpa]["containerPolicies"].as_array().cloned().unwrap_or_default();
    let named = list.iter().find(|policy| policy["containerName"] == *container);
    let policy = named.or_else(|| list.iter().rfind(|policy| policy["containerName"] == "*"));
    let own =
        policy.filter(|_| per_vpa_config(case)).and_then(|p| p["memoryAggregationIntervalSeconds"].as_i64());
    let text = case["flags"]["memory-aggregation-interval"].as_str().unwrap_or("24h");
    let (number, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    own.unwrap_or_else(|| number.parse::<i64>().unwrap_or(24) * unit).max(1)
}
