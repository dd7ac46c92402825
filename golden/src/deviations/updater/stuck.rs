//! Right answers to passes over a VPA in mode `InPlaceOrRecreate` some of whose resizes do not get through.
//!
//! A plain model of such a pass, for clusters where nothing else plays a part: one VPA, no limits, no policies, no errors.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::budget::{Scene, eviction_log, full_name, is_pending};
use super::in_place::{
    has_recommendation, limits, phase, recommendation, seconds, simple_update, skips_budget,
};
use super::json::{amount, list, number, text};
use super::passes::{controlled, mode, name_of, scene_of, set_actions};

/// Whether all loops are plain, and some pod is in a resize or has its recommendation in its spec.
pub(super) fn applies(input: &Value) -> bool {
    let loops = list(input, "/loops");
    let unlimited = number(input, "/flags/evictionRateLimit").unwrap_or(-1.0) <= 0.0;
    unlimited
        && !loops.is_empty()
        && loops.iter().all(|one| is_plain(input, one))
        && loops.iter().any(|one| {
            let case = scene_of(input, one, &one["vpas"][0], Vec::new());
            list(one, "/pods").iter().any(|pod| phase(pod) != "None" || !differs(pod, &case, spec_requests))
        })
}

fn is_plain(input: &Value, one: &Value) -> bool {
    let vpas = list(one, "/vpas");
    let none = |value: &Value, pointer: &str| value.pointer(pointer).is_none_or(is_empty);
    let [vpa] = vpas else { return false };
    let case = scene_of(input, one, vpa, Vec::new());
    mode(vpa) == "InPlaceOrRecreate"
        && has_recommendation(&case)
        && ["/spec/resourcePolicy", "/spec/startupBoost", "/spec/updatePolicy/evictionRequirements"]
            .iter()
            .all(|pointer| none(vpa, pointer))
        && none(one, "/limitRanges")
        && none(one, "/apiErrors")
        && list(one, "/pods").iter().all(|pod| is_plain_pod(pod, &case))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A pod all of whose containers have requests and a recommendation for them, and that never ran out of memory.
fn is_plain_pod(pod: &Value, case: &Value) -> bool {
    let known = |container: &Value| {
        let recommended = recommendation(container, case);
        limits(container).is_empty()
            && recommended.is_some_and(|recommended| {
                let mut targets = recommended["target"].as_object().into_iter().flatten();
                targets.all(|(resource, _)| {
                    let both = [spec_requests(pod, container), running_requests(pod, container)];
                    both.iter().all(|requests| requests.get(resource).is_some_and(Value::is_string))
                })
            })
    };
    let statuses = list(pod, "/status/containerStatuses");
    pod.pointer("/metadata/annotations").is_none()
        && list(pod, "/spec/containers").iter().all(known)
        && statuses.iter().all(|status| status.pointer("/lastState/terminated").is_none())
        && statuses.iter().all(|status| status.pointer("/resources/limits").is_none_or(is_empty))
}

fn spec_requests<'a>(_: &'a Value, container: &'a Value) -> &'a Value {
    &container["resources"]["requests"]
}

/// What a container runs with, where its status tells it.
fn running_requests<'a>(pod: &'a Value, container: &'a Value) -> &'a Value {
    let statuses = list(pod, "/status/containerStatuses");
    let status = statuses.iter().find(|status| status["name"] == container["name"]);
    match status.filter(|status| status["resources"].is_object()) {
        Some(status) => &status["resources"]["requests"],
        None => spec_requests(pod, container),
    }
}

type Requests = for<'a> fn(&'a Value, &'a Value) -> &'a Value;

fn milli(list: &Value, resource: &str) -> f64 {
    list.get(resource).and_then(Value::as_str).map_or(0.0, |quantity| (amount(quantity) * 1000.0).round())
}

/// Whether a pod's requests are others than recommended.
fn differs(pod: &Value, case: &Value, requests: Requests) -> bool {
    list(pod, "/spec/containers").iter().any(|container| {
        let target = recommendation(container, case).map_or(&Value::Null, |r| &r["target"]);
        let mut targets = target.as_object().into_iter().flatten();
        targets.any(|(resource, _)| milli(target, resource) != milli(requests(pod, container), resource))
    })
}

/// Whether a pod wants to grow, and how far it is from its recommendation; `None` where that is not worth an update.
fn urgency(pod: &Value, case: &Value, now: &str) -> Option<(bool, f64)> {
    let (mut grows, mut outside) = (false, false);
    let mut totals: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for container in list(pod, "/spec/containers") {
        let Some(recommended) = recommendation(container, case) else { continue };
        let requests = running_requests(pod, container);
        for resource in recommended["target"].as_object().into_iter().flatten().map(|(name, _)| name) {
            let (request, target) = (milli(requests, resource), milli(&recommended["target"], resource));
            let bound =
                |name: &str| recommended[name].get(resource).map(|_| milli(&recommended[name], resource));
            grows |= target > request;
            outside |= bound("lowerBound").is_some_and(|lower| request < lower)
                || bound("upperBound").is_some_and(|upper| request > upper);
            let total = totals.entry(resource).or_default();
            *total = (total.0 + request, total.1 + target);
        }
    }
    let diff = totals.values().map(|(request, target)| (request - target).abs() / request.max(1.0)).sum();
    let start = text(pod, "/status/startTime");
    let age = number(case, "/flags/podLifetimeThresholdSeconds").unwrap_or(43_200.0);
    let is_old = !start.is_empty() && (seconds(now) - seconds(start)) as f64 >= age;
    let threshold = number(case, "/flags/podUpdateThreshold").unwrap_or(0.1);
    (outside || (is_old && diff >= threshold)).then_some((grows, diff))
}

/// Attempts under way: by pod UID what the spec asks for, and since when.
type Attempts = BTreeMap<String, (Value, String)>;

fn observe(attempts: &mut Attempts, pods: &[Value], now: &str) {
    for pod in pods {
        let uid = text(pod, "/metadata/uid").to_owned();
        let asked: Value =
            list(pod, "/spec/containers").iter().map(|container| container["resources"].clone()).collect();
        if phase(pod) == "None" {
            attempts.remove(&uid);
        } else if attempts.get(&uid).is_none_or(|(before, _)| *before != asked) {
            attempts.insert(uid, (asked, now.to_owned()));
        }
    }
    attempts.retain(|uid, _| pods.iter().any(|pod| text(pod, "/metadata/uid") == uid));
}

fn is_due(pod: &Value, attempts: &Attempts, now: &str) -> bool {
    let limit = match phase(pod) {
        "Deferred" => 300,
        "InProgress" => 3600,
        _ => return true,
    };
    let since = attempts.get(text(pod, "/metadata/uid"));
    since.is_some_and(|(_, since)| seconds(now) - seconds(since) > limit)
}

/// What is done in a pass.
#[derive(Default)]
struct Done {
    actions: Vec<Value>,
    updatable: usize,
    evicted: usize,
    resized: usize,
}

fn pass(case: &Value, attempts: &Attempts, now: &str) -> Done {
    let mut scene = Scene::new(case);
    let vpa = name_of(&case["vpa"]);
    let free = |scene: &Scene, pod: &Value| scene.group(pod).is_some_and(|group| group.disruptable());
    let stuck = |pod: &Value| phase(pod) != "None";
    let mut ordered: Vec<(Value, (bool, f64))> = Vec::new();
    for pod in scene.pods.iter().filter(|pod| scene.group(pod).is_some() && !is_pending(pod)) {
        let may = if stuck(pod) {
            is_due(pod, attempts, now) && free(&scene, pod)
        } else {
            free(&scene, pod) || skips_budget(pod, case)
        };
        if let Some(urgency) = urgency(pod, case, now).filter(|_| may) {
            ordered.push((pod.clone(), urgency));
        }
    }
    ordered.sort_by(|(_, a), (_, b)| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
    let mut done = Done { updatable: ordered.len(), ..Done::default() };
    let (first, then): (Vec<_>, Vec<_>) = ordered.into_iter().map(|(pod, _)| pod).partition(stuck);
    for pod in first {
        let changes = differs(&pod, case, spec_requests) || differs(&pod, case, running_requests);
        let may = changes && free(&scene, &pod);
        if let Some(group) = scene.group_mut(&pod).filter(|group| may && !group.below_min) {
            group.evicted += 1;
            done.evicted += 1;
            done.actions.extend(list(&eviction_log(&pod, &vpa), "").iter().cloned());
        }
    }
    for pod in then {
        let may = free(&scene, &pod) || skips_budget(&pod, case);
        let update = simple_update(&pod, case).filter(|_| may && differs(&pod, case, spec_requests));
        if let (Some(update), Some(group)) = (update, scene.group_mut(&pod)) {
            group.resized += 1;
            done.resized += 1;
            done.actions.extend(list(&update, "/log").iter().cloned());
        }
    }
    done
}

pub(super) fn rewrite(case: &mut Value) {
    let input = case.clone();
    let (mut attempts, mut counters) = (Attempts::new(), BTreeMap::new());
    let Some(loops) = case["loops"].as_array_mut() else { return };
    for (one, before) in loops.iter_mut().zip(list(&input, "/loops")) {
        let (vpa, now) = (&before["vpas"][0], text(before, "/now"));
        let pods = controlled(before, &name_of(vpa));
        observe(&mut attempts, &pods, now);
        if pods.is_empty() {
            continue;
        }
        let done = pass(&scene_of(&input, before, vpa, pods.clone()), &attempts, now);
        let since = |pod: &Value| {
            attempts.get(text(pod, "/metadata/uid")).map(|(_, since)| (full_name(pod), json!(since)))
        };
        for (pod, since) in pods.iter().filter_map(since) {
            one["want"]["lastInPlaceAttempts"][pod] = since;
        }
        one["want"]["metrics"] = metrics(vpa, pods.len(), &done, &mut counters);
        set_actions(&mut one["want"]["actions"], &name_of(vpa), done.actions);
    }
}

fn metrics(vpa: &Value, pods: usize, done: &Done, counters: &mut BTreeMap<String, usize>) -> Value {
    let size = format!("vpa_size_log2=\"{}\"", pods.checked_ilog2().unwrap_or(0));
    let mode = format!("update_mode=\"{}\"", mode(vpa));
    let (name, namespace) = (text(vpa, "/metadata/name"), text(vpa, "/metadata/namespace"));
    let of_vpa = format!("vpa_name=\"{name}\",vpa_namespace=\"{namespace}\",{size}");
    let key = |metric: &str, labels: &str| format!("vpa_updater_{metric}{{{labels}}}");
    *counters.entry(key("evicted_pods_total", &format!("{mode},{of_vpa}"))).or_default() += done.evicted;
    *counters.entry(key("in_place_updated_pods_total", &of_vpa)).or_default() += done.resized;
    let by_mode = format!("{mode},{size}");
    let gauges = [
        (key("controlled_pods_total", &by_mode), pods),
        (key("vpas_with_evicted_pods_total", &by_mode), done.evicted.min(1)),
        (key("in_place_updatable_pods_total", &size), done.updatable),
        (key("vpas_with_in_place_updatable_pods_total", &size), done.updatable.min(1)),
        (key("vpas_with_in_place_updated_pods_total", &size), done.resized.min(1)),
    ];
    let shown = gauges.into_iter().filter(|(_, count)| *count > 0);
    counters.clone().into_iter().chain(shown).map(|(key, count)| (key, json!(count))).collect()
}
