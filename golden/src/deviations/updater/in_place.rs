//! Right answers to resizes: within the budget, and only where they change something that they may change.
//!
//! What a resize would send is taken from the reference; when, and whether at all, is worked out here.

use serde_json::{Value, json};

use super::budget::{Scene, full_name, is_pending};
use super::json::{amount, list, text};

/// Whether the reference does something else: in mode `InPlace` with pods that are deferred, in both modes with patches
/// that change nothing or the QoS class. The latter shows in what pods and recommendation are.
pub(super) fn applies(input: &Value) -> bool {
    let in_place = text(input, "/vpa/spec/updatePolicy/updateMode") == "InPlace";
    let sends = input.get("decideOnly") != Some(&Value::Bool(true));
    let approved_only = input.get("updateApprovedOnly") == Some(&Value::Bool(true));
    let scene = Scene::new(input);
    let gate = input.pointer("/featureGates/InPlace") == Some(&Value::Bool(true));
    sends
        && ((in_place && !approved_only && gate && some_deferred(input))
            || scene.pods.iter().any(|pod| qos_would_change(pod, input))
            || scene.pods.iter().any(|pod| has_recommendation(input) && !is_recommended(pod, input)))
}

/// Whether any pod is one that the reference defers and patches all the same: all it takes is one pod that is not ready to
/// be resized, or more pods than the budget has room for.
fn some_deferred(input: &Value) -> bool {
    let mut scene = Scene::new(input);
    let pods = scene.pods.clone();
    pods.iter().any(|pod| {
        let blocked = is_pending(pod) || scene.group(pod).is_none() || !has_recommendation(input);
        let waits = matches!(phase(pod), "Deferred" | "InProgress" | "Unknown");
        let free = scene.group(pod).is_some_and(|group| group.disruptable()) || skips_budget(pod, input);
        if let Some(group) = scene.group_mut(pod).filter(|_| free && !blocked && !waits) {
            group.resized += 1;
        }
        blocked || waits || !free
    })
}

pub(super) fn has_recommendation(input: &Value) -> bool {
    input.pointer("/vpa/status/recommendation").is_some_and(|recommendation| !recommendation.is_null())
}

pub(super) fn recommendation<'a>(container: &Value, input: &'a Value) -> Option<&'a Value> {
    let all = list(input, "/vpa/status/recommendation/containerRecommendations");
    all.iter().find(|recommendation| recommendation["containerName"] == container["name"])
}

fn is_recommended(pod: &Value, input: &Value) -> bool {
    list(pod, "/spec/containers").iter().any(|container| recommendation(container, input).is_some())
}

pub(super) fn skips_budget(pod: &Value, input: &Value) -> bool {
    let policies =
        list(pod, "/spec/containers").iter().flat_map(|container| list(container, "/resizePolicy"));
    let restarts = policies.into_iter().any(|policy| policy["restartPolicy"] == "RestartContainer");
    input.pointer("/flags/inPlaceSkipDisruptionBudget") == Some(&Value::Bool(true)) && !restarts
}

/// State of a pod's resize.
pub(super) fn phase(pod: &Value) -> &'static str {
    let conditions = list(pod, "/status/conditions");
    let first = conditions.iter().find(|condition| text(condition, "/type").starts_with("PodResize"));
    if first.is_none_or(|condition| condition["status"] != "True") {
        return "None";
    }
    let find = |name: &str| conditions.iter().find(|condition| text(condition, "/type") == name);
    match (find("PodResizePending"), find("PodResizeInProgress")) {
        (Some(pending), _) => match text(pending, "/reason") {
            "Deferred" => "Deferred",
            "Infeasible" => "Infeasible",
            _ => "Unknown",
        },
        (None, Some(progress)) => match (text(progress, "/reason"), text(progress, "/message")) {
            ("", "") => "InProgress",
            ("Error", _) => "Error",
            _ => "Unknown",
        },
        (None, None) => "None",
    }
}

/// Whether the fallback of a resize is due: at once, or after a time that counts from when it was first seen.
fn is_due(pod: &Value, case: &Value) -> bool {
    let limit = match phase(pod) {
        "Deferred" => 300,
        "InProgress" => 3600,
        _ => return true,
    };
    let seen = case.pointer("/lastInPlaceAttempts").and_then(|times| times.get(full_name(pod))?.as_str());
    seen.is_some_and(|seen| seconds(text(case, "/now")) - seconds(seen) > limit)
}

/// Seconds of a time like `2026-08-15T12:00:00Z`, from some day on; good for differences within a month.
pub(super) fn seconds(time: &str) -> i64 {
    let part =
        |from: usize| time.get(from..from + 2).and_then(|digits| digits.parse::<i64>().ok()).unwrap_or(0);
    ((part(8) * 24 + part(11)) * 60 + part(14)) * 60 + part(17)
}

/// Whether limits stay as they are while requests move away from them, or a pod without resources gets some.
fn qos_would_change(pod: &Value, input: &Value) -> bool {
    let ops: Vec<Value> = list(pod, "/spec/containers")
        .iter()
        .enumerate()
        .filter_map(|(index, container)| Some((index, recommendation(container, input)?)))
        .flat_map(|(index, recommendation)| requests_ops(pod, index, recommendation))
        .collect();
    let scales_limits = list(input, "/vpa/spec/resourcePolicy/containerPolicies")
        .iter()
        .all(|policy| policy["controlledValues"] != "RequestsOnly");
    let has_limits = list(pod, "/spec/containers").iter().any(|container| !limits(container).is_empty());
    (!has_limits || !scales_limits) && qos(pod, &[]) != qos(pod, &ops)
}

fn requests_ops(pod: &Value, index: usize, recommendation: &Value) -> Vec<Value> {
    let path = format!("/spec/containers/{index}/resources");
    let mut ops = Vec::new();
    let has = |list: &str| pod.pointer(&format!("{path}/{list}")).is_some_and(|list| !list.is_null());
    let add = |path: String, value: Value| json!({ "op": "add", "path": path, "value": value });
    if !has("requests") && !has("limits") {
        ops.push(add(path.clone(), json!({})));
    }
    if !has("requests") {
        ops.push(add(format!("{path}/requests"), json!({})));
    }
    for (resource, value) in recommendation["target"].as_object().into_iter().flatten() {
        ops.push(add(format!("{path}/requests/{resource}"), value.clone()));
    }
    ops
}

pub(super) fn limits(container: &Value) -> Vec<(&String, &Value)> {
    container.pointer("/resources/limits").and_then(Value::as_object).into_iter().flatten().collect()
}

/// QoS class of a pod after the operations.
pub(super) fn qos(pod: &Value, ops: &[Value]) -> &'static str {
    let mut pod = pod.clone();
    for op in ops {
        let path = text(op, "/path");
        let Some((parent, key)) = path.rsplit_once('/') else { continue };
        if let Some(parent) = pod.pointer_mut(parent).and_then(Value::as_object_mut) {
            // An object that is there already stays.
            if !op["value"].is_object() || !parent.get(key).is_some_and(Value::is_object) {
                parent.insert(key.to_owned(), op["value"].clone());
            }
        }
    }
    let (mut any, mut guaranteed) = (false, true);
    for container in list(&pod, "/spec/initContainers").iter().chain(list(&pod, "/spec/containers")) {
        for resource in ["cpu", "memory"] {
            let of = |list: &str| {
                container.pointer(&format!("/resources/{list}/{resource}")).and_then(Value::as_str)
            };
            let (request, limit) = (of("requests").map(amount), of("limits").map(amount));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Whether the operations leave all amounts as they are.
pub(super) fn changes_nothing(pod: &Value, ops: &[Value]) -> bool {
    ops.iter().filter(|op| op["value"].is_string()).all(|op| {
        let before = pod.pointer(text(op, "/path")).and_then(Value::as_str);
        before.is_some_and(|before| amount(before) == amount(op["value"].as_str().unwrap_or_default()))
    })
}

pub(super) fn rewrite(case: &mut Value) {
    let mut scene = Scene::new(case);
    let in_place = text(case, "/vpa/spec/updatePolicy/updateMode") == "InPlace";
    let mut steps = Vec::new();
    for (pod, step) in scene.pods.clone().iter().zip(list(case, "/want/steps")) {
        let mut step = step.clone();
        let before = text(&step, "/decision").to_owned();
        let can_be_asked = scene.group(pod).is_some() && !is_pending(pod) && has_recommendation(case);
        let disruptable = scene.group(pod).is_some_and(|group| group.disruptable());
        let free = disruptable || skips_budget(pod, case);
        let settled = phase(pod) == "None";
        if settled && can_be_asked && before != "InPlaceInfeasibleCached" {
            step["decision"] = if free { "InPlaceApproved" } else { "InPlaceDeferred" }.into();
        }
        if !is_pending(pod) {
            let can = scene.group(pod).is_some_and(|group| !group.below_min && disruptable);
            step["canEvict"] = (can && (settled || is_due(pod, case))).into();
        }
        let retried = in_place && can_be_asked && (phase(pod) == "Error" || before == "InPlaceInfeasible");
        let sends = free && (step["decision"] == "InPlaceApproved" || retried);
        let update = step.as_object_mut().and_then(|step| step.remove("update"));
        let update = update.or_else(|| sends.then(|| simple_update(pod, case)).flatten());
        if let Some(update) = update.filter(|_| sends) {
            let ops = list(&update, "/log/0/ops");
            if !ops.is_empty() && !changes_nothing(pod, ops) && qos(pod, &[]) == qos(pod, ops) {
                if let Some(group) = scene.group_mut(pod).filter(|_| update["ok"] == true) {
                    group.resized += 1;
                }
                step["update"] = update;
            }
        }
        steps.push(step);
    }
    case["want"]["steps"] = steps.into();
    case["want"]["groupsAfter"] = scene.show();
}

/// The resize of a pod without limits, for pods that the reference had no budget left for.
pub(super) fn simple_update(pod: &Value, case: &Value) -> Option<Value> {
    let containers = list(pod, "/spec/containers");
    if containers.iter().any(|container| !limits(container).is_empty()) {
        return None;
    }
    let ops: Vec<Value> = containers
        .iter()
        .enumerate()
        .filter_map(|(index, container)| Some(requests_ops(pod, index, recommendation(container, case)?)))
        .flatten()
        .collect();
    let name = full_name(pod);
    Some(json!({ "ok": true, "log": [
        { "call": "resize", "ops": ops, "pod": name },
        { "call": "patch", "pod": name, "ops": [
            { "op": "add", "path": "/metadata/annotations", "value": {} },
            { "op": "add", "path": "/metadata/annotations/vpaInPlaceUpdated", "value": "true" },
        ] },
        {
            "event": "InPlaceResizedByVPA", "message": "Pod was resized in place by VPA Updater.",
            "on": format!("Pod {name}"), "type": "Normal",
        },
    ] }))
}
