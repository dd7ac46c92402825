//! Policies and resources of single containers.

use vpa_api::ResourceList;
use vpa_api::pod::Pod;
use vpa_api::vpa::{
    ContainerControlledValues, ContainerResourcePolicy, PodResourcePolicy, RecommendedContainerResources,
    WILDCARD_CONTAINER,
};

use super::capping::Notes;
use super::limit_range::Bounds;
use super::scaling::proportional_limits;

/// The policy of a container: the first that names it, else the last wildcard. A named policy replaces the wildcard
/// whole.
pub fn container_policy<'a>(
    name: &str,
    policy: Option<&'a PodResourcePolicy>,
) -> Option<&'a ContainerResourcePolicy> {
    let policies = policy?.container_policies.as_deref()?;
    let is = |p: &ContainerResourcePolicy, wanted: &str| p.container_name.as_deref().unwrap_or("") == wanted;
    policies
        .iter()
        .find(|p| is(p, name))
        .or_else(|| policies.iter().rev().find(|p| is(p, WILDCARD_CONTAINER)))
}

/// Which values of a container follow the recommendation; requests and limits where nothing is said.
pub fn controlled_values(name: &str, policy: Option<&PodResourcePolicy>) -> ContainerControlledValues {
    container_policy(name, policy)
        .and_then(|policy| policy.controlled_values.clone())
        .unwrap_or(ContainerControlledValues::RequestsAndLimits)
}

/// Requests and limits in force for a main container: those that the kubelet reports, else those of the spec.
pub fn current_resources<'a>(
    name: &str,
    pod: &'a Pod,
) -> (Option<&'a ResourceList>, Option<&'a ResourceList>) {
    let status = pod.status.container_statuses.iter().find(|status| status.name == name);
    let reported = status.and_then(|status| status.resources.as_ref());
    let spec = || pod.spec.containers.iter().find(|container| container.name == name).map(|c| &c.resources);
    match reported.or_else(spec) {
        Some(resources) => (resources.requests.as_ref(), resources.limits.as_ref()),
        None => (None, None),
    }
}

/// The recommendation of a container; the first where several name it.
pub fn recommendation_for<'a>(
    name: &str,
    recommendations: &'a [RecommendedContainerResources],
) -> Option<&'a RecommendedContainerResources> {
    recommendations.iter().find(|r| r.container_name.as_deref().unwrap_or("") == name)
}

/// Requests and limits that a container should get; `None` leaves that side alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerResources {
    /// Requests.
    pub requests: Option<ResourceList>,
    /// Limits.
    pub limits: Option<ResourceList>,
}

/// Requests and limits for each main container of a pod, in the order of its spec.
///
/// `recommendations` are those of [`process`](super::process); `policy` tells whether limits follow (none at all means
/// they do); `container_limits` gives the default limits of the namespace. Notes on limits are added to `notes`. With
/// `keep_others`, what is not recommended is given as the pod has it, else it is left out.
pub fn container_resources(
    pod: &Pod,
    policy: Option<&PodResourcePolicy>,
    recommendations: &[RecommendedContainerResources],
    container_limits: Option<&Bounds>,
    keep_others: bool,
    notes: &mut Notes,
) -> Vec<ContainerResources> {
    let none = ResourceList::new();
    let defaults = container_limits.and_then(|bounds| bounds.default.as_ref()).unwrap_or(&none);
    let for_container = |name: &str, notes: &mut Notes| {
        let (requests, limits) = current_resources(name, pod);
        let mut result = ContainerResources::default();
        match recommendation_for(name, recommendations) {
            Some(recommendation) => result.requests = Some(recommendation.target.clone()),
            None if keep_others => result.requests = requests.cloned(),
            None => return result,
        }
        if controlled_values(name, policy) == ContainerControlledValues::RequestsAndLimits {
            let scaled = proportional_limits(
                limits.unwrap_or(&none),
                requests.unwrap_or(&none),
                result.requests.as_ref().unwrap_or(&none),
                defaults,
            );
            result.limits = scaled.limits;
            if !scaled.notes.is_empty() {
                notes.entry(name.to_owned()).or_default().extend(scaled.notes);
            }
        }
        if keep_others {
            keep(&mut result.requests, requests);
            keep(&mut result.limits, limits);
        }
        // A resource without a name would make the API server refuse the pod.
        for list in [&mut result.requests, &mut result.limits].into_iter().flatten() {
            list.remove("");
        }
        result
    };
    pod.spec.containers.iter().map(|container| for_container(&container.name, notes)).collect()
}

/// Fills in cpu and memory from `current` where `list` has none.
fn keep(list: &mut Option<ResourceList>, current: Option<&ResourceList>) {
    let list = list.get_or_insert_default();
    for resource in [vpa_api::names::resource::CPU, vpa_api::names::resource::MEMORY] {
        if let Some(amount) = current.and_then(|current| current.get(resource)) {
            list.entry(resource.into()).or_insert_with(|| amount.clone());
        }
    }
}
