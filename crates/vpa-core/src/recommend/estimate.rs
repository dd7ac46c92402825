//! From the distribution of usage to amounts.
//!
//! An amount is a percentile, plus a margin, for the bounds times a factor that depends on how much history there is,
//! and at least the container's share of the pod's minimum. Each step cuts off to whole millicores or bytes.

use std::collections::BTreeMap;

use compact_str::CompactString;
use jiff::{SignedDuration, Timestamp};
use vpa_api::Quantity;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::vpa::{ContainerResourcePolicy, ContainerScalingMode};

use super::config::{Config, ResourceConfig};
use crate::model::amount::{scale, truncate};
use crate::model::math::powi;
use crate::model::{Aggregate, VpaState};

/// CPU in millicores and memory in bytes; `None` for a resource that is not controlled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// CPU in millicores.
    pub cpu_millicores: Option<i64>,
    /// Memory in bytes.
    pub memory_bytes: Option<i64>,
}

/// Amounts for one container, before they are rounded, capped and put in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// What to request.
    pub target: Amounts,
    /// Below this the container is too small.
    pub lower_bound: Amounts,
    /// Above this it wastes.
    pub upper_bound: Amounts,
}

/// The containers of a VPA that are sized: all those with a history, except those whose policy switches them off.
pub fn scaled_containers(
    vpa: &VpaState,
    merged: BTreeMap<CompactString, Aggregate>,
) -> BTreeMap<CompactString, Aggregate> {
    let off = |name: &str| vpa.policy(name).is_some_and(|p| p.mode == Some(ContainerScalingMode::Off));
    merged.into_iter().filter(|(name, _)| !off(name)).collect()
}

/// Estimates for the containers of one pod.
pub fn estimate_pod(
    vpa: &VpaState,
    containers: &BTreeMap<CompactString, Aggregate>,
    config: &Config,
) -> BTreeMap<CompactString, Estimate> {
    let minimum = pod_share(config, containers.len());
    containers
        .iter()
        .map(|(name, aggregate)| {
            let policy = vpa.policy(name);
            (name.clone(), estimate(aggregate, config, &container_minimum(minimum, policy), policy))
        })
        .collect()
}

/// A container's share of the pod's minimum.
pub fn pod_share(config: &Config, containers: usize) -> Amounts {
    let share = 1.0 / containers.max(1) as f64;
    // By way of cores, as the Go suite has it: some amounts lose a millicore.
    let cpu = truncate(config.pod_min_cpu_millicores * 0.001 * 1000.0);
    let memory = truncate(config.pod_min_memory_mib * 1024.0 * 1024.0);
    Amounts { cpu_millicores: Some(scale(cpu, share)), memory_bytes: Some(scale(memory, share)) }
}

/// The share, or what the VPA itself allows as minimum where that is lower: its owner knows better.
fn container_minimum(share: Amounts, policy: Option<&ContainerResourcePolicy>) -> Amounts {
    let own = |resource| policy?.min_allowed.as_ref()?.get(resource).filter(|q: &&Quantity| q.signum() > 0);
    let lower =
        |share: Option<i64>, own: Option<i64>| share.map(|share| own.map_or(share, |own| own.min(share)));
    Amounts {
        cpu_millicores: lower(share.cpu_millicores, own(CPU).map(Quantity::milli_value_saturating)),
        memory_bytes: lower(share.memory_bytes, own(MEMORY).map(Quantity::value_saturating)),
    }
}

/// Estimates for one container.
pub fn estimate(
    aggregate: &Aggregate,
    config: &Config,
    minimum: &Amounts,
    policy: Option<&ContainerResourcePolicy>,
) -> Estimate {
    let cpu = controls(policy, CPU).then(|| {
        let amount = |percentile| truncate(aggregate.cpu.percentile(percentile) * 1000.0);
        bounds(amount, &config.cpu, config, aggregate, minimum.cpu_millicores.unwrap_or(0))
    });
    let memory = controls(policy, MEMORY).then(|| {
        let amount = |percentile| truncate(aggregate.memory.percentile(percentile));
        bounds(amount, &config.memory, config, aggregate, minimum.memory_bytes.unwrap_or(0))
    });
    let amounts = |pick: fn(&Bounds) -> i64| Amounts {
        cpu_millicores: cpu.as_ref().map(pick),
        memory_bytes: memory.as_ref().map(pick),
    };
    Estimate {
        target: amounts(|bounds| bounds.target),
        lower_bound: amounts(|bounds| bounds.lower),
        upper_bound: amounts(|bounds| bounds.upper),
    }
}

fn controls(policy: Option<&ContainerResourcePolicy>, resource: &str) -> bool {
    let controlled = policy.and_then(|policy| policy.controlled_resources.as_ref());
    controlled.is_none_or(|controlled| controlled.iter().any(|name| name == resource))
}

struct Bounds {
    target: i64,
    lower: i64,
    upper: i64,
}

fn bounds(
    percentile: impl Fn(f64) -> i64,
    resource: &ResourceConfig,
    config: &Config,
    aggregate: &Aggregate,
    minimum: i64,
) -> Bounds {
    let with_margin = |p| {
        let base = percentile(p);
        base.saturating_add(scale(base, config.margin_fraction))
    };
    let confidence = confidence(aggregate, resource.confidence_interval);
    // Little history makes the upper bound high (infinite for none, three times after half a day, twice after a day)
    // and the lower bound low (0 for none, 0.6 times after 5 minutes, 0.95 after an hour), so that pods are not
    // disrupted on little evidence.
    let lower = scale(with_margin(resource.lower_bound), powi(1.0 + 0.001 / confidence, -2));
    let upper = scale(with_margin(resource.upper_bound), 1.0 + 1.0 / confidence);
    Bounds {
        target: with_margin(resource.target).max(minimum),
        lower: lower.max(minimum),
        upper: upper.max(minimum),
    }
}

/// How much history there is: the number of intervals between the first and last CPU sample, or that many samples as
/// one a minute would give, whichever is less.
fn confidence(aggregate: &Aggregate, interval: SignedDuration) -> f64 {
    let nanos = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_nanosecond);
    let span = nanos(aggregate.last_sample) - nanos(aggregate.first_sample);
    let span = span.clamp(i64::MIN.into(), i64::MAX.into()) as f64;
    let minute = 60_000_000_000;
    let length = interval.as_nanos();
    let minutes = (length / minute) as f64 + (length % minute) as f64 / minute as f64;
    (span / length as f64).min(aggregate.samples as f64 / minutes)
}
