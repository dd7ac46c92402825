//! A plain model of groups and budgets, to say what right answers are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::json::{annotations, list, number, text};

/// Namespace, kind and name of an owner.
type Owner = (String, String, String);

/// One group of a case.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    configured: i64,
    pending: i64,
    running: i64,
    tolerance: i64,
    pub(super) evicted: i64,
    pub(super) resized: i64,
    resizing: i64,
    pub(super) below_min: bool,
}

impl Group {
    pub(super) fn disruptable(&self) -> bool {
        let gone = self.evicted + self.resized;
        self.running - gone > self.configured - self.tolerance
            || (self.tolerance == 0 && self.configured == self.running && gone == 0)
    }
}

/// The pods of a case and their groups.
pub(super) struct Scene {
    pub(super) pods: Vec<Value>,
    pub(super) groups: BTreeMap<Owner, Group>,
    unknown_owner: bool,
    lifted_without_boost: bool,
}

impl Scene {
    pub(super) fn new(case: &Value) -> Self {
        let pods = list(case, "/pods").to_vec();
        let mut members: BTreeMap<Owner, Vec<&Value>> = BTreeMap::new();
        for pod in &pods {
            members.entry(owner(pod)).or_default().push(pod);
        }
        let min =
            number(case, "/vpa/spec/updatePolicy/minReplicas").or_else(|| number(case, "/flags/minReplicas"));
        let min = min.unwrap_or(2.0) as i64;
        let fraction = number(case, "/flags/evictionTolerance").unwrap_or(0.5);
        let resizes = text(case, "/vpa/spec/updatePolicy/updateMode").starts_with("InPlace");
        let skip = resizes && case.pointer("/flags/inPlaceSkipDisruptionBudget") == Some(&Value::Bool(true));
        let boosts =
            case.pointer("/featureGates/CPUStartupBoost") == Some(&Value::Bool(true)) && vpa_boosts(case);
        let (mut unknown_owner, mut lifted_without_boost) = (false, false);
        let mut groups = BTreeMap::new();
        for (owner, pods) in members {
            let live = pods.len() as i64;
            unknown_owner |= !KNOWN.contains(&owner.1.as_str());
            let boosted =
                pods.iter().any(|pod| annotations(pod).any(|(key, _)| key.starts_with(super::BOOST)));
            if live < min && !skip && !(boosted && boosts) {
                lifted_without_boost |= boosted;
                continue;
            }
            let configured = configured(case, &owner, live);
            if configured == 0 {
                continue;
            }
            let count = |test: fn(&Value) -> bool| pods.iter().filter(|pod| test(pod)).count() as i64;
            groups.insert(
                owner,
                Group {
                    configured,
                    pending: count(is_pending),
                    running: live - count(is_pending),
                    tolerance: (configured as f64 * fraction) as i64,
                    resizing: count(is_resizing),
                    below_min: live < min && skip,
                    ..Group::default()
                },
            );
        }
        Self { pods, groups, unknown_owner, lifted_without_boost }
    }

    pub(super) fn has_unknown_owner(&self) -> bool {
        self.unknown_owner
    }

    pub(super) fn is_lifted_without_boost(&self) -> bool {
        self.lifted_without_boost
    }

    pub(super) fn group_mut(&mut self, pod: &Value) -> Option<&mut Group> {
        self.groups.get_mut(&owner(pod))
    }

    pub(super) fn group(&self, pod: &Value) -> Option<&Group> {
        self.groups.get(&owner(pod))
    }

    pub(super) fn show(&self) -> Value {
        let show = |(owner, group): (&Owner, &Group)| {
            json!({
                "namespace": owner.0, "kind": owner.1, "name": owner.2,
                "configured": group.configured, "pending": group.pending, "running": group.running,
                "evictionTolerance": group.tolerance, "evicted": group.evicted,
                "inPlaceUpdateInitiated": group.resized, "inPlaceUpdateOngoing": group.resizing,
                "belowMinReplicas": group.below_min, "isPodDisruptable": group.disruptable(),
            })
        };
        self.groups.iter().map(show).collect()
    }

    /// Puts right answers to evictions in place of the reference's. Whether the fallback of a pod in a resize is due is
    /// taken from the reference, which asks its budget too, but has none for unknown owners.
    pub(super) fn rewrite_evictions(mut self, case: &mut Value) {
        let due: Vec<bool> =
            list(case, "/want/canEvict").iter().map(|can| can == &Value::Bool(true)).collect();
        let tracked = |scene: &Self| -> Vec<String> {
            let mut names: Vec<String> =
                scene.pods.iter().filter(|p| scene.group(p).is_some()).map(full_name).collect();
            names.sort();
            names
        };
        let mut want = json!({
            "groups": self.show(), "trackedPods": tracked(&self), "canEvict": self.can_evict(&due),
            "lastInPlaceAttemptsAfter": case.pointer("/want/lastInPlaceAttemptsAfter").cloned().unwrap_or(json!({})),
        });
        let vpa = format!("{}/{}", text(case, "/vpa/metadata/namespace"), text(case, "/vpa/metadata/name"));
        let mut steps = Vec::new();
        for name in list(case, "/evict") {
            let Some(at) = self.pods.iter().position(|pod| &pod["metadata"]["name"] == name) else {
                continue;
            };
            let pod = self.pods[at].clone();
            let mut step = json!({ "evict": name, "ok": false });
            let error = case
                .pointer("/apiErrors")
                .and_then(|errors| errors.get(format!("evict {}", full_name(&pod))));
            match (self.can_evict(&due)[at], error) {
                (false, _) => step["error"] = "refused".into(),
                (true, Some(error)) => {
                    step["error"] = error["message"].clone();
                    step["log"] = json!([{ "call": "evict", "failed": true, "pod": full_name(&pod) }]);
                }
                (true, None) => {
                    step["ok"] = true.into();
                    step["log"] = eviction_log(&pod, &vpa);
                    if let Some(group) = self.group_mut(&pod).filter(|_| !is_pending(&pod)) {
                        group.evicted += 1;
                    }
                }
            }
            step["canEvictAfter"] = json!(self.can_evict(&due));
            steps.push(step);
        }
        want["steps"] = steps.into();
        want["groupsAfter"] = self.show();
        case["want"] = want;
    }

    fn can_evict(&self, due: &[bool]) -> Vec<bool> {
        let can = |(at, pod): (usize, &Value)| {
            self.group(pod).is_some_and(|group| {
                let free = !group.below_min && group.disruptable();
                is_pending(pod) || (free && (!is_resizing(pod) || due.get(at) == Some(&true)))
            })
        };
        self.pods.iter().enumerate().map(can).collect()
    }
}

/// Kinds whose replicas the reference knows; a Job's are its live pods.
const KNOWN: [&str; 5] = ["ReplicationController", "StatefulSet", "ReplicaSet", "DaemonSet", "Job"];

fn configured(case: &Value, owner: &Owner, live: i64) -> i64 {
    let is_it = |object: &&Value| {
        text(object, "/kind") == owner.1
            && text(object, "/metadata/name") == owner.2
            && text(object, "/metadata/namespace") == owner.0
    };
    let count = |object: &Value| match owner.1.as_str() {
        "DaemonSet" => number(object, "/status/numberReady"),
        _ => number(object, "/spec/replicas"),
    };
    match list(case, "/controllers").iter().find(is_it) {
        _ if owner.1 == "Job" || owner.1.is_empty() => live,
        Some(object) => count(object).unwrap_or(0.0) as i64,
        None if KNOWN.contains(&owner.1.as_str()) || owner.1 == "Deployment" => 0,
        None => live,
    }
}

fn vpa_boosts(case: &Value) -> bool {
    let policies = list(case, "/vpa/spec/resourcePolicy/containerPolicies");
    case.pointer("/vpa/spec/startupBoost").is_some()
        || policies.iter().any(|policy| policy.get("startupBoost").is_some())
}

fn owner(pod: &Value) -> Owner {
    let owners = list(pod, "/metadata/ownerReferences");
    let controller = owners.iter().find(|owner| owner["controller"] == true);
    let part = |pointer: &str| controller.map_or("", |owner| text(owner, pointer)).to_owned();
    (text(pod, "/metadata/namespace").to_owned(), part("/kind"), part("/name"))
}

pub(super) fn full_name(pod: &Value) -> String {
    format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"))
}

pub(super) fn is_pending(pod: &Value) -> bool {
    text(pod, "/status/phase") == "Pending"
}

/// Whether the first resize condition of a pod is true.
pub(super) fn is_resizing(pod: &Value) -> bool {
    let conditions = list(pod, "/status/conditions");
    let resize = conditions.iter().find(|condition| text(condition, "/type").starts_with("PodResize"));
    resize.is_some_and(|condition| condition["status"] == "True")
}

pub(super) fn eviction_log(pod: &Value, vpa: &str) -> Value {
    let name = text(pod, "/metadata/name");
    json!([
        { "call": "evict", "pod": full_name(pod) },
        {
            "event": "EvictedByVPA", "type": "Normal", "on": format!("Pod {}", full_name(pod)),
            "message": "Pod was evicted by VPA Updater to apply resource recommendation.",
        },
        {
            "event": "EvictedPod", "type": "Normal", "on": format!("VerticalPodAutoscaler {vpa}"),
            "message": format!("VPA Updater evicted Pod {name} to apply resource recommendation."),
        },
    ])
}
