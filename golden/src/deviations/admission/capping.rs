//! Scaling to Pod LimitRanges.

use serde_json::{Value, json};

use super::amount;

const FIELDS: [&str; 3] = ["target", "lowerBound", "upperBound"];

/// Whether a LimitRange bounds the sum over a pod, in either form of cases.
pub(super) fn has_pod_limits(case: &Value) -> bool {
    let objects = [&case["input"]["limit_ranges"], &case["cluster"]["limit_ranges"]];
    let objects = objects.into_iter().filter_map(Value::as_array).flatten();
    let mut items = objects.flat_map(|object| object["spec"]["limits"].as_array().into_iter().flatten());
    items.any(|item| item["type"] == "Pod" && (item["min"].is_object() || item["max"].is_object()))
}

/// What each container is recommended before capping: its recommendation, or its own requests as target.
fn given<'a>(case: &'a Value, container: &Value) -> Option<Value> {
    let recommendations = &case["input"]["vpa"]["status"]["recommendation"]["containerRecommendations"];
    let mut found = recommendations.as_array().into_iter().flatten();
    if let Some(recommendation) = found.find(|recommendation| recommendation["containerName"] == *container) {
        return Some(recommendation.clone());
    }
    let mut containers = case["input"]["pod"]["spec"]["containers"].as_array().into_iter().flatten();
    let requests: &'a Value = &containers.find(|found| found["name"] == *container)?["resources"]["requests"];
    Some(json!({ "target": requests }))
}

/// Corrects what the reference's scaling did to each container. Where that changes a target, requests and limits of the
/// pod change with it, and are only checked to be sound.
pub(super) fn correct(case: &mut Value) {
    let mut processed = case["expect"]["processed"].clone();
    let mut target_changed = false;
    let notes = processed["annotations"].clone();
    let mut notes: serde_json::Map<String, Value> = notes.as_object().cloned().unwrap_or_default();
    let containers = processed.pointer_mut("/recommendation/containerRecommendations");
    let containers = containers.and_then(Value::as_array_mut).into_iter().flatten();
    for container in containers {
        let Some(given) = given(case, &container["containerName"]) else { continue };
        for field in FIELDS {
            let changed = correct_list(&mut container[field], &given[field]);
            if field == "target" {
                target_changed |= !changed.is_empty();
                let name = container["containerName"].as_str().unwrap_or_default();
                drop_notes(&mut notes, name, &changed);
            }
        }
        restore_order(container, &given);
        if let Some(container) = container.as_object_mut() {
            container.retain(|_, list| !list.is_null());
        }
    }
    processed["annotations"] = notes.into();
    case["expect"]["processed"] = processed;
    if target_changed {
        case["expect"]["pod_resources"] = json!({ "sound": true });
    }
}

/// Takes out what was not given, and puts one unit in place of what was scaled to nothing or less. Returns the
/// resources that changed.
fn correct_list(list: &mut Value, given: &Value) -> Vec<String> {
    let mut changed = Vec::new();
    let Some(list) = list.as_object_mut() else { return changed };
    list.retain(|resource, _| {
        let keep = !given[resource].is_null();
        if !keep {
            changed.push(resource.clone());
        }
        keep
    });
    for (resource, scaled) in list {
        if amount(scaled) > 0.0 {
            continue;
        }
        let right = match amount(&given[resource]) > 0.0 {
            true if resource == "cpu" => json!("1m"),
            true => json!("1"),
            false => given[resource].clone(),
        };
        if *scaled != right {
            *scaled = right;
            changed.push(resource.clone());
        }
    }
    changed
}

/// Takes out the notes on resources that are not there any more.
fn drop_notes(notes: &mut serde_json::Map<String, Value>, container: &str, changed: &[String]) {
    let Some(texts) = notes.get_mut(container).and_then(Value::as_array_mut) else { return };
    texts.retain(|text| {
        let resource = text.as_str().and_then(|text| text.split(' ').next()).unwrap_or_default();
        !changed.iter().any(|changed| changed == resource)
    });
    if texts.is_empty() {
        notes.remove(container);
    }
}

/// Lower bound ≤ target ≤ upper bound, where it was so before.
fn restore_order(container: &mut Value, given: &Value) {
    let Some(target) = container["target"].as_object().cloned() else { return };
    for (resource, target) in target {
        let old = &given["target"][&resource];
        for (field, sign) in [("lowerBound", 1.0), ("upperBound", -1.0)] {
            let was_in_order = !old.is_null()
                && !given[field][&resource].is_null()
                && sign * amount(&given[field][&resource]) <= sign * amount(old);
            let is_there = !container[field][&resource].is_null();
            if was_in_order
                && is_there
                && sign * amount(&container[field][&resource]) > sign * amount(&target)
            {
                container[field][&resource] = target.clone();
            }
        }
    }
}
