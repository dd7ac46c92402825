//! What is asserted where the reference's answer is no measure: amounts are not negative, nothing that is recommended
//! is scaled to nothing, limits keep their proportion to requests or say why not, and bounds stay in order.

use serde::Deserialize;
use serde_json::Value;
use vpa_api::pod::Pod;
use vpa_api::vpa::RecommendedContainerResources;
use vpa_api::{Quantity, ResourceList, VerticalPodAutoscaler};
use vpa_core::policy::current_resources;

/// The note on a limit whose proportion could not be kept.
const CAPPED: &str = "failed to keep limit to request ratio; capping limit to int64";

/// Part of a proportion by which it may be off, beyond one unit: what a float loses.
const TOLERANCE: f64 = 1e-9;

/// The members of `got` that `want` has.
pub(crate) fn like(want: &Value, got: &Value) -> Value {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            want.iter().filter_map(|(key, want)| Some((key.clone(), like(want, got.get(key)?)))).collect()
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            want.iter().zip(got).map(|(want, got)| like(want, got)).collect()
        }
        _ => got.clone(),
    }
}

fn list(value: &Value) -> Result<ResourceList, String> {
    Option::<ResourceList>::deserialize(value)
        .map(Option::unwrap_or_default)
        .map_err(|error| error.to_string())
}

fn not_negative(what: &str, list: &ResourceList) -> Result<(), String> {
    match list.iter().find(|(_, amount)| amount.signum() < 0) {
        Some((resource, amount)) => Err(format!("{what}: {resource} is {amount}")),
        None => Ok(()),
    }
}

/// Limits against what the container has, without LimitRange default and boost.
fn in_proportion(
    what: &str,
    before: (&ResourceList, &ResourceList),
    after: (&ResourceList, &ResourceList),
    noted: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let (requests, limits) = after;
    not_negative(what, requests)?;
    not_negative(what, limits)?;
    for (resource, limit) in limits {
        let at = |list: &ResourceList| list.get(resource).filter(|amount| !amount.is_zero()).cloned();
        let (Some(old_limit), Some(old_request), Some(request)) = (at(before.1), at(before.0), at(requests))
        else {
            continue;
        };
        if noted(resource) {
            if limit.is_zero() {
                return Err(format!("{what}: {resource} limit is zero"));
            }
            continue;
        }
        let units = if resource == "cpu" { 1e3 } else { 1.0 };
        let up = |amount: &Quantity| (amount.as_f64() * units).ceil();
        let exact = up(&old_limit) * up(&request) / up(&old_request);
        if up(&old_limit) == up(&old_request) {
            continue;
        }
        let got = limit.as_f64() * units;
        if (got - exact).abs() > 1.0 + exact * TOLERANCE {
            return Err(format!("{what}: {resource} limit is {limit}, in proportion it is {exact:e} units"));
        }
    }
    Ok(())
}

/// An answer for a pod: it is admitted, and what the patch (which applies, or there would be no `got`) makes of its
/// containers is sound.
pub(crate) fn pod(request: &Value, got: &Value) -> Result<(), String> {
    let request = &request["request"];
    golden::expect("uid", &request["uid"], &got["response"]["uid"])?;
    golden::expect("allowed", &Value::Bool(true), &got["response"]["allowed"])?;
    let pod = Pod::deserialize(&request["object"]).map_err(|error| error.to_string())?;
    let patched: Vec<&str> =
        got["patch"].as_array().into_iter().flatten().filter_map(|op| op["path"].as_str()).collect();
    let updates = got["annotations_after"]["vpaUpdates"].as_str().unwrap_or_default();
    let boosted = got["patch"].to_string().contains("vpaCpuStartupBoost");
    let none = ResourceList::new();
    for (i, (container, after)) in
        pod.spec.containers.iter().zip(got["resources_after"].as_array().into_iter().flatten()).enumerate()
    {
        let set = |side: &str| -> Result<ResourceList, String> {
            let mut list = list(&after["resources"][side])?;
            let path = |resource: &str| format!("/spec/containers/{i}/resources/{side}/{resource}");
            list.retain(|resource, _| patched.contains(&path(resource).as_str()));
            Ok(list)
        };
        let (mut requests, mut limits) = (set("requests")?, set("limits")?);
        if boosted {
            // The boost scales from the spec without the LimitRange; only the sign is of interest.
            not_negative("requests", &requests)?;
            not_negative("limits", &limits)?;
            requests.remove("cpu");
            limits.remove("cpu");
        }
        let before = current_resources(&container.name, &pod);
        let what = format!("container {}", container.name);
        in_proportion(
            &what,
            (before.0.unwrap_or(&none), before.1.unwrap_or(&none)),
            (&requests, &limits),
            |resource| {
                let own = updates.split(&format!("container {i}: ")).nth(1).unwrap_or_default();
                let own = own.split("; container ").next().unwrap_or_default();
                own.contains(&format!("{resource}: {CAPPED}"))
            },
        )?;
    }
    Ok(())
}

/// A recommendation that was capped, and what follows from it.
pub(crate) fn capping(vpa: &VerticalPodAutoscaler, pod: &Pod, got: &Value) -> Result<(), String> {
    let given = vpa.status.iter().filter_map(|status| status.recommendation.as_ref());
    let given: Vec<&RecommendedContainerResources> =
        given.flat_map(|recommendation| recommendation.container_recommendations.iter().flatten()).collect();
    let capped = got["processed"]["recommendation"]["containerRecommendations"].as_array();
    for container in capped.into_iter().flatten() {
        let capped =
            RecommendedContainerResources::deserialize(container).map_err(|error| error.to_string())?;
        let name = capped.container_name.clone().unwrap_or_default();
        let none = ResourceList::new();
        let lists = |r: &RecommendedContainerResources| {
            [Some(&r.target), r.lower_bound.as_ref(), r.upper_bound.as_ref()]
                .map(|list| list.cloned().unwrap_or_default())
        };
        let before = given.iter().find(|given| given.container_name == capped.container_name);
        let after = lists(&capped);
        for list in &after {
            not_negative(&name, list)?;
        }
        let own = current_resources(&name, pod).0.unwrap_or(&none).clone();
        let before =
            before.map_or_else(|| [own, ResourceList::new(), ResourceList::new()], |before| lists(before));
        for (before, after) in before.iter().zip(&after) {
            golden::expect(&name, &before.keys().collect::<Vec<_>>(), &after.keys().collect::<Vec<_>>())?;
        }
        in_order(&name, &before, &after)?;
    }
    resources(vpa, pod, &got["pod_resources"])
}

fn in_order(name: &str, before: &[ResourceList; 3], after: &[ResourceList; 3]) -> Result<(), String> {
    let ordered = |lists: &[ResourceList; 3], resource: &str, low: usize, high: usize| {
        let (low, high) = (lists[low].get(resource), lists[high].get(resource));
        low.zip(high).is_none_or(|(low, high)| low <= high)
    };
    for resource in after[0].keys() {
        for (low, high) in [(1, 0), (0, 2)] {
            if ordered(before, resource, low, high) && !ordered(after, resource, low, high) {
                return Err(format!("{name}: the bounds of {resource} are out of order"));
            }
        }
    }
    Ok(())
}

/// Requests and limits that follow from a recommendation.
pub(crate) fn resources(_: &VerticalPodAutoscaler, pod: &Pod, got: &Value) -> Result<(), String> {
    let none = ResourceList::new();
    for (container, after) in
        pod.spec.containers.iter().zip(got["containers"].as_array().into_iter().flatten())
    {
        let before = current_resources(&container.name, pod);
        let notes = got["annotations"][&container.name].to_string();
        in_proportion(
            &container.name,
            (before.0.unwrap_or(&none), before.1.unwrap_or(&none)),
            (&list(&after["requests"])?, &list(&after["limits"])?),
            |resource| notes.contains(&format!("{resource}: {CAPPED}")),
        )?;
    }
    Ok(())
}

/// One function: no result is negative, and limits are in proportion.
pub(crate) fn scaling(input: &Value, got: &Value) -> Result<(), String> {
    if let Some(request) = got.get("request") {
        let request = Quantity::deserialize(request).map_err(|error| error.to_string())?;
        return if request.signum() < 0 { Err(format!("request is {request}")) } else { Ok(()) };
    }
    let Some(limits) = got.get("limits") else { return Ok(()) };
    let notes = got["annotations"].to_string();
    in_proportion(
        "limits",
        (&list(&input["original_request"])?, &list(&input["original_limit"])?),
        (&list(&input["recommendation"])?, &list(limits)?),
        |resource| notes.contains(&format!("{resource}: {CAPPED}")),
    )
}
