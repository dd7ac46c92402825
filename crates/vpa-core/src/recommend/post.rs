//! From amounts to a recommendation as it is published: rounded, formatted, capped and put in order.

use std::collections::BTreeMap;

use compact_str::CompactString;
use vpa_api::names::annotation::{INTEGER_CPU_PREFIX, INTEGER_CPU_SUFFIX};
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::quantity::Format;
use vpa_api::vpa::{PodResourcePolicy, RecommendedContainerResources, RecommendedPodResources};
use vpa_api::{Quantity, ResourceList};

use super::config::Config;
use super::estimate::{Amounts, Estimate};
use crate::model::amount::{humanize, round_up};
use crate::policy::apply_vpa_policy;

/// The recommendation for a VPA with this policy and these annotations.
///
/// What comes out is fit to publish: no amount is zero, and lower bound ≤ target ≤ upper bound. A resource of which
/// nothing is known (no sample, no minimum) is left out.
pub fn publish(
    estimates: &BTreeMap<CompactString, Estimate>,
    policy: Option<&PodResourcePolicy>,
    annotations: Option<&BTreeMap<String, String>>,
    config: &Config,
) -> RecommendedPodResources {
    let containers: Vec<_> = estimates.iter().map(|(name, e)| container(name, e, config)).collect();
    let mut recommendation =
        RecommendedPodResources { container_recommendations: (!containers.is_empty()).then_some(containers) };
    if config.integer_cpu {
        whole_cores(&mut recommendation, annotations);
    }
    let mut capped = apply_vpa_policy(&recommendation, policy, &config.max_allowed);
    capped.container_recommendations.iter_mut().flatten().for_each(make_fit);
    capped
}

fn container(name: &str, estimate: &Estimate, config: &Config) -> RecommendedContainerResources {
    let target = resource_list(&estimate.target, config);
    RecommendedContainerResources {
        container_name: Some(name.to_owned()),
        uncapped_target: Some(target.clone()),
        target,
        lower_bound: Some(resource_list(&estimate.lower_bound, config)),
        upper_bound: Some(resource_list(&estimate.upper_bound, config)),
    }
}

/// Amounts as quantities, rounded and written as the configuration says.
pub fn resource_list(amounts: &Amounts, config: &Config) -> ResourceList {
    let mut list = ResourceList::new();
    if let Some(cpu) = amounts.cpu_millicores {
        let rounded =
            if config.round_cpu_millicores == 1 { cpu } else { round_up(cpu, config.round_cpu_millicores) };
        list.insert(CPU.into(), Quantity::from_scaled(rounded, -3));
    }
    if let Some(memory) = amounts.memory_bytes {
        let rounded =
            if config.round_memory_bytes == 1 { memory } else { round_up(memory, config.round_memory_bytes) };
        let exact = Quantity::from_units(rounded, Format::BinarySi);
        let shown = Some(humanize(rounded)).filter(|_| config.humanize_memory && rounded != 0);
        // The text is made of digits and a known unit, so it parses.
        let quantity = shown.and_then(|text| Quantity::parse(&text).ok()).unwrap_or(exact);
        list.insert(MEMORY.into(), quantity);
    }
    list
}

/// Rounds CPU up to whole cores for the containers that the annotations name.
fn whole_cores(recommendation: &mut RecommendedPodResources, annotations: Option<&BTreeMap<String, String>>) {
    for (key, value) in annotations.into_iter().flatten() {
        let name =
            key.strip_prefix(INTEGER_CPU_PREFIX).and_then(|rest| rest.strip_suffix(INTEGER_CPU_SUFFIX));
        let Some(name) = name.filter(|name| !name.is_empty() && value == "true") else { continue };
        for container in recommendation.container_recommendations.iter_mut().flatten() {
            if container.container_name.as_deref() == Some(name) {
                let RecommendedContainerResources {
                    target, lower_bound, upper_bound, uncapped_target, ..
                } = container;
                for list in
                    [Some(target), lower_bound.as_mut(), upper_bound.as_mut(), uncapped_target.as_mut()]
                {
                    if let Some(cpu) = list.and_then(|list| list.get_mut(CPU)) {
                        cpu.round_up(0);
                    }
                }
            }
        }
    }
}

/// Leaves out resources without a target, and puts the others in order: no bound is zero or on the wrong side.
fn make_fit(container: &mut RecommendedContainerResources) {
    let RecommendedContainerResources { target, lower_bound, upper_bound, uncapped_target, .. } = container;
    let positive = |quantity: &Quantity| quantity.signum() > 0;
    target.retain(|_, quantity| positive(quantity));
    for list in [lower_bound.as_mut(), upper_bound.as_mut()].into_iter().flatten() {
        list.retain(|resource, _| target.contains_key(resource));
    }
    if let Some(uncapped) = uncapped_target {
        uncapped.retain(|_, quantity| positive(quantity));
    }
    for (resource, target) in target.iter() {
        if let Some(lower) = lower_bound.as_mut().and_then(|list| list.get_mut(resource)) {
            if !positive(lower) {
                *lower = smallest(resource);
            }
            if *lower > *target {
                *lower = target.clone();
            }
        }
        if let Some(upper) = upper_bound.as_mut().and_then(|list| list.get_mut(resource))
            && *upper < *target
        {
            *upper = target.clone();
        }
    }
    for list in [lower_bound, upper_bound, uncapped_target] {
        if list.as_ref().is_some_and(ResourceList::is_empty) {
            *list = None;
        }
    }
}

/// The smallest amount that is not zero: a millicore or a byte.
fn smallest(resource: &str) -> Quantity {
    if resource == CPU { Quantity::from_scaled(1, -3) } else { Quantity::from_units(1, Format::BinarySi) }
}
