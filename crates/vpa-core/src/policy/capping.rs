//! Capping of a recommendation for one pod.

use std::collections::BTreeMap;

use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::pod::Pod;
use vpa_api::vpa::{
    ContainerControlledValues, ContainerResourcePolicy, PodResourcePolicy, RecommendedContainerResources,
    RecommendedPodResources,
};
use vpa_api::{Quantity, ResourceList, VerticalPodAutoscaler};

use super::containers::{container_policy, controlled_values, current_resources};
use super::limit_range::{Bounds, LimitRanges};
use super::pod_limits;
use super::scaling::boundary_request;

/// What was changed and why, by container name.
pub type Notes = BTreeMap<String, Vec<String>>;

/// A recommendation made fit for one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processed {
    /// One entry for each container of the pod that has a recommendation.
    pub containers: Vec<RecommendedContainerResources>,
    /// What capping changed in targets.
    pub notes: Notes,
}

/// Caps the recommendation of a VPA for one pod.
///
/// `None` where the VPA has neither a recommendation nor a policy. With a LimitRange on pods, containers without
/// a recommendation take part with their own requests as target. Where lower bound, target and upper bound were in
/// order before, they are so after.
pub fn process(vpa: &VerticalPodAutoscaler, pod: &Pod, limit_ranges: &LimitRanges) -> Option<Processed> {
    let policy = vpa.spec.resource_policy.as_ref();
    let recommendation = vpa.status.as_ref().and_then(|status| status.recommendation.as_ref());
    if recommendation.is_none() && policy.is_none() {
        return None;
    }
    let given = recommendation.and_then(|r| r.container_recommendations.as_deref()).unwrap_or_default();
    let recommendations = match &limit_ranges.pod {
        Some(bounds) => pod_limits::apply(given, pod, bounds),
        None => given.to_vec(),
    };
    let containers = Vec::with_capacity(recommendations.len());
    let mut processed = Processed { containers, ..Processed::default() };
    for mut recommendation in recommendations {
        let name = recommendation.container_name.clone().unwrap_or_default();
        if !pod.spec.containers.iter().any(|container| container.name == name) {
            continue;
        }
        let notes = cap_container(&name, &mut recommendation, pod, policy, limit_ranges.container.as_ref());
        if !notes.is_empty() {
            processed.notes.insert(name.clone(), notes);
        }
        if let Some(before) = super::recommendation_for(&name, given) {
            restore_order(before, &mut recommendation);
        }
        processed.containers.push(recommendation);
    }
    Some(processed)
}

/// Whether what [`process`] makes of a recommendation depends on what a pod's containers request, and not only on which
/// containers it has.
pub fn depends_on_requests(vpa: &VerticalPodAutoscaler, limit_ranges: &LimitRanges) -> bool {
    let policies = vpa.spec.resource_policy.as_ref().and_then(|policy| policy.container_policies.as_deref());
    let keeps_limits = |policy: &ContainerResourcePolicy| {
        policy.controlled_values == Some(ContainerControlledValues::RequestsOnly)
    };
    *limit_ranges != LimitRanges::default() || policies.unwrap_or_default().iter().any(keeps_limits)
}

fn cap_container(
    name: &str,
    recommendation: &mut RecommendedContainerResources,
    pod: &Pod,
    policy: Option<&PodResourcePolicy>,
    limits_of_container: Option<&Bounds>,
) -> Vec<String> {
    let (requests, limits) = current_resources(name, pod);
    let (min, max) = container_policy(name, policy)
        .map_or((None, None), |policy| (policy.min_allowed.as_ref(), policy.max_allowed.as_ref()));
    let requests_only = controlled_values(name, policy) == ContainerControlledValues::RequestsOnly;
    let cap = |list: &mut ResourceList| {
        let mut notes = Vec::new();
        if let Some(bounds) = limits_of_container {
            let (lowest, highest) = request_bounds(requests, limits, bounds);
            cap_between(
                list,
                Some(&lowest).zip(Some("capped to fit Min in container LimitRange")),
                Some(&highest).zip(Some("capped to fit Max in container LimitRange")),
                &mut notes,
            );
        }
        cap_between(
            list,
            min.zip(Some("capped to minAllowed")),
            max.zip(Some("capped to maxAllowed")),
            &mut notes,
        );
        if requests_only {
            cap_to_limit(list, limits, &mut notes);
        }
        notes
    };
    let notes = cap(&mut recommendation.target);
    for bound in [&mut recommendation.lower_bound, &mut recommendation.upper_bound].into_iter().flatten() {
        cap(bound);
    }
    notes
}

type Bound<'a> = Option<(&'a ResourceList, &'static str)>;

/// Raises each amount to its minimum, then lowers it to its maximum. A bound of zero is none.
fn cap_between(list: &mut ResourceList, min: Bound<'_>, max: Bound<'_>, notes: &mut Vec<String>) {
    for (resource, amount) in list {
        let bound = |side: Bound<'_>| {
            side.and_then(|(bounds, note)| {
                Some((bounds.get(resource).filter(|b| !b.is_zero())?.clone(), note))
            })
        };
        if let Some((min, note)) = bound(min)
            && *amount < min
        {
            *amount = min;
            notes.push(format!("{resource} {note}"));
        }
        if let Some((max, note)) = bound(max)
            && *amount > max
        {
            *amount = max;
            notes.push(format!("{resource} {note}"));
        }
    }
}

/// Lowers amounts to the container's limits; a limit of zero counts.
fn cap_to_limit(list: &mut ResourceList, limits: Option<&ResourceList>, notes: &mut Vec<String>) {
    for (resource, limit) in limits.into_iter().flatten() {
        if let Some(amount) = list.get_mut(resource)
            && amount.milli_value_saturating() > limit.milli_value_saturating()
        {
            *amount = limit.clone();
            notes.push(format!("{resource} capped to container limit"));
        }
    }
}

/// Bounds on requests that keep requests and proportional limits within a LimitRange on containers.
fn request_bounds(
    requests: Option<&ResourceList>,
    limits: Option<&ResourceList>,
    bounds: &Bounds,
) -> (ResourceList, ResourceList) {
    let at = |list: Option<&ResourceList>, resource: &str| list.and_then(|list| list.get(resource)).cloned();
    let boundary = |resource: &str, bound: Option<&Quantity>| {
        let (request, limit) = (at(requests, resource), at(limits, resource));
        let default = at(bounds.default.as_ref(), resource);
        boundary_request(resource, request.as_ref(), limit.as_ref(), bound, default.as_ref())
    };
    let (mut lowest, mut highest) = (ResourceList::new(), ResourceList::new());
    for resource in [CPU, MEMORY] {
        if let Some(max) = &bounds.max {
            highest.insert(resource.into(), boundary(resource, max.get(resource)));
        }
        if let Some(min) = &bounds.min {
            // The minimum holds for requests as well as for limits.
            let for_limit = boundary(resource, min.get(resource));
            let for_request = min.get(resource).filter(|min| **min > for_limit).cloned();
            lowest.insert(resource.into(), for_request.unwrap_or(for_limit));
        }
    }
    (lowest, highest)
}

/// Puts lower bound ≤ target ≤ upper bound back where capping broke it.
///
/// A pod with the target as its requests must not look out of bounds, or it would be evicted for ever.
fn restore_order(before: &RecommendedContainerResources, after: &mut RecommendedContainerResources) {
    let RecommendedContainerResources { target, lower_bound, upper_bound, .. } = after;
    for (resource, target) in target {
        let Some(old_target) = before.target.get(resource) else { continue };
        let old = |bound: &Option<ResourceList>| bound.as_ref().and_then(|list| list.get(resource)).cloned();
        if old(&before.lower_bound).is_some_and(|old| old <= *old_target)
            && let Some(lower) = lower_bound.as_mut().and_then(|list| list.get_mut(resource))
            && *lower > *target
        {
            *lower = target.clone();
        }
        if old(&before.upper_bound).is_some_and(|old| old >= *old_target)
            && let Some(upper) = upper_bound.as_mut().and_then(|list| list.get_mut(resource))
            && *upper < *target
        {
            *upper = target.clone();
        }
    }
}

/// Caps a recommendation to the policy of the VPA, with `global_max` for resources that the policy gives no maximum.
///
/// Bounds of zero are none. Minimum first, then maximum, so a maximum below the minimum wins. Target, lower and upper
/// bound are capped; the uncapped target is not.
pub fn apply_vpa_policy(
    recommendation: &RecommendedPodResources,
    policy: Option<&PodResourcePolicy>,
    global_max: &ResourceList,
) -> RecommendedPodResources {
    let mut capped = recommendation.clone();
    for container in capped.container_recommendations.iter_mut().flatten() {
        let policy = container_policy(container.container_name.as_deref().unwrap_or(""), policy);
        let min = policy.and_then(|policy| policy.min_allowed.as_ref());
        let mut max = policy.and_then(|policy| policy.max_allowed.clone()).unwrap_or_default();
        for (resource, amount) in global_max {
            max.entry(resource.clone()).or_insert_with(|| amount.clone());
        }
        let RecommendedContainerResources { target, lower_bound, upper_bound, .. } = container;
        for list in [Some(target), lower_bound.as_mut(), upper_bound.as_mut()].into_iter().flatten() {
            cap_between(list, min.zip(Some("")), Some((&max, "")), &mut Vec::new());
        }
    }
    capped
}
