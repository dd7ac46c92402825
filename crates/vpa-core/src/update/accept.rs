//! Which pods are worth an update at all.

use jiff::{SignedDuration, Timestamp};
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_api::vpa::{
    ContainerScalingMode, EvictionChangeRequirement, EvictionRequirement, RecommendedContainerResources,
};
use vpa_api::{Quantity, ResourceList};

use super::config::Config;
use super::priority::{PodPriority, observed_containers, pod_priority};
use crate::policy::{container_policy, current_resources, recommendation_for};

/// Why a pod is not worth an update now.
#[derive(Clone, Debug, PartialEq)]
pub enum Rejection {
    /// Nothing is recommended.
    NoRecommendation,
    /// The same or a smaller resize was found infeasible on the pod's node.
    NotLowerThanInfeasible,
    /// Within its bounds, and the pod's start is not known.
    NoStartTime,
    /// Within its bounds and younger than the threshold.
    TooYoung {
        /// When it will be old enough.
        until: Timestamp,
    },
    /// Within its bounds and the change is below the threshold.
    ChangeTooSmall {
        /// Relative change.
        diff: f64,
    },
    /// It ran out of memory soon after its start, but the recommendation would change nothing.
    OomWithoutChange,
    /// A condition on the direction of the change does not hold.
    EvictionRequirements,
}

/// Decides whether a pod is worth an update, and how urgent it is.
///
/// It is when a request is outside the recommended range, when a container ran out of memory soon after its start and
/// would change, or when the pod is old enough and the change large enough.
///
/// # Errors
/// Why it is not.
pub fn accept(
    pod: &Pod,
    vpa: &VerticalPodAutoscaler,
    processed: Option<&[RecommendedContainerResources]>,
    infeasible: Option<&[RecommendedContainerResources]>,
    config: &Config,
    now: Timestamp,
) -> Result<PodPriority, Rejection> {
    let processed = processed.ok_or(Rejection::NoRecommendation)?;
    if infeasible.is_some_and(|attempt| !has_lower_target(attempt, processed)) {
        return Err(Rejection::NotLowerThanInfeasible);
    }
    let priority = pod_priority(pod, processed);
    let quick_oom = has_quick_oom(pod, vpa, config);
    if !priority.outside_recommended_range && !quick_oom {
        let start = pod.status.start_time.as_ref().ok_or(Rejection::NoStartTime)?.0;
        let until = start.saturating_add(config.pod_lifetime_threshold).unwrap_or(Timestamp::MAX);
        if now < until {
            return Err(Rejection::TooYoung { until });
        }
        if priority.resource_diff < config.update_threshold {
            return Err(Rejection::ChangeTooSmall { diff: priority.resource_diff });
        }
    }
    if quick_oom && priority.resource_diff == 0.0 {
        return Err(Rejection::OomWithoutChange);
    }
    Ok(priority)
}

/// Whether a scaled container of the pod was OOM-killed soon after its start. How long ago that was does not matter.
fn has_quick_oom(pod: &Pod, vpa: &VerticalPodAutoscaler, config: &Config) -> bool {
    let threshold = oom_threshold(vpa, config);
    let observed = observed_containers(pod);
    pod.status.container_statuses.iter().any(|status| {
        let seen = observed.as_ref().is_none_or(|names| names.contains(status.name.as_str()));
        let policy = container_policy(&status.name, vpa.spec.resource_policy.as_ref());
        let off = policy.and_then(|p| p.mode.as_ref()) == Some(&ContainerScalingMode::Off);
        seen && !off
            && status.last_state.terminated.as_ref().is_some_and(|end| {
                end.reason.as_deref() == Some("OOMKilled")
                    && match (&end.started_at, &end.finished_at) {
                        (Some(start), Some(finish)) => finish.0.duration_since(start.0) < threshold,
                        // A missing time counts as the beginning of time, as in the Go suite.
                        (None, None) => threshold > SignedDuration::ZERO,
                        (Some(_), None) => true,
                        (None, Some(_)) => false,
                    }
            })
    })
}

fn oom_threshold(vpa: &VerticalPodAutoscaler, config: &Config) -> SignedDuration {
    let own = vpa.spec.update_policy.as_ref().and_then(|p| p.evict_after_oom_seconds);
    match own.filter(|_| config.features.per_vpa_config) {
        Some(seconds) => SignedDuration::from_secs(i64::from(seconds)),
        None => config.evict_after_oom_threshold,
    }
}

/// Whether some target of a container in both recommendations is lower in the second one.
pub fn has_lower_target(
    attempt: &[RecommendedContainerResources],
    new: &[RecommendedContainerResources],
) -> bool {
    new.iter().any(|container| {
        let name = container.container_name.as_deref().unwrap_or_default();
        recommendation_for(name, attempt).is_some_and(|old| {
            container
                .target
                .iter()
                .any(|(resource, target)| old.target.get(resource).is_some_and(|old| target < old))
        })
    })
}

/// Whether the conditions that a VPA sets on the direction of a change hold for a pod: all of them for at least one
/// container. A container that lacks a CPU or memory request lets the pod pass.
///
/// With an update policy, a pod none of whose containers has a recommendation does not pass, conditions or not.
pub fn meets_eviction_requirements(
    pod: &Pod,
    vpa: &VerticalPodAutoscaler,
    processed: &[RecommendedContainerResources],
) -> bool {
    let Some(policy) = &vpa.spec.update_policy else { return true };
    let requirements = policy.eviction_requirements.as_deref().unwrap_or_default();
    pod.spec.containers.iter().any(|container| {
        let Some(recommended) = recommendation_for(&container.name, processed) else { return false };
        let empty = ResourceList::new();
        let requests = current_resources(&container.name, pod).0.unwrap_or(&empty);
        if !requests.contains_key("cpu") || !requests.contains_key("memory") {
            return true;
        }
        requirements.iter().all(|requirement| holds(requirement, requests, &recommended.target))
    })
}

fn holds(requirement: &EvictionRequirement, requests: &ResourceList, target: &ResourceList) -> bool {
    let amount =
        |list: &ResourceList, resource: &str| list.get(resource).map_or(0, Quantity::milli_value_saturating);
    requirement.resources.iter().any(|resource| {
        let (request, target) = (amount(requests, resource), amount(target, resource));
        match requirement.change_requirement {
            EvictionChangeRequirement::TargetHigherThanRequests => target > request,
            EvictionChangeRequirement::TargetLowerThanRequests => target < request,
            EvictionChangeRequirement::Unknown(_) => false,
        }
    })
}
