//! How well recommendations fit the usage that comes after them.

use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::vpa::ContainerScalingMode;

use super::vpa::VpaState;
use crate::policy::{Mode, mode};

/// CPU or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// In cores.
    Cpu,
    /// In bytes.
    Memory,
}

impl Resource {
    /// Its name in resource lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => CPU,
            Self::Memory => MEMORY,
        }
    }
}

/// A usage sample and the recommendation that was in force when it came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Update mode of the VPA; `None` where its object sets none.
    pub mode: Option<Mode>,
    /// The resource.
    pub resource: Resource,
    /// What was used, in cores or bytes.
    pub usage: f64,
    /// What was recommended before capping, in cores or bytes; `None` where nothing was.
    pub recommended: Option<f64>,
    /// Whether the sample is one of an OOM kill.
    pub oom: bool,
}

impl Quality {
    /// `None` for a container that the VPA does not scale.
    pub(super) fn new(
        vpa: &VpaState,
        container: &str,
        resource: Resource,
        usage: f64,
        oom: bool,
    ) -> Option<Self> {
        if vpa.policy(container).is_some_and(|policy| policy.mode == Some(ContainerScalingMode::Off)) {
            return None;
        }
        let status = vpa.object.status.as_ref().and_then(|status| status.recommendation.as_ref());
        let recommendations = status.and_then(|status| status.container_recommendations.as_deref());
        let own = recommendations
            .into_iter()
            .flatten()
            .find(|own| own.container_name.as_deref() == Some(container));
        let amount = own.and_then(|own| own.uncapped_target.as_ref()?.get(resource.as_str()));
        let recommended = amount.map(vpa_api::Quantity::as_f64).filter(|amount| *amount > 0.0);
        let set = vpa.object.spec.update_policy.as_ref().and_then(|policy| policy.update_mode.as_ref());
        Some(Self { mode: set.map(|_| mode(&vpa.object)), resource, usage, recommended, oom })
    }
}
