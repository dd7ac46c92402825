//! What may be done with one pod, by its group's budget and the state of its resize.

use vpa_api::pod::Pod;
use vpa_api::vpa::RecommendedContainerResources;

use jiff::Timestamp;

use super::accept::has_lower_target;
use super::config::Config;
use super::group::{Group, Groups, is_pending};
use super::in_place::{Fallback, FallbackReason, InPlaceAction, InPlaceState, ResizePhase};
use super::reason::Reason;
use crate::policy::Mode;

/// What may be done with a pod in a mode that resizes.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// A resize may be sent.
    Approved,
    /// The last resize failed; it may be sent again, budget allowing.
    Retry,
    /// The last resize is infeasible; a lower one may be sent, budget allowing.
    Infeasible,
    /// A resize to this or less is known to be infeasible.
    InfeasibleRemembered,
    /// The resize did not get through; the pod may be evicted.
    FallBack(FallbackReason),
    /// Nothing may be done now.
    Deferred(Reason),
}

/// What a decision looks at beside the pod.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Mode of the VPA.
    pub mode: Mode,
    /// Budgets.
    pub groups: &'a Groups,
    /// State of the pod's resize.
    pub state: InPlaceState,
    /// What a resize would ask for, the capped recommendation or a step towards it; `None` where the VPA has none.
    pub processed: Option<&'a [RecommendedContainerResources]>,
    /// Targets that the pod's node could not take.
    pub infeasible: Option<&'a [RecommendedContainerResources]>,
    /// Resizes of this VPA's pods were seen to restart containers.
    pub disruptive: bool,
    /// Settings.
    pub config: &'a Config,
    /// The time.
    pub now: Timestamp,
}

impl Situation<'_> {
    fn fallback(&self) -> Fallback {
        if self.mode == Mode::InPlace { Fallback::Never } else { Fallback::Evict }
    }
}

/// Decides whether a pod may be resized.
pub fn decide_resize(pod: &Pod, s: &Situation<'_>) -> Decision {
    if s.mode == Mode::InPlace && !s.config.features.in_place {
        return Decision::Deferred(Reason::FeatureGateOff("InPlace"));
    }
    let group = match s.groups.of(pod) {
        Ok(group) => group,
        Err(untracked) => return Decision::Deferred(Reason::Untracked(untracked)),
    };
    if is_pending(pod) {
        return Decision::Deferred(Reason::Pending);
    }
    let Some(processed) = s.processed else {
        return Decision::Deferred(Reason::NotWorthIt(super::accept::Rejection::NoRecommendation));
    };
    if s.mode == Mode::InPlace && s.infeasible.is_some_and(|attempt| !has_lower_target(attempt, processed)) {
        return Decision::InfeasibleRemembered;
    }
    match s.state.action(s.fallback(), s.config, s.now) {
        InPlaceAction::Resize if may_resize(pod, group, s.disruptive, s.config) => Decision::Approved,
        InPlaceAction::Resize => Decision::Deferred(budget(group)),
        InPlaceAction::Retry => Decision::Retry,
        InPlaceAction::RetryIfLower => Decision::Infeasible,
        InPlaceAction::Wait { until } => {
            Decision::Deferred(Reason::Resizing { phase: ResizePhase::of(pod), until })
        }
        InPlaceAction::FallBack(reason) if group.is_disruptable() => Decision::FallBack(reason),
        InPlaceAction::FallBack(_) => Decision::Deferred(budget(group)),
    }
}

/// Whether the budget lets a pod be resized. Resizes that restart no container may be freed from it by a setting, but not
/// where the resizes of a VPA are known to be `disruptive`.
pub fn may_resize(pod: &Pod, group: &Group, disruptive: bool, config: &Config) -> bool {
    let free = config.in_place_skip_disruption_budget && !disruptive && !restarts_containers(pod);
    free || group.is_disruptable()
}

/// Whether a resize of the pod may restart a container: any policy of any main container says so.
pub(super) fn restarts_containers(pod: &Pod) -> bool {
    pod.spec
        .containers
        .iter()
        .flat_map(|c| &c.resize_policy)
        .any(|policy| policy.restart_policy == "RestartContainer")
}

/// Decides whether a pod may be evicted as far as budget and resize state go. A pending pod uses no budget.
///
/// # Errors
/// Why it may not.
pub fn may_evict(
    pod: &Pod,
    groups: &Groups,
    state: InPlaceState,
    config: &Config,
    now: Timestamp,
) -> Result<(), Reason> {
    let group = groups.of(pod).map_err(Reason::Untracked)?;
    if is_pending(pod) {
        return Ok(());
    }
    if group.below_min_replicas {
        let untracked = super::group::Untracked::BelowMinReplicas {
            live: group.running + group.pending,
            required: groups.min_replicas(),
        };
        return Err(Reason::Untracked(untracked));
    }
    // Mode `InPlace` never comes here, so what is stuck may be evicted.
    if let InPlaceAction::Wait { until } = state.action(Fallback::Evict, config, now) {
        return Err(Reason::Resizing { phase: ResizePhase::of(pod), until });
    }
    if group.is_disruptable() { Ok(()) } else { Err(budget(group)) }
}

/// The budget of a group as a reason.
pub(super) fn budget(group: &Group) -> Reason {
    Reason::Budget {
        configured: group.configured,
        running: group.running,
        tolerance: group.eviction_tolerance,
        disrupted: group.evicted + group.resized,
    }
}
