//! VPAs none of whose pods gets forward, for one and the same reason.

use hashbrown::HashMap;

use super::accept::Rejection;
use super::reason::Reason;
use super::report::Verdict;
use super::work::{PodWork, VpaWork};

/// Passes in a row after which it is told: most of what passes by itself has passed by then.
const TOLD_AFTER: u32 = 3;

/// How long each VPA has been blocked, by its `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct Blocked(HashMap<String, (&'static str, u32)>);

impl Blocked {
    /// Takes in what blocks all pods of a VPA in a pass; the same again on the pass after which it is to be told.
    pub(super) fn observe<'a>(&mut self, key: &str, reason: Option<&'a Reason>) -> Option<&'a Reason> {
        let Some(reason) = reason else {
            self.0.remove(key);
            return None;
        };
        let (code, passes) = self.0.entry(key.to_owned()).or_insert((reason.code(), 0));
        if *code != reason.code() {
            (*code, *passes) = (reason.code(), 0);
        }
        *passes = passes.saturating_add(1);
        (*passes == TOLD_AFTER).then_some(reason)
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets VPAs that are gone.
    pub(super) fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.0.retain(|vpa, _| exists(vpa));
    }
}

impl VpaWork {
    /// The reason that keeps all pods from an update, where it is the same for each.
    pub(super) fn common_block(&self) -> Option<&Reason> {
        let first = blocking(self.pods.first()?)?;
        let same = |work: &PodWork| blocking(work).is_some_and(|reason| reason.code() == first.code());
        self.pods.iter().all(same).then_some(first)
    }
}

fn blocking(work: &PodWork) -> Option<&Reason> {
    match &work.verdict {
        Some(Verdict::Left(reason)) => Some(reason).filter(|reason| blocks(reason)),
        _ => None,
    }
}

/// Whether a reason keeps a pod from an update that it needs. All others are as they should be, pass with the next pass,
/// or concern all VPAs alike and are told in the log.
pub(super) fn blocks(reason: &Reason) -> bool {
    match reason {
        Reason::Untracked(_)
        | Reason::InfeasibleRemembered
        | Reason::NodeTooSmall(_)
        | Reason::Budget { .. }
        | Reason::BoostAnnotation(_)
        | Reason::QosClass { .. }
        | Reason::RecreatedUnchanged { .. }
        | Reason::DisruptionBudget(_)
        | Reason::DisruptionLimit { .. }
        | Reason::FeatureGateOff(_)
        | Reason::Refused(_)
        | Reason::NotWorthIt(Rejection::EvictionRequirements | Rejection::NotLowerThanInfeasible) => true,
        Reason::Resizing { until, .. } => until.is_none(),
        Reason::Mode(_)
        | Reason::Pending
        | Reason::NotWorthIt(_)
        | Reason::AlreadyAsked
        | Reason::BoostInProgress
        | Reason::NothingWouldChange
        | Reason::HeartbeatStale(_)
        | Reason::Transient(_)
        | Reason::RateLimited
        | Reason::PassOver
        | Reason::NotLeader
        | Reason::ShuttingDown => false,
    }
}
