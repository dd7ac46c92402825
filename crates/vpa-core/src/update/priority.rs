//! How urgent an update of a pod is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use vpa_api::names::annotation;
use vpa_api::pod::Pod;
use vpa_api::vpa::RecommendedContainerResources;

use crate::policy::{current_resources, recommendation_for};

/// How far a pod is from its recommendation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PodPriority {
    /// A request is below the lower bound or above the upper bound, or missing.
    pub outside_recommended_range: bool,
    /// A container wants to grow.
    pub scale_up: bool,
    /// Sum over the resources of |request − target| / request, on the totals of the pod.
    pub resource_diff: f64,
}

impl PodPriority {
    /// Most urgent first: pods that want to grow, then the larger difference.
    pub fn cmp_urgency(&self, other: &Self) -> Ordering {
        other.scale_up.cmp(&self.scale_up).then_with(|| other.resource_diff.total_cmp(&self.resource_diff))
    }
}

/// Containers that the admission controller saw when it admitted the pod; `None` where it did not say, or where what it
/// said is not a list of container names.
pub fn observed_containers(pod: &Pod) -> Option<BTreeSet<&str>> {
    let value = pod.metadata.annotations.as_ref()?.get(annotation::OBSERVED_CONTAINERS)?;
    if value.is_empty() {
        return Some(BTreeSet::new());
    }
    let names: BTreeSet<&str> = value.split(", ").collect();
    names.iter().all(|name| is_dns_label(name)).then_some(names)
}

/// Whether a text is a DNS label as of RFC 1123, which container names are.
fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    (1..=63).contains(&bytes.len()) && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

/// How urgent it is to bring a pod to a recommendation that is already capped for it.
///
/// Totals are in thousandths and saturate, so no sum of requests can turn a difference around.
pub fn pod_priority(pod: &Pod, recommendations: &[RecommendedContainerResources]) -> PodPriority {
    let observed = observed_containers(pod);
    let mut priority = PodPriority::default();
    // Sum over the containers of what is requested and of what is recommended, by resource.
    let mut totals: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for container in &pod.spec.containers {
        if observed.as_ref().is_some_and(|names| !names.contains(container.name.as_str())) {
            continue;
        }
        let Some(recommended) = recommendation_for(&container.name, recommendations) else { continue };
        let (requests, _) = current_resources(&container.name, pod);
        for (resource, target) in &recommended.target {
            let (requested_total, recommended_total) = totals.entry(resource).or_default();
            *recommended_total = recommended_total.saturating_add(target.milli_value_saturating());
            let Some(request) = requests.and_then(|r| r.get(resource)) else {
                // The namespace's default applies then; it counts as none.
                priority.scale_up = true;
                priority.outside_recommended_range = true;
                continue;
            };
            *requested_total = requested_total.saturating_add(request.milli_value_saturating());
            priority.scale_up |= target.milli_value_saturating() > request.milli_value_saturating();
            let below =
                recommended.lower_bound.as_ref().and_then(|b| b.get(resource)).is_some_and(|b| request < b);
            let above =
                recommended.upper_bound.as_ref().and_then(|b| b.get(resource)).is_some_and(|b| request > b);
            priority.outside_recommended_range |= below || above;
        }
    }
    for (requested, recommended) in totals.into_values() {
        // At least one thousandth, so that a pod without requests has a finite difference.
        let requested = (requested as f64).max(1.0);
        priority.resource_diff += (requested - recommended as f64).abs() / requested;
    }
    priority
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observed_containers_must_be_labels() {
        let pod = |value: &str| {
            let mut pod = Pod::default();
            pod.metadata.annotations =
                Some([(annotation::OBSERVED_CONTAINERS.to_owned(), value.to_owned())].into());
            pod
        };
        assert_eq!(observed_containers(&Pod::default()), None);
        assert_eq!(observed_containers(&pod("")), Some(BTreeSet::new()));
        assert_eq!(observed_containers(&pod("a, b")), Some(["a", "b"].into()));
        for wrong in ["a,b", "a,  b", "A", "-a", "a-", "a, ", &"a".repeat(64)] {
            assert_eq!(observed_containers(&pod(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn growing_pods_come_first_then_the_larger_difference() {
        let p = |scale_up, resource_diff| PodPriority {
            scale_up,
            resource_diff,
            outside_recommended_range: false,
        };
        let mut all = [p(false, 9.0), p(true, 0.1), p(false, 10.0), p(true, 0.2)];
        all.sort_by(PodPriority::cmp_urgency);
        assert_eq!(all, [p(true, 0.2), p(true, 0.1), p(false, 10.0), p(false, 9.0)]);
    }
}
