//! LimitRanges on the sum over a pod.

use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::pod::Pod;
use vpa_api::vpa::RecommendedContainerResources;
use vpa_api::{Quantity, ResourceList};

use super::containers::current_resources;
use super::limit_range::Bounds;
use super::scaling::{Rounding, from_units, proportional_limit, scale};

/// One of the three amounts of a recommendation.
#[derive(Clone, Copy)]
enum Field {
    Upper,
    Target,
    Lower,
}

impl Field {
    fn of(self, recommendation: &RecommendedContainerResources) -> Option<&ResourceList> {
        match self {
            Self::Upper => recommendation.upper_bound.as_ref(),
            Self::Target => Some(&recommendation.target),
            Self::Lower => recommendation.lower_bound.as_ref(),
        }
    }

    fn of_mut(self, recommendation: &mut RecommendedContainerResources) -> Option<&mut ResourceList> {
        match self {
            Self::Upper => recommendation.upper_bound.as_mut(),
            Self::Target => Some(&mut recommendation.target),
            Self::Lower => recommendation.lower_bound.as_mut(),
        }
    }
}

/// Scales recommendations so that the pod's sums meet the bounds.
///
/// Containers without a recommendation take part with their own requests as target; they have no bounds to scale. An
/// amount that is not recommended is not made up.
pub(super) fn apply(
    given: &[RecommendedContainerResources],
    pod: &Pod,
    bounds: &Bounds,
) -> Vec<RecommendedContainerResources> {
    let mut recommendations = given.to_vec();
    for container in &pod.spec.containers {
        if super::recommendation_for(&container.name, given).is_some() {
            continue;
        }
        if let (Some(requests), _) = current_resources(&container.name, pod)
            && !requests.is_empty()
        {
            recommendations.push(RecommendedContainerResources {
                container_name: Some(container.name.clone()),
                target: requests.clone(),
                ..Default::default()
            });
        }
    }
    for field in [Field::Upper, Field::Target, Field::Lower] {
        for resource in [CPU, MEMORY] {
            apply_one(&mut recommendations, pod, bounds, resource, field);
        }
    }
    recommendations
}

/// Sums over the pod's containers.
#[derive(Default)]
struct Sums {
    limits: Quantity,
    recommended: Quantity,
}

fn sums(
    recommendations: &[RecommendedContainerResources],
    pod: &Pod,
    default: Option<&Quantity>,
    resource: &str,
    field: Field,
) -> Sums {
    let mut sums = Sums::default();
    for container in &pod.spec.containers {
        let (requests, limits) = current_resources(&container.name, pod);
        let request = requests.and_then(|list| list.get(resource));
        let limit = limits.and_then(|list| list.get(resource));
        let recommended = match super::recommendation_for(&container.name, recommendations) {
            Some(recommendation) => field.of(recommendation).and_then(|list| list.get(resource)),
            None => request,
        };
        if let (Some(limit), _) = proportional_limit(resource, limit, request, recommended, default) {
            sums.limits.add(&limit);
        }
        if let Some(recommended) = recommended {
            sums.recommended.add(recommended);
        }
    }
    sums
}

fn apply_one(
    recommendations: &mut [RecommendedContainerResources],
    pod: &Pod,
    bounds: &Bounds,
    resource: &str,
    field: Field,
) {
    let at = |list: &Option<ResourceList>| list.as_ref().and_then(|list| list.get(resource)).cloned();
    let min = at(&bounds.min).unwrap_or_default();
    let max = at(&bounds.max).filter(|max| !max.is_zero());
    let sums = sums(recommendations, pod, at(&bounds.default).as_ref(), resource, field);
    if sums.limits.is_zero() {
        // Without limits there is nothing in proportion.
        return;
    }
    let too_high = max.filter(|max| *max < sums.limits);
    // Rounding up on the way up and down on the way down keeps the sum on the right side. Memory is counted in bytes,
    // where one more or less does not matter.
    let (numerator, denominator, rounding) = if min > sums.recommended {
        let rounding = if resource == CPU { Rounding::Up } else { Rounding::Down };
        (min, sums.recommended, rounding)
    } else if let Some(max) = too_high {
        (max, sums.limits, Rounding::Down)
    } else if min > sums.limits {
        (min, sums.limits, Rounding::Down)
    } else {
        return;
    };
    for container in &pod.spec.containers {
        let named = |r: &&mut RecommendedContainerResources| {
            r.container_name.as_deref().unwrap_or("") == container.name
        };
        if let Some(recommendation) = recommendations.iter_mut().find(named)
            && let Some(amount) = field.of_mut(recommendation).and_then(|list| list.get_mut(resource))
            && amount.signum() > 0
        {
            let scaled = scale(resource, amount, &numerator, &denominator, rounding).amount;
            // Something that is recommended is never scaled away.
            *amount = if scaled.signum() > 0 { scaled } else { from_units(resource, 1, amount.format()) };
        }
    }
}
