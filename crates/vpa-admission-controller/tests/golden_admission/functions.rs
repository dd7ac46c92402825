//! Single rules of the core: capping, scaling, merging of limit ranges.

use golden::expect_json;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vpa_api::limit_range::LimitRange;
use vpa_api::pod::Pod;
use vpa_api::vpa::{PodResourcePolicy, RecommendedPodResources, UpdateMode};
use vpa_api::{Quantity, ResourceList, VerticalPodAutoscaler};
use vpa_core::policy::{
    Bounds, ContainerResources, LimitRanges, Notes, Processed, apply_vpa_policy, boundary_request,
    container_resources, process, proportional_limits,
};

use crate::sound;

#[derive(Deserialize)]
pub(crate) struct Capping {
    input: CappingInput,
    expect: Value,
}

#[derive(Deserialize)]
struct CappingInput {
    vpa: VerticalPodAutoscaler,
    pod: Pod,
    #[serde(default)]
    limit_ranges: Vec<LimitRange>,
}

/// A recommendation capped for a pod, and the requests and limits that follow from it.
pub(crate) fn capping(case: &Capping) -> Result<(), String> {
    let CappingInput { vpa, pod, limit_ranges } = &case.input;
    let limit_ranges = LimitRanges::merge(limit_ranges);
    let processed = process(vpa, pod, &limit_ranges);
    let resources = for_pod(vpa, pod, &limit_ranges);
    let got = json!({
        "processed": shown_processed(processed.as_ref()),
        "pod_resources": shown_resources(&resources.0, &resources.1),
    });
    if case.expect.get("sound").is_some() {
        return sound::capping(vpa, pod, &got);
    }
    expect_json("processed", &case.expect["processed"], &got["processed"])?;
    if case.expect["pod_resources"].get("sound").is_some() {
        return sound::resources(vpa, pod, &got["pod_resources"]);
    }
    expect_json("pod_resources", &case.expect["pod_resources"], &got["pod_resources"])
}

/// As the admission controller asks for it, before it sorts out the mode `Off`.
fn for_pod(
    vpa: &VerticalPodAutoscaler,
    pod: &Pod,
    limit_ranges: &LimitRanges,
) -> (Vec<ContainerResources>, Notes) {
    let recommended = vpa.status.as_ref().is_some_and(|status| status.recommendation.is_some());
    let mut processed = recommended.then(|| process(vpa, pod, limit_ranges)).flatten().unwrap_or_default();
    let mode = vpa.spec.update_policy.as_ref().and_then(|policy| policy.update_mode.as_ref());
    let policy = vpa.spec.resource_policy.as_ref().filter(|_| mode != Some(&UpdateMode::Off));
    let limits = limit_ranges.container.as_ref();
    let resources =
        container_resources(pod, policy, &processed.containers, limits, false, &mut processed.notes);
    (resources, processed.notes)
}

fn shown_processed(processed: Option<&Processed>) -> Value {
    let Some(processed) = processed else { return json!({ "annotations": {}, "recommendation": null }) };
    let recommendation = if processed.containers.is_empty() {
        json!({})
    } else {
        json!({ "containerRecommendations": processed.containers })
    };
    json!({ "annotations": processed.notes, "recommendation": recommendation })
}

fn shown_resources(resources: &[ContainerResources], notes: &Notes) -> Value {
    let shown = |resources: &ContainerResources| {
        let mut shown = serde_json::Map::new();
        for (side, list) in [("requests", &resources.requests), ("limits", &resources.limits)] {
            if let Some(list) = list {
                shown.insert(side.to_owned(), json!(list));
            }
        }
        Value::Object(shown)
    };
    json!({ "annotations": notes, "containers": resources.iter().map(shown).collect::<Vec<_>>() })
}

#[derive(Deserialize)]
pub(crate) struct Scaling {
    input: Function,
    expect: Value,
    #[serde(default)]
    expect_any_of: Vec<Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "fn", rename_all = "snake_case")]
enum Function {
    ProportionalLimit {
        #[serde(default)]
        original_limit: ResourceList,
        #[serde(default)]
        original_request: ResourceList,
        #[serde(default)]
        recommendation: ResourceList,
        #[serde(default)]
        default_limit: ResourceList,
    },
    BoundaryRequest {
        resource: String,
        original_request: Option<Quantity>,
        original_limit: Option<Quantity>,
        boundary_limit: Option<Quantity>,
        default_limit: Option<Quantity>,
    },
    ApplyVpaPolicy {
        recommendation: Option<RecommendedPodResources>,
        policy: Option<PodResourcePolicy>,
        #[serde(default)]
        global_max_allowed: Option<ResourceList>,
    },
    LimitRangeMerge {
        limit_ranges: Option<Vec<LimitRange>>,
    },
}

/// One function with its arguments.
pub(crate) fn scaling(case: &Scaling) -> Result<(), String> {
    let got = match &case.input {
        Function::ProportionalLimit { original_limit, original_request, recommendation, default_limit } => {
            let limits = proportional_limits(original_limit, original_request, recommendation, default_limit);
            json!({ "limits": limits.limits, "annotations": limits.notes })
        }
        Function::BoundaryRequest {
            resource,
            original_request,
            original_limit,
            boundary_limit,
            default_limit,
        } => {
            let request = boundary_request(
                resource,
                original_request.as_ref(),
                original_limit.as_ref(),
                boundary_limit.as_ref(),
                default_limit.as_ref(),
            );
            json!({ "request": request })
        }
        Function::ApplyVpaPolicy { recommendation, policy, global_max_allowed } => {
            let global = global_max_allowed.clone().unwrap_or_default();
            let capped = recommendation.as_ref().map(|r| apply_vpa_policy(r, policy.as_ref(), &global));
            let mut capped = json!(capped);
            // An empty list is left out, as Go writes it.
            if let Some(capped) = capped.as_object_mut() {
                capped.retain(|_, list| list.as_array().is_none_or(|list| !list.is_empty()));
            }
            json!({ "recommendation": capped })
        }
        Function::LimitRangeMerge { limit_ranges } => {
            let merged = LimitRanges::merge(limit_ranges.iter().flatten());
            json!({
                "container": shown_bounds("Container", merged.container.as_ref()),
                "pod": shown_bounds("Pod", merged.pod.as_ref()),
            })
        }
    };
    if case.expect.get("sound").is_some() {
        return sound::scaling(&json!(case.input), &got);
    }
    let all = std::iter::once(&case.expect).chain(&case.expect_any_of);
    let mut outcomes = all.map(|want| {
        let mut want = want.clone();
        want.as_object_mut().and_then(|want| want.remove("order_random"));
        expect_json("result", &want, &got)
    });
    let first = outcomes.next().unwrap_or(Ok(()));
    if outcomes.any(|outcome| outcome.is_ok()) { Ok(()) } else { first }
}

fn shown_bounds(type_: &str, bounds: Option<&Bounds>) -> Value {
    let Some(bounds) = bounds else { return Value::Null };
    let mut shown = serde_json::Map::from_iter([("type".to_owned(), json!(type_))]);
    for (name, list) in [("min", &bounds.min), ("max", &bounds.max), ("default", &bounds.default)] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            shown.insert(name.to_owned(), json!(list));
        }
    }
    Value::Object(shown)
}
