//! What a cycle found.

use compact_str::CompactString;
use jiff::Timestamp;
use vpa_api::names::condition::CONFIG_UNSUPPORTED;

use super::conditions::Conditions;
use super::estimate::Estimate;
use crate::model::{VpaId, VpaState};
use crate::policy::{Mode, mode};

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct CycleReport {
    /// One entry a VPA, in order.
    pub vpas: Vec<VpaReport>,
    /// Pods known.
    pub pods: usize,
    /// Aggregates kept.
    pub aggregates: usize,
    /// Statuses that say what is published already.
    pub statuses_unchanged: usize,
    /// Statuses of which only bounds differ, by so little that they wait.
    pub statuses_waiting: usize,
    /// Checkpoints that say nothing new.
    pub checkpoints_unchanged: usize,
    /// Checkpoints that wait for more to say.
    pub checkpoints_waiting: usize,
}

/// What was found for a VPA.
#[derive(Clone, Debug)]
pub struct VpaReport {
    /// The VPA.
    pub vpa: VpaId,
    /// Update mode as the object has it; `None` where it sets none.
    pub mode: Option<Mode>,
    /// Whether it has a recommendation.
    pub has_recommendation: bool,
    /// Pods that it selects.
    pub pods: usize,
    /// Whether its target cannot be used.
    pub unsupported: bool,
    /// What is wrong with its target, if anything is.
    pub problem: Option<String>,
    /// Whether its pods are still selected although the target is not found.
    pub held: bool,
    /// Containers that are sized, by name.
    pub containers: Vec<ContainerReport>,
}

/// How the recommendation for a container came about.
#[derive(Clone, Debug)]
pub struct ContainerReport {
    /// Its name.
    pub container: CompactString,
    /// CPU samples that it rests on.
    pub samples: i64,
    /// The first of them.
    pub first_sample: Option<Timestamp>,
    /// The last of them.
    pub last_sample: Option<Timestamp>,
    /// The amounts before rounding and capping.
    pub estimate: Estimate,
}

impl VpaReport {
    pub(super) fn new(
        vpa: &VpaState,
        pods: usize,
        has_recommendation: bool,
        conditions: &Conditions,
        containers: Vec<ContainerReport>,
    ) -> Self {
        let set = vpa.object.spec.update_policy.as_ref().and_then(|policy| policy.update_mode.as_ref());
        Self {
            vpa: VpaId::of_vpa(&vpa.object),
            mode: set.map(|_| mode(&vpa.object)),
            has_recommendation,
            pods,
            unsupported: conditions.is_true(CONFIG_UNSUPPORTED),
            problem: vpa.target.message().map(str::to_owned),
            held: vpa.is_held(),
            containers,
        }
    }
}
