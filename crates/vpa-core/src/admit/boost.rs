//! More CPU while a container starts (AEP-7862).

use serde::Serialize;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::pod::Container;
use vpa_api::quantity::Format;
use vpa_api::vpa::{ContainerControlledValues, ContainerScalingMode, GenericStartupBoost, StartupBoostType};
use vpa_api::{Quantity, ResourceList, VerticalPodAutoscaler};

use super::Config;
use crate::policy::{ContainerResources, container_policy, controlled_values, proportional_limits};

/// Why a boost cannot be computed. The pod is then admitted as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BoostError {
    #[error("container {0}: startupBoost.cpu.factor is required with type Factor")]
    NoFactor(String),
    #[error("container {container}: startupBoost.cpu.factor is {factor}, must be at least 1")]
    FactorTooSmall { container: String, factor: i32 },
    #[error("container {0}: startupBoost.cpu.quantity is required with type Quantity")]
    NoQuantity(String),
    #[error("container {container}: startupBoost.cpu.type {kind:?} is neither Factor nor Quantity")]
    Kind { container: String, kind: String },
}

/// What was done to a container.
pub(super) enum Applied {
    /// It has no boost.
    Nothing,
    /// Its resources are boosted; `original` is what it had, as JSON for the annotation.
    Boosted { original: String },
    /// Its policy turns scaling off, which with boosts enabled leaves it untouched.
    LeaveAlone,
}

/// Raises the CPU in `resources` by the boost of the container, if it has one.
pub(super) fn apply(
    container: &Container,
    vpa: &VerticalPodAutoscaler,
    config: &Config,
    resources: &mut ContainerResources,
) -> Result<Applied, BoostError> {
    if !config.gates.cpu_startup_boost {
        return Ok(Applied::Nothing);
    }
    let policy = vpa.spec.resource_policy.as_ref();
    let own = container_policy(&container.name, policy);
    if own.is_some_and(|policy| policy.mode == Some(ContainerScalingMode::Off)) {
        return Ok(Applied::LeaveAlone);
    }
    let boost = own.and_then(|policy| policy.startup_boost.as_ref()).or(vpa.spec.startup_boost.as_ref());
    let Some(boost) = boost.and_then(|boost| boost.cpu.as_ref()) else { return Ok(Applied::Nothing) };

    let none = ResourceList::new();
    let requests = container.resources.requests.as_ref().unwrap_or(&none);
    let limits = container.resources.limits.as_ref().unwrap_or(&none);
    let recommended = resources.requests.as_ref().and_then(|list| list.get(CPU)).filter(|cpu| !cpu.is_zero());
    let base = recommended.or_else(|| requests.get(CPU)).cloned().unwrap_or_default();
    let mut boosted = boosted(&container.name, &base, boost)?;
    if let Some(most) = config.max_allowed_cpu_boost.as_ref().filter(|most| !most.is_zero())
        && boosted > *most
    {
        boosted = most.clone();
    }
    match controlled_values(&container.name, policy) {
        ContainerControlledValues::RequestsOnly => boosted = below_limit(boosted, limits.get(CPU)),
        ContainerControlledValues::RequestsAndLimits => {
            let wanted = ResourceList::from([(CPU, boosted.clone())]);
            let scaled = proportional_limits(limits, requests, &wanted, &none).limits;
            if let Some(limit) = scaled.and_then(|mut limits| limits.remove(CPU)) {
                resources.limits.get_or_insert_default().insert(CPU.into(), limit);
            }
        }
        ContainerControlledValues::Unknown(_) => {}
    }
    resources.requests.get_or_insert_default().insert(CPU.into(), boosted);
    Ok(Applied::Boosted { original: original(requests, limits) })
}

fn boosted(container: &str, base: &Quantity, boost: &GenericStartupBoost) -> Result<Quantity, BoostError> {
    let container = container.to_owned();
    let base = base.milli_value_saturating();
    let milli = match &boost.kind {
        StartupBoostType::Quantity => {
            let added = boost.quantity.as_ref().ok_or(BoostError::NoQuantity(container))?;
            base.saturating_add(added.milli_value_saturating())
        }
        StartupBoostType::Unknown(kind) if !kind.is_empty() => {
            return Err(BoostError::Kind { container, kind: kind.clone() });
        }
        StartupBoostType::Factor | StartupBoostType::Unknown(_) => match boost.factor {
            None => return Err(BoostError::NoFactor(container)),
            Some(factor) if factor < 1 => return Err(BoostError::FactorTooSmall { container, factor }),
            Some(factor) => base.saturating_mul(i64::from(factor)),
        },
    };
    Ok(Quantity::from_milli(milli, Format::DecimalSi))
}

/// At most 1m below the limit, so that the pod does not become Guaranteed by its boost.
fn below_limit(boosted: Quantity, limit: Option<&Quantity>) -> Quantity {
    let Some(limit) = limit.filter(|limit| boosted.milli_value_saturating() > limit.milli_value_saturating())
    else {
        return boosted;
    };
    let step = Quantity::from_milli(1, Format::DecimalSi);
    let mut capped = limit.clone();
    if capped > step {
        capped.sub(&step);
    }
    capped
}

/// What the container had, as the annotation keeps it for the end of the boost: cpu and memory only.
fn original(requests: &ResourceList, limits: &ResourceList) -> String {
    #[derive(Serialize)]
    struct Original {
        requests: ResourceList,
        limits: ResourceList,
    }
    let pick = |list: &ResourceList| {
        let kept = list.iter().filter(|(resource, _)| [CPU, MEMORY].contains(&resource.as_str()));
        kept.map(|(resource, amount)| (resource.clone(), amount.clone())).collect()
    };
    // Maps of texts always encode.
    serde_json::to_string(&Original { requests: pick(requests), limits: pick(limits) }).unwrap_or_default()
}
