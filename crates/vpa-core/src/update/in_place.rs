//! Resizes in place: the states a pod goes through and what each update mode does in them.
//!
//! [`ResizePhase`] is what the kubelet reports, [`InPlaceState`] what is known of the pod over time, and
//! [`InPlaceState::action`] the whole table of decisions. `docs/in-place.md` shows the table; a test holds the two together.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use vpa_api::names::pod_condition as condition;
use vpa_api::pod::{Pod, PodCondition};

use super::config::Config;

/// State of a resize as a pod's conditions tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResizePhase {
    /// No resize is under way.
    #[default]
    None,
    /// The node has no room at present.
    Deferred,
    /// The node can never take it.
    Infeasible,
    /// The kubelet is at it.
    InProgress,
    /// The kubelet tried and failed.
    Error,
    /// Under way, in a state that this version does not know.
    Unknown,
}

impl ResizePhase {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Deferred, Self::InProgress, Self::Infeasible, Self::Error, Self::Unknown];

    /// Reads the conditions of a pod.
    ///
    /// The first resize condition in the list decides whether there is a resize at all; then a pending one speaks before
    /// one in progress.
    pub fn of(pod: &Pod) -> Self {
        let find = |type_: &str| pod.status.conditions.iter().find(|c| c.type_ == type_);
        let is_resize = |c: &&PodCondition| {
            c.type_ == condition::RESIZE_PENDING || c.type_ == condition::RESIZE_IN_PROGRESS
        };
        if pod.status.conditions.iter().find(is_resize).is_none_or(|c| c.status != "True") {
            return Self::None;
        }
        if let Some(pending) = find(condition::RESIZE_PENDING) {
            return match pending.reason.as_deref() {
                Some(condition::REASON_DEFERRED) => Self::Deferred,
                Some(condition::REASON_INFEASIBLE) => Self::Infeasible,
                _ => Self::Unknown,
            };
        }
        let Some(progress) = find(condition::RESIZE_IN_PROGRESS) else { return Self::Unknown };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        match (text(&progress.reason).as_str(), text(&progress.message).as_str()) {
            ("", "") => Self::InProgress,
            (condition::REASON_ERROR, _) => Self::Error,
            _ => Self::Unknown,
        }
    }

    /// The word used in tables and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Deferred => "Deferred",
            Self::Infeasible => "Infeasible",
            Self::InProgress => "InProgress",
            Self::Error => "Error",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ResizePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an update mode allows where a resize does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The pod may be evicted (`InPlaceOrRecreate`, and pods left over in `Recreate`).
    Evict,
    /// The pod is never evicted (`InPlace`).
    Never,
}

/// What is known of a pod's resize over time. Kept from pass to pass by the pod's UID and the resources it was asked to
/// have, so that another attempt, or another pod of the same name, starts anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InPlaceState {
    /// No resize is under way: another one may be asked for.
    #[default]
    Settled,
    /// The node has had no room since the attempt was first seen.
    Deferred {
        /// When the attempt was first seen under way.
        since: Timestamp,
    },
    /// The kubelet has been at it since the attempt was first seen.
    InProgress {
        /// When the attempt was first seen under way.
        since: Timestamp,
    },
    /// The node can never take it.
    Infeasible {
        /// When the attempt was first seen under way.
        since: Timestamp,
    },
    /// The kubelet failed at it, which passes.
    Failed {
        /// When the attempt was first seen under way.
        since: Timestamp,
        /// Times it was asked again after a failure.
        retries: u32,
        /// When it may be asked again.
        retry_at: Timestamp,
    },
    /// Under way in a state that this version does not know.
    Unclear {
        /// When the attempt was first seen under way.
        since: Timestamp,
    },
}

/// Wait after the first retry of a failed resize; it doubles with each one, since the kubelet retries on its own and a
/// fault of the node seldom ends within seconds.
pub(super) const RETRY_BACKOFF_FIRST: SignedDuration = SignedDuration::from_mins(1);
/// Longest wait between two retries: a node that is mended is noticed within the hour.
pub(super) const RETRY_BACKOFF_MAX: SignedDuration = SignedDuration::from_hours(1);

/// What to do with a pod, as far as its resize decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlaceAction {
    /// A resize may be sent, budget allowing.
    Resize,
    /// A resize may be sent again, budget allowing, with what is recommended now.
    Retry,
    /// Only a resize to less than the infeasible one may be sent.
    RetryIfLower,
    /// Nothing may be done before this time, or before the kubelet reports something else.
    Wait {
        /// When the next step falls due; `None`: never by itself.
        until: Option<Timestamp>,
    },
    /// The pod may be evicted, budget allowing.
    FallBack(FallbackReason),
}

/// Why a resize is given up for an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// The node can never take it.
    Infeasible,
    /// Deferred for too long.
    DeferredTooLong,
    /// In progress for too long.
    InProgressTooLong,
    /// The kubelet failed at it.
    Failed,
    /// In a state that this version does not know.
    Unclear,
    /// The API server refused the resize.
    Refused,
    /// The resize would change the pod's QoS class, which the API server never allows.
    QosClass,
    /// The node's capacity is below what the pod would request.
    NodeTooSmall,
}

impl FallbackReason {
    /// Stable text, for events, logs and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Infeasible => "the node can never take the resize",
            Self::DeferredTooLong => "the resize was deferred for too long",
            Self::InProgressTooLong => "the resize was in progress for too long",
            Self::Failed => "the kubelet failed at the resize",
            Self::Unclear => "the resize is in an unknown state",
            Self::Refused => "the API server refused the resize",
            Self::QosClass => "the resize would change the QoS class",
            Self::NodeTooSmall => "the node is too small for the resized pod",
        }
    }
}

impl InPlaceState {
    /// The transition on what the kubelet reports. The time of an attempt is that of its first report; retries are
    /// remembered while the failure lasts.
    #[must_use]
    pub fn observe(self, phase: ResizePhase, now: Timestamp) -> Self {
        let since = self.since().unwrap_or(now);
        match phase {
            ResizePhase::None => Self::Settled,
            ResizePhase::Deferred => Self::Deferred { since },
            ResizePhase::InProgress => Self::InProgress { since },
            ResizePhase::Infeasible => Self::Infeasible { since },
            ResizePhase::Unknown => Self::Unclear { since },
            ResizePhase::Error => match self {
                Self::Failed { .. } => self,
                _ => Self::Failed { since, retries: 0, retry_at: now },
            },
        }
    }

    /// The transition on having asked again: a failed resize waits longer each time.
    #[must_use]
    pub fn retried(self, now: Timestamp) -> Self {
        match self {
            Self::Failed { since, retries, .. } => {
                let factor = 1_i32.checked_shl(retries.min(16)).unwrap_or(i32::MAX);
                let wait = RETRY_BACKOFF_FIRST.saturating_mul(factor).min(RETRY_BACKOFF_MAX);
                let retry_at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
                Self::Failed { since, retries: retries.saturating_add(1), retry_at }
            }
            other => other,
        }
    }

    /// When the attempt was first seen under way.
    pub fn since(self) -> Option<Timestamp> {
        match self {
            Self::Settled => None,
            Self::Deferred { since }
            | Self::InProgress { since }
            | Self::Infeasible { since }
            | Self::Failed { since, .. }
            | Self::Unclear { since } => Some(since),
        }
    }

    /// What the state asks for: the table of `docs/in-place.md`. A time is over when it is exceeded, not when it is reached.
    pub fn action(self, fallback: Fallback, config: &Config, now: Timestamp) -> InPlaceAction {
        use FallbackReason as Reason;
        let after = |since: Timestamp, time: SignedDuration, reason| {
            let until = since.saturating_add(time).unwrap_or(Timestamp::MAX);
            if now > until {
                InPlaceAction::FallBack(reason)
            } else {
                InPlaceAction::Wait { until: Some(until) }
            }
        };
        let never = InPlaceAction::Wait { until: None };
        match (self, fallback) {
            (Self::Settled, _) => InPlaceAction::Resize,
            (Self::Deferred { since }, Fallback::Evict) => {
                after(since, config.deferred_fallback, Reason::DeferredTooLong)
            }
            (Self::InProgress { since }, Fallback::Evict) => {
                after(since, config.in_progress_fallback, Reason::InProgressTooLong)
            }
            (Self::Infeasible { .. }, Fallback::Evict) => InPlaceAction::FallBack(Reason::Infeasible),
            (Self::Failed { .. }, Fallback::Evict) => InPlaceAction::FallBack(Reason::Failed),
            (Self::Unclear { .. }, Fallback::Evict) => InPlaceAction::FallBack(Reason::Unclear),
            (Self::Deferred { .. } | Self::InProgress { .. } | Self::Unclear { .. }, Fallback::Never) => {
                never
            }
            (Self::Infeasible { .. }, Fallback::Never) => InPlaceAction::RetryIfLower,
            (Self::Failed { retry_at, .. }, Fallback::Never) if now < retry_at => {
                InPlaceAction::Wait { until: Some(retry_at) }
            }
            (Self::Failed { .. }, Fallback::Never) => InPlaceAction::Retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn phase(text: &str) -> ResizePhase {
        ResizePhase::ALL.into_iter().find(|phase| phase.as_str() == text).unwrap()
    }

    /// What a state does at once and after two hours, in the words of the document.
    fn words(state: InPlaceState, fallback: Fallback) -> &'static str {
        let config = Config::default();
        let action = |seconds| state.action(fallback, &config, at(seconds));
        match (action(0), action(7200)) {
            (InPlaceAction::Resize, InPlaceAction::Resize) => "resize",
            (InPlaceAction::Retry, InPlaceAction::Retry) => "retry with backoff",
            (InPlaceAction::RetryIfLower, InPlaceAction::RetryIfLower) => "resize if lower",
            (InPlaceAction::Wait { until: None }, InPlaceAction::Wait { until: None }) => "wait",
            (InPlaceAction::FallBack(_), InPlaceAction::FallBack(_)) => "evict",
            (InPlaceAction::Wait { until: Some(until) }, InPlaceAction::FallBack(_)) if until == at(300) => {
                "wait, evict after the deferred timeout"
            }
            (InPlaceAction::Wait { until: Some(until) }, InPlaceAction::FallBack(_)) if until == at(3600) => {
                "wait, evict after the in-progress timeout"
            }
            other => panic!("no words for {other:?}"),
        }
    }

    #[test]
    fn the_table_of_the_document_is_the_code() {
        let document = include_str!("../../../../docs/in-place.md");
        let table =
            document.split("| phase | InPlaceOrRecreate | InPlace |\n|---|---|---|\n").nth(1).unwrap();
        let mut rows = 0;
        for row in table.lines().take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let state = InPlaceState::Settled.observe(phase(cells[0]), at(0));
            assert_eq!(words(state, Fallback::Evict), cells[1], "{row}");
            assert_eq!(words(state, Fallback::Never), cells[2], "{row}");
            rows += 1;
        }
        assert_eq!(rows, 6);
    }

    #[test]
    fn timeouts_are_over_when_exceeded() {
        let config = Config::default();
        for (phase, limit) in [(ResizePhase::Deferred, 300), (ResizePhase::InProgress, 3600)] {
            let state = InPlaceState::Settled.observe(phase, at(0)).observe(phase, at(10));
            let falls_back = |seconds| {
                matches!(state.action(Fallback::Evict, &config, at(seconds)), InPlaceAction::FallBack(_))
            };
            assert_eq!((falls_back(limit), falls_back(limit + 1)), (false, true), "{phase}");
        }
    }

    #[test]
    fn a_failed_resize_waits_longer_each_time() {
        let config = Config::default();
        let mut state = InPlaceState::Settled.observe(ResizePhase::Error, at(0));
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(state.action(Fallback::Never, &config, at(0)), InPlaceAction::Retry);
            state = state.retried(at(0)).observe(ResizePhase::Error, at(1));
            let InPlaceState::Failed { retry_at, retries, since } = state else { panic!("{state:?}") };
            waits.push(retry_at.duration_since(at(0)).as_mins());
            state = InPlaceState::Failed { retry_at: at(0), retries, since };
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
