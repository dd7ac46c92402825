//! Quantities, and the functions that patches are computed with.

use std::collections::BTreeSet;

use serde::Deserialize;
use vpa_api::limit_range::LimitRange;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::pod::Pod;
use vpa_api::vpa::{PodResourcePolicy, RecommendedContainerResources, RecommendedPodResources};
use vpa_api::{Quantity, ResourceList, VerticalPodAutoscaler};
use vpa_core::policy::{
    Bounds, LimitRanges, Notes, apply_vpa_policy, boundary_request, container_resources, current_resources,
    process, proportional_limit, proportional_limits,
};

use crate::quantity::{self, Extent};
use crate::{Problem, Worth, ensure};

/// One function with its arguments, in the form of the golden cases.
#[derive(Deserialize)]
#[serde(tag = "fn", rename_all = "snake_case")]
enum Input {
    Quantity {
        texts: Vec<String>,
    },
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
        recommendation: RecommendedPodResources,
        policy: Option<PodResourcePolicy>,
        #[serde(default)]
        global_max_allowed: Option<ResourceList>,
    },
    LimitRangeMerge {
        limit_ranges: Vec<LimitRange>,
    },
    Capping {
        vpa: Box<VerticalPodAutoscaler>,
        pod: Box<Pod>,
        #[serde(default)]
        limit_ranges: Vec<LimitRange>,
    },
}

/// Runs one function.
///
/// The input has the member `fn`, which says which one, and its arguments.
///
/// # Errors
/// What is wrong with the result.
pub fn maths(input: &[u8]) -> Result<Worth, Problem> {
    let Ok(input) = serde_json::from_slice::<Input>(input) else { return Ok(Worth::Nothing) };
    match input {
        Input::Quantity { texts } => quantity::quantities(&texts),
        Input::ProportionalLimit { original_limit, original_request, recommendation, default_limit } => {
            limits(&original_limit, &original_request, &recommendation, &default_limit)
        }
        Input::BoundaryRequest {
            resource,
            original_request,
            original_limit,
            boundary_limit,
            default_limit,
        } => {
            let given =
                [&original_request, &original_limit, &boundary_limit, &default_limit].map(Option::as_ref);
            boundary(&resource, given)
        }
        Input::ApplyVpaPolicy { recommendation, policy, global_max_allowed } => {
            capped_by_policy(&recommendation, policy.as_ref(), &global_max_allowed.unwrap_or_default())
        }
        Input::LimitRangeMerge { limit_ranges } => merged(&limit_ranges),
        Input::Capping { vpa, pod, limit_ranges } => {
            capped_for_pod(&vpa, &pod, &LimitRanges::merge(&limit_ranges))
        }
    }?;
    Ok(Worth::Checked)
}

/// Largest amount for which results are asked to be exact, in units: the product of two stays below 2^127.
const EXACT_MAX: i128 = 1 << 62;

/// The amount in thousandths of a core or in bytes, rounded up; none beyond [`EXACT_MAX`] and below zero.
fn units(resource: &str, amount: &Quantity) -> Option<i128> {
    let units = if resource == CPU { amount.milli_value_saturating() } else { amount.value_saturating() };
    Some(i128::from(units)).filter(|units| (0..=EXACT_MAX).contains(units))
}

fn is_set(amount: Option<&Quantity>) -> Option<&Quantity> {
    amount.filter(|amount| !amount.is_zero())
}

/// Whether `got` is the whole part of `value * numerator / denominator`.
fn is_quotient(got: i128, value: i128, numerator: i128, denominator: i128) -> bool {
    let product = value * numerator;
    got * denominator <= product && product < (got + 1) * denominator
}

/// Limits that follow a recommendation.
fn limits(
    limit: &ResourceList,
    request: &ResourceList,
    recommended: &ResourceList,
    default: &ResourceList,
) -> Result<(), Problem> {
    let all = proportional_limits(limit, request, recommended, default);
    for resource in [CPU, MEMORY] {
        let given = [limit, request, recommended, default].map(|list| list.get(resource));
        let [limit, request, recommended, default] = given;
        let (got, note) = proportional_limit(resource, limit, request, recommended, default);
        let together = all.limits.as_ref().and_then(|limits| limits.get(resource));
        let what = || format!("{resource} limit {got:?} ({note:?}) from {given:?}");
        ensure(together == got.as_ref(), what)?;
        let in_force = is_set(limit).or(is_set(default));
        let (Some(in_force), Some(recommended)) = (in_force, is_set(recommended)) else {
            ensure(got.is_none() && note.is_some(), what)?;
            continue;
        };
        let Some(got) = &got else { return Err(what()) };
        let given = [Some(in_force), request, Some(recommended)];
        if given.into_iter().flatten().any(|amount| amount.signum() < 0) {
            continue;
        }
        ensure(got.signum() >= 0 && (note.is_none() || got.signum() > 0), what)?;
        let Some(request) = is_set(request) else {
            ensure(got == recommended, what)?;
            continue;
        };
        let exact = [in_force, request, recommended, got].map(|amount| units(resource, amount));
        let [Some(old_limit), Some(old_request), Some(wanted), Some(new)] = exact else { continue };
        ensure(old_limit < old_request || got >= recommended, what)?;
        // Amounts that differ by less than a unit count as equal.
        let equal = (old_limit - old_request).abs() <= 1 && got == recommended;
        ensure(equal || is_quotient(new, old_limit, wanted, old_request), what)?;
    }
    Ok(())
}

fn milli(amount: &Quantity) -> i64 {
    amount.milli_value_saturating()
}

/// The request that keeps a limit at a bound.
fn boundary(resource: &str, given: [Option<&Quantity>; 4]) -> Result<(), Problem> {
    let [request, limit, bound, default] = given;
    let got = boundary_request(resource, request, limit, bound, default);
    let what = || format!("{resource} boundary {got} from {given:?}");
    if given.into_iter().flatten().any(|amount| amount.signum() < 0) {
        return Ok(());
    }
    ensure(got.signum() >= 0, what)?;
    let (Some(in_force), Some(bound)) = (is_set(limit).or(is_set(default)), bound) else {
        return ensure(got.is_zero(), what);
    };
    let Some(request) = is_set(request) else { return ensure(got == *bound, what) };
    let exact = [request, bound, in_force, &got].map(|amount| units(resource, amount));
    let [Some(request_units), Some(bound_units), Some(limit_units), Some(new)] = exact else { return Ok(()) };
    ensure(is_quotient(new, request_units, bound_units, limit_units), what)?;
    // What it is for: the limit that follows from it is within the bound.
    let (follows, _) = proportional_limit(resource, Some(in_force), Some(request), Some(&got), None);
    let follows = follows.as_ref().and_then(|follows| units(resource, follows)).unwrap_or_default();
    ensure(follows <= bound_units || milli(in_force) == milli(request), || {
        format!("{}, which gives {follows}", what())
    })
}

fn lists(container: &RecommendedContainerResources) -> [ResourceList; 3] {
    let RecommendedContainerResources { target, lower_bound, upper_bound, .. } = container;
    [lower_bound.clone().unwrap_or_default(), target.clone(), upper_bound.clone().unwrap_or_default()]
}

/// Bounds of the recommender.
fn capped_by_policy(
    given: &RecommendedPodResources,
    policy: Option<&PodResourcePolicy>,
    global_max: &ResourceList,
) -> Result<(), Problem> {
    let once = apply_vpa_policy(given, policy, global_max);
    let twice = apply_vpa_policy(&once, policy, global_max);
    ensure(once == twice, || format!("capped again {once:?} becomes {twice:?}"))?;
    let containers =
        |pod: &RecommendedPodResources| pod.container_recommendations.clone().unwrap_or_default();
    let (before, after) = (containers(given), containers(&once));
    ensure(before.len() == after.len(), || "containers were lost".to_owned())?;
    for (before, after) in before.iter().zip(&after) {
        ensure(before.uncapped_target == after.uncapped_target, || "the uncapped target changed".to_owned())?;
        let own =
            vpa_core::policy::container_policy(after.container_name.as_deref().unwrap_or_default(), policy);
        for (before, after) in lists(before).iter().zip(&lists(after)) {
            ensure(before.keys().eq(after.keys()), || format!("{before:?} became {after:?}"))?;
            for (resource, amount) in after {
                let own_max = own.and_then(|own| own.max_allowed.as_ref()).and_then(|max| max.get(resource));
                let most = is_set(own_max.or_else(|| global_max.get(resource)));
                ensure(most.is_none_or(|most| amount <= most), || {
                    format!("{resource} {amount} above {most:?}")
                })?;
            }
        }
    }
    Ok(())
}

/// Limits of a namespace: of several bounds the narrowest, in any order of the objects.
fn merged(limit_ranges: &[LimitRange]) -> Result<(), Problem> {
    let merged = LimitRanges::merge(limit_ranges);
    for (type_, bounds) in [("Container", &merged.container), ("Pod", &merged.pod)] {
        let items =
            || limit_ranges.iter().flat_map(|range| &range.spec.limits).filter(|item| item.type_ == type_);
        let at = |list: &Option<ResourceList>, resource: &str| {
            list.as_ref().and_then(|list| list.get(resource)).cloned()
        };
        for resource in [CPU, MEMORY] {
            let (least, most) = (
                items().filter_map(|item| at(&item.min, resource)).max(),
                items().filter_map(|item| at(&item.max, resource)).min(),
            );
            let found = |side: fn(&Bounds) -> &Option<ResourceList>| {
                bounds.as_ref().and_then(|b| at(side(b), resource))
            };
            let (min, max) = (found(|bounds| &bounds.min), found(|bounds| &bounds.max));
            ensure((&min, &max) == (&least, &most), || {
                format!("{type_} {resource}: {min:?} and {max:?} for {least:?} and {most:?}")
            })?;
        }
    }
    Ok(())
}

/// A recommendation made fit for a pod.
fn capped_for_pod(vpa: &VerticalPodAutoscaler, pod: &Pod, limit_ranges: &LimitRanges) -> Result<(), Problem> {
    let Some(processed) = process(vpa, pod, limit_ranges) else { return Ok(()) };
    let given = vpa.status.as_ref().and_then(|status| status.recommendation.as_ref());
    let given = given.and_then(|given| given.container_recommendations.as_deref()).unwrap_or_default();
    let mut extent = Extent::of(&serde_json::json!([vpa, pod]));
    for bounds in [&limit_ranges.container, &limit_ranges.pod].into_iter().flatten() {
        let lists = [&bounds.min, &bounds.max, &bounds.default].into_iter().flatten();
        lists
            .flat_map(|list| list.into_iter().map(|(_, amount)| amount))
            .for_each(|amount| extent.add(amount));
    }
    for capped in &processed.containers {
        let name = capped.container_name.as_deref().unwrap_or_default();
        // Of several recommendations for a container only one counts, so they are not compared.
        let mut named =
            given.iter().filter(|given| given.container_name.as_deref().unwrap_or_default() == name);
        let before = named.next().filter(|_| named.next().is_none());
        let after = lists(capped);
        for amount in after.iter().flat_map(|list| list.into_iter().map(|(_, amount)| amount)) {
            ensure(extent.negative || amount.signum() >= 0, || format!("container {name}: {amount}"))?;
            ensure(extent.negative || extent.zero || amount.signum() > 0, || {
                format!("container {name}: {amount}")
            })?;
        }
        if let Some(before) = before {
            in_order(name, &lists(before), &after)?;
        }
    }
    if !extent.negative && !extent.huge {
        within_container_max(vpa, pod, limit_ranges, &processed.containers)?;
        within_pod_max(vpa, pod, limit_ranges, &processed.containers)?;
    }
    Ok(())
}

/// Lower bound, target and upper bound keep their resources, and their order where they had it.
fn in_order(name: &str, before: &[ResourceList; 3], after: &[ResourceList; 3]) -> Result<(), Problem> {
    let ordered = |lists: &[ResourceList; 3], resource: &str, low: usize| {
        let (low, high) = (lists[low].get(resource), lists[low + 1].get(resource));
        low.zip(high).is_none_or(|(low, high)| low <= high)
    };
    for (before, after) in before.iter().zip(after) {
        ensure(before.keys().eq(after.keys()), || format!("container {name}: {before:?} became {after:?}"))?;
    }
    for resource in after[1].keys() {
        for low in 0..2 {
            ensure(!ordered(before, resource, low) || ordered(after, resource, low), || {
                format!("container {name}: bounds of {resource} out of order: {after:?}")
            })?;
        }
    }
    Ok(())
}

/// Where a LimitRange on containers is the only bound and has no minimum, limits that follow keep to its maximum.
fn within_container_max(
    vpa: &VerticalPodAutoscaler,
    pod: &Pod,
    limit_ranges: &LimitRanges,
    capped: &[RecommendedContainerResources],
) -> Result<(), Problem> {
    let (Some(bounds), None, None) = (&limit_ranges.container, &limit_ranges.pod, &vpa.spec.resource_policy)
    else {
        return Ok(());
    };
    let resources = container_resources(pod, None, capped, Some(bounds), false, &mut Notes::new());
    for (container, resources) in pod.spec.containers.iter().zip(&resources) {
        let (requests, limits) = current_resources(&container.name, pod);
        let at =
            |list: Option<&ResourceList>, resource: &str| list.and_then(|list| list.get(resource)).cloned();
        for resource in [CPU, MEMORY] {
            let (request, limit) = (at(requests, resource), at(limits, resource));
            let default = at(bounds.default.as_ref(), resource);
            let (Some(max), None) = (at(bounds.max.as_ref(), resource), at(bounds.min.as_ref(), resource))
            else {
                continue;
            };
            let given = [request.as_ref(), limit.as_ref(), Some(&max), default.as_ref()];
            let boundary = boundary_request(resource, given[0], given[1], given[2], given[3]);
            let Some(got) = at(resources.limits.as_ref(), resource) else { continue };
            // A maximum that no request of one unit meets is none.
            let fits = boundary.is_zero() || units(resource, &got) <= units(resource, &max);
            ensure(fits, || {
                format!("container {}: {resource} limit {got} above {max} of the LimitRange", container.name)
            })?;
        }
    }
    Ok(())
}

/// Amounts from which rounding no longer matters in [`within_pod_max`].
const MANY_UNITS: i128 = 1000;

/// Where the maximum of a LimitRange on pods is the only bound, the sum of the limits that follow keeps to it.
fn within_pod_max(
    vpa: &VerticalPodAutoscaler,
    pod: &Pod,
    limit_ranges: &LimitRanges,
    capped: &[RecommendedContainerResources],
) -> Result<(), Problem> {
    let (None, Some(Bounds { min: None, max: Some(max), default: None }), None) =
        (&limit_ranges.container, &limit_ranges.pod, &vpa.spec.resource_policy)
    else {
        return Ok(());
    };
    let names: BTreeSet<&str> = pod.spec.containers.iter().map(|container| container.name.as_str()).collect();
    let recommended: BTreeSet<_> = capped.iter().map(|capped| &capped.container_name).collect();
    if names.len() != pod.spec.containers.len() || recommended.len() != capped.len() {
        return Ok(());
    }
    let resources = container_resources(pod, None, capped, None, false, &mut Notes::new());
    for resource in [CPU, MEMORY] {
        let Some(max) = is_set(max.get(resource)).and_then(|max| units(resource, max)) else { continue };
        let mut sum = 0;
        let mut exact = true;
        for (container, resources) in pod.spec.containers.iter().zip(&resources) {
            let at = |list: Option<&ResourceList>| list.and_then(|list| units(resource, list.get(resource)?));
            let Some(limit) = at(resources.limits.as_ref()) else { continue };
            let (old_request, old_limit) = current_resources(&container.name, pod);
            let was_valid =
                at(old_request).is_none_or(|request| at(old_limit).is_some_and(|limit| limit >= request));
            exact &= was_valid && at(resources.requests.as_ref()).is_some_and(|target| target >= MANY_UNITS);
            sum += limit;
        }
        // Each limit was rounded down before they were added up, and each target after it was scaled.
        ensure(!exact || sum <= max + max / MANY_UNITS + 1, || {
            format!("limits of {resource} add up to {sum} units, above {max} of the LimitRange")
        })?;
    }
    Ok(())
}
