//! Reviews of pods.

use serde_json::{Value, json};

use super::amount;

fn vpas(case: &Value) -> impl Iterator<Item = &Value> {
    case["cluster"]["vpas"].as_array().into_iter().flatten()
}

fn is_off(vpa: &Value) -> bool {
    vpa["spec"]["updatePolicy"]["updateMode"] == "Off"
}

fn has_boost(vpa: &Value) -> bool {
    let policies = vpa["spec"]["resourcePolicy"]["containerPolicies"].as_array().into_iter().flatten();
    std::iter::once(&vpa["spec"]).chain(policies).any(|holder| holder["startupBoost"].is_object())
}

/// Names of the VPAs in mode Off that have a boost.
pub(super) fn off_with_boost(case: &Value) -> Vec<String> {
    let names = vpas(case).filter(|vpa| is_off(vpa) && has_boost(vpa)).map(name);
    names.collect()
}

fn name(vpa: &Value) -> String {
    vpa["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Where the reference let a VPA in mode Off have the pod: the next one, or none.
pub(super) fn expect_without_off(file: &str, case: &mut Value) {
    let off = off_with_boost(case);
    let had = match case["expect"]["vpa"].as_str() {
        Some(path) => path.rsplit('/').next().unwrap_or_default().to_owned(),
        None if file == "matching.json" || case["expect"]["patch"].is_null() => return,
        None => match case["cluster"]["vpas"].as_array().map(Vec::as_slice) {
            Some([only]) => name(only),
            _ => return,
        },
    };
    if !off.contains(&had) {
        return;
    }
    let target = |vpa: &Value| {
        let target = &vpa["spec"]["targetRef"];
        (vpa["metadata"]["namespace"].clone(), target["kind"].clone(), target["name"].clone())
    };
    let wanted = vpas(case).find(|vpa| name(vpa) == had).map(target);
    let mut others: Vec<&Value> =
        vpas(case).filter(|vpa| !is_off(vpa) && wanted.as_ref() == Some(&target(vpa))).collect();
    others.sort_by_key(|vpa| (vpa["metadata"]["creationTimestamp"].to_string(), name(vpa)));
    let uid = case["request"]["request"]["uid"].clone();
    let plain = json!({ "http_status": 200, "response": { "allowed": true, "uid": uid } });
    let expect = match others.first() {
        Some(next) => {
            let namespace = next["metadata"]["namespace"].as_str().unwrap_or_default();
            json!({ "http_status": 200, "vpa": format!("{namespace}/{}", name(next)), "only": ["vpa"] })
        }
        None => plain,
    };
    case["expect"] = expect;
    if file == "matching.json" && case["expect"]["vpa"].is_null() {
        case["expect"]["vpa"] = Value::Null;
    }
}

pub(super) fn has_status_resources(case: &Value) -> bool {
    let statuses = &case["request"]["request"]["object"]["status"]["containerStatuses"];
    statuses.as_array().is_some_and(|statuses| statuses.iter().any(|status| status["resources"].is_object()))
}

/// Adds the objects that the operations of the patch go into, where they are missing.
pub(super) fn add_missing_parents(case: &mut Value) {
    if case["expect"]["patch_apply_error"].is_null() {
        return;
    }
    let object = case["request"]["request"]["object"].clone();
    let mut added: Vec<String> = Vec::new();
    let mut patch = Vec::new();
    for operation in case["expect"]["patch"].as_array().into_iter().flatten() {
        let path = operation["path"].as_str().unwrap_or_default();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        if object.pointer(&parent).is_none_or(Value::is_null) && !added.contains(&parent) {
            patch.push(json!({ "op": "add", "path": parent, "value": {} }));
            added.push(parent);
        }
        added.push(path.to_owned());
        patch.push(operation.clone());
    }
    case["expect"]["patch"] = patch.into();
    if let Some(expect) = case["expect"].as_object_mut() {
        expect.remove("patch_apply_error");
    }
}

/// Amounts that the patch sets: container number, `requests` or `limits`, resource, amount.
fn amounts(case: &Value) -> Vec<(usize, String, String, f64)> {
    let operations = case["expect"]["patch"].as_array().into_iter().flatten();
    let amount_of = |operation: &Value| {
        let path = operation["path"].as_str()?;
        let mut steps = path.strip_prefix("/spec/containers/")?.split('/');
        let (number, "resources", side, resource) =
            (steps.next()?, steps.next()?, steps.next()?, steps.next()?)
        else {
            return None;
        };
        Some((number.parse().ok()?, side.to_owned(), resource.to_owned(), amount(&operation["value"])))
    };
    operations.filter_map(amount_of).collect()
}

pub(super) fn sets_negative(case: &Value) -> bool {
    amounts(case).iter().any(|(_, _, _, amount)| *amount < 0.0)
}

pub(super) fn sets_nothing_or_less(case: &Value) -> bool {
    amounts(case).iter().any(|(_, _, _, amount)| *amount <= 0.0)
}

/// Whether the patch sets a request that the container's recommendation does not have.
pub(super) fn sets_not_recommended(case: &Value) -> bool {
    let containers = &case["request"]["request"]["object"]["spec"]["containers"];
    amounts(case).iter().any(|(number, side, resource, _)| {
        let container = &containers[*number]["name"];
        let recommendations = vpas(case)
            .flat_map(|vpa| {
                vpa["status"]["recommendation"]["containerRecommendations"].as_array().into_iter().flatten()
            })
            .filter(|recommendation| recommendation["containerName"] == *container)
            .collect::<Vec<_>>();
        side == "requests"
            && !recommendations.is_empty()
            && recommendations.iter().all(|r| r["target"][resource].is_null())
    })
}
