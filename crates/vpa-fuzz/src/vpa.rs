//! Any VPA.

use serde::Deserialize;
use serde_json::{Value, json};
use vpa_api::pod::Pod;
use vpa_api::vpa::{GenericStartupBoost, RecommendedPodResources, StartupBoostType};
use vpa_api::{ResourceList, VerticalPodAutoscaler};
use vpa_core::policy::{self, LimitRanges};

use crate::cluster::{self, FIXED};
use crate::glue::{self, Cluster};
use crate::{Problem, Worth, ensure, pod, review};

#[derive(Deserialize)]
struct Input {
    object: Value,
    #[serde(default)]
    old_object: Value,
    #[serde(default)]
    operation: String,
    /// Whether in place, per-VPA configuration and startup boost are on.
    #[serde(default)]
    gates: [bool; 3],
}

/// Validates a VPA, and where it passes lets it work.
///
/// The input has the members `object`, `old_object`, `operation` and `gates`.
///
/// # Errors
/// What is wrong with the answer, or with what a valid VPA leads to.
pub fn vpa(input: &[u8]) -> Result<Worth, Problem> {
    let Ok(Input { object, old_object, operation, gates }) = serde_json::from_slice(input) else {
        return Ok(Worth::Nothing);
    };
    let [in_place, per_vpa_config, cpu_startup_boost] = gates;
    let config = glue::config(in_place, per_vpa_config, cpu_startup_boost, None);
    let cluster = Cluster { config, ..FIXED.clone() };
    let resource = (vpa_api::names::GROUP, "verticalpodautoscalers");
    let body = glue::review_of(resource, "VerticalPodAutoscaler", &operation, &object, &old_object);
    let Some(found) = review::decide(&body, &cluster)? else {
        return Err("the review cannot be decoded".to_owned());
    };
    if !found.reviewed.decision.allowed() || !["CREATE", "UPDATE"].contains(&operation.as_str()) {
        return Ok(Worth::Checked);
    }
    let stored = found.patched(&body)?.map_or(object, |(_, after)| after);
    // The API server takes no VPA without a spec, whatever webhooks say.
    if !stored["spec"].is_object() {
        return Ok(Worth::Checked);
    }
    let mut stored = without_nulls(stored);
    if let Some(stored) = stored.as_object_mut() {
        stored.remove("status");
        // A stored object has a name and more.
        stored.entry("metadata").or_insert_with(|| json!({}));
    }
    let vpa = VerticalPodAutoscaler::deserialize(&stored)
        .map_err(|error| format!("a VPA that passes cannot be read: {error}: {stored}"))?;
    bounds_kept(&vpa)?;
    if boosts(&vpa).all(follows_schema) { works(&stored) } else { Ok(Worth::Checked) }
}

/// Null stands for a missing member, and the API server refuses it in a list.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(_, member)| !member.is_null());
            members.map(|(key, member)| (key, without_nulls(member))).collect()
        }
        Value::Array(items) => items.into_iter().filter(|item| !item.is_null()).map(without_nulls).collect(),
        leaf => leaf,
    }
}

fn boosts(vpa: &VerticalPodAutoscaler) -> impl Iterator<Item = &GenericStartupBoost> {
    let policies =
        vpa.spec.resource_policy.iter().flat_map(|policy| policy.container_policies.iter().flatten());
    let boosts = policies.map(|policy| &policy.startup_boost).chain([&vpa.spec.startup_boost]);
    boosts.flatten().filter_map(|boost| boost.cpu.as_ref())
}

/// The rules of the CRD on a boost. Validation takes names in any case, the API server drops those that are not in the right
/// one, and then refuses what is left.
fn follows_schema(boost: &GenericStartupBoost) -> bool {
    let is = |kind: StartupBoostType| boost.kind == kind;
    is(StartupBoostType::Factor) == boost.factor.is_some()
        && is(StartupBoostType::Quantity) == boost.quantity.is_some()
        && (boost.factor.is_some() || boost.quantity.is_some())
}

/// A recommendation like those that the recommender writes, for two containers.
fn recommendation() -> Value {
    json!({ "containerRecommendations": [
        { "containerName": "main", "lowerBound": { "cpu": "100m", "memory": "128Mi" },
          "target": { "cpu": "250m", "memory": "200M" }, "upperBound": { "cpu": "3", "memory": "1500Mi" } },
        { "containerName": "sidecar", "target": { "cpu": "17m", "memory": "77777777" } },
    ] })
}

fn a_pod() -> Value {
    json!({
        "metadata": { "name": "web-0", "labels": { "app": "web" } },
        "spec": { "containers": [
            { "name": "main", "resources": {
                "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "cpu": "250m", "memory": "1Gi" } } },
            { "name": "sidecar", "resources": { "limits": { "cpu": "1" } } },
            { "name": "other" },
        ] },
    })
}

/// What is recommended lies within the policy's bounds, after the recommender's capping and after admission's.
fn bounds_kept(vpa: &VerticalPodAutoscaler) -> Result<(), Problem> {
    let resource_policy = vpa.spec.resource_policy.as_ref();
    let given = RecommendedPodResources::deserialize(recommendation()).map_err(|error| error.to_string())?;
    let capped = policy::apply_vpa_policy(&given, resource_policy, &ResourceList::new());
    let pod = Pod::deserialize(a_pod()).map_err(|error| error.to_string())?;
    let mut recommended = vpa.clone();
    let status = json!({ "recommendation": given });
    recommended.status = Option::deserialize(status).map_err(|error| error.to_string())?;
    let processed = policy::process(&recommended, &pod, &LimitRanges::default()).unwrap_or_default();
    let capped = capped.container_recommendations.into_iter().flatten();
    // The recommender knows no limits of containers, which are the last bound where only requests follow.
    for (container, at_admission) in capped
        .map(|container| (container, false))
        .chain(processed.containers.into_iter().map(|container| (container, true)))
    {
        let name = container.container_name.as_deref().unwrap_or_default();
        let own = policy::container_policy(name, resource_policy);
        let limits = policy::current_resources(name, &pod).1.filter(|_| at_admission);
        for (resource, amount) in &container.target {
            let bound = |list: Option<&ResourceList>| {
                list.and_then(|list| list.get(resource)).filter(|bound| !bound.is_zero()).cloned()
            };
            let (min, max) = (
                bound(own.and_then(|own| own.min_allowed.as_ref())),
                bound(own.and_then(|own| own.max_allowed.as_ref())),
            );
            let what = || format!("container {name}: {resource} {amount} for bounds {min:?} and {max:?}");
            ensure(max.as_ref().is_none_or(|max| amount <= max), what)?;
            let most = bound(limits);
            ensure(
                min.as_ref()
                    .is_none_or(|min| amount >= min || most.as_ref().is_some_and(|most| amount >= most)),
                what,
            )?;
        }
    }
    Ok(())
}

/// Pods are admitted under it, with and without limits of the namespace.
fn works(stored: &Value) -> Result<Worth, Problem> {
    let (mut vpa, mut owned) = (stored.clone(), a_pod());
    vpa["status"] = json!({ "recommendation": recommendation() });
    if cluster::bind(&mut vpa, &mut owned).is_none() {
        return Ok(Worth::Checked);
    }
    let vpa = VerticalPodAutoscaler::deserialize(vpa).map_err(|error| error.to_string())?;
    let _ = (policy::mode(&vpa), policy::has_startup_boost(&vpa));
    for limits in [LimitRanges::default(), (*FIXED.limit_ranges["default"]).clone()] {
        // Negative boosts and bounds pass, as in the Go suite; a pod that would get a negative amount is left as it is.
        let reason = pod::admit(&owned, &vpa, &limits, None)?;
        if let Some(reason) = reason.filter(|reason| !reason.contains("would become -")) {
            return Err(format!("a VPA that passes does not work: {reason}"));
        }
    }
    Ok(Worth::Checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_validation_passes_and_the_crd_does_not_need_not_work() {
        let boost = json!({ "cpu": { "TYPE": "Quantity", "quantity": "0" } });
        let input = json!({ "object": { "spec": { "startupBoost": boost } }, "operation": "CREATE", "gates": [true, true, true] });
        assert_eq!(vpa(input.to_string().as_bytes()), Ok(Worth::Checked));
    }
}
