//! Why a pod was left alone.

use std::fmt;

use jiff::Timestamp;

use super::accept::Rejection;
use super::group::Untracked;
use super::in_place::ResizePhase;
use super::nodes::TooLarge;
use super::qos::QosClass;
use super::quota::QuotaScope;

/// Why a pod was left alone in a pass. The text is what people read in logs, reports and the demo;
/// [`code`](Self::code) is stable and made for machines.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The VPA's mode never touches running pods.
    Mode(&'static str),
    /// The mode needs a feature gate that is off.
    FeatureGateOff(&'static str),
    /// Its group is left alone as a whole.
    Untracked(Untracked),
    /// It does not run yet, so there is nothing to resize.
    Pending,
    /// It is not worth an update.
    NotWorthIt(Rejection),
    /// A resize is under way.
    Resizing {
        /// Its state.
        phase: ResizePhase,
        /// When it falls back or is tried again; `None`: never by itself.
        until: Option<Timestamp>,
    },
    /// A resize was asked for and the kubelet has not answered yet.
    AlreadyAsked,
    /// A resize to this or less was infeasible.
    InfeasibleRemembered,
    /// The budget of its group is used up.
    Budget {
        /// Replicas that are to run.
        configured: i64,
        /// Replicas that run.
        running: i64,
        /// Replicas that may be missing.
        tolerance: i64,
        /// Pods disrupted in this pass.
        disrupted: i64,
    },
    /// The limit on disruptions per hour is reached.
    DisruptionLimit {
        /// Whose disruptions it counts.
        scope: QuotaScope,
        /// The limit.
        most: u32,
        /// When there is room again.
        until: Timestamp,
    },
    /// Its node can never hold it with the resources that it would get.
    NodeTooSmall(TooLarge),
    /// Its startup boost goes on.
    BoostInProgress,
    /// Its startup boost could not be ended.
    BoostAnnotation(String),
    /// Neither a resize nor the admission of a new pod would change anything.
    NothingWouldChange,
    /// The resize would change the QoS class and the mode never evicts.
    QosClass {
        /// The class it has.
        before: QosClass,
        /// The class it would have.
        after: QosClass,
    },
    /// The admission controller cannot be relied on, so an evicted pod would come back as it was.
    HeartbeatStale(String),
    /// An evicted pod of this VPA came back with the resources it had.
    RecreatedUnchanged {
        /// The pod that came back.
        pod: String,
    },
    /// A PodDisruptionBudget allows no eviction at present.
    DisruptionBudget(String),
    /// The API server refused.
    Refused(String),
    /// The call failed for a reason that passes; the next pass tries again.
    Transient(String),
    /// The rate limit left no room in this pass.
    RateLimited,
    /// The pass was over before its turn came.
    PassOver,
    /// This process is not the leader any more.
    NotLeader,
    /// This process is shutting down.
    ShuttingDown,
}

impl Reason {
    /// One word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Mode(_) => "Mode",
            Self::FeatureGateOff(_) => "FeatureGateOff",
            Self::Untracked(Untracked::BelowMinReplicas { .. }) => "BelowMinReplicas",
            Self::Untracked(Untracked::NoReplicas { .. }) => "NoReplicas",
            Self::Pending => "Pending",
            Self::NotWorthIt(rejection) => match rejection {
                Rejection::NoRecommendation => "NoRecommendation",
                Rejection::NotLowerThanInfeasible => "InfeasibleRemembered",
                Rejection::NoStartTime => "NoStartTime",
                Rejection::TooYoung { .. } => "WithinBoundsAndYoung",
                Rejection::ChangeTooSmall { .. } => "ChangeTooSmall",
                Rejection::OomWithoutChange => "NothingWouldChange",
                Rejection::EvictionRequirements => "EvictionRequirements",
            },
            Self::Resizing { .. } => "Resizing",
            Self::AlreadyAsked => "AlreadyAsked",
            Self::InfeasibleRemembered => "InfeasibleRemembered",
            Self::Budget { .. } => "Budget",
            Self::DisruptionLimit { .. } => "DisruptionLimit",
            Self::NodeTooSmall(_) => "NodeTooSmall",
            Self::BoostInProgress => "BoostInProgress",
            Self::BoostAnnotation(_) => "BoostAnnotation",
            Self::NothingWouldChange => "NothingWouldChange",
            Self::QosClass { .. } => "QosClass",
            Self::HeartbeatStale(_) => "HeartbeatStale",
            Self::RecreatedUnchanged { .. } => "RecreatedUnchanged",
            Self::DisruptionBudget(_) => "DisruptionBudget",
            Self::Refused(_) => "Refused",
            Self::Transient(_) => "Transient",
            Self::RateLimited => "RateLimited",
            Self::PassOver => "PassOver",
            Self::NotLeader => "NotLeader",
            Self::ShuttingDown => "ShuttingDown",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mode(mode) => write!(f, "update mode {mode} leaves running pods alone"),
            Self::FeatureGateOff(gate) => write!(f, "feature gate {gate} is off"),
            Self::Untracked(untracked) => untracked.fmt(f),
            Self::Pending => f.write_str("it does not run yet"),
            Self::NotWorthIt(rejection) => rejection.fmt(f),
            Self::Resizing { phase, until: Some(until) } => {
                write!(f, "its resize is {phase}; next step at {until}")
            }
            Self::Resizing { phase, until: None } => {
                write!(f, "its resize is {phase}; waiting for the kubelet")
            }
            Self::AlreadyAsked => f.write_str("its resize was asked for already; waiting for the kubelet"),
            Self::InfeasibleRemembered => {
                f.write_str("its node cannot take this much; waiting for a lower recommendation")
            }
            Self::Budget { configured, running, tolerance, disrupted } => write!(
                f,
                "budget: {running} of {configured} replicas run, {tolerance} may be missing, {disrupted} disrupted in this pass"
            ),
            Self::DisruptionLimit { scope, most, until } => {
                let noun = if *most == 1 { "disruption" } else { "disruptions" };
                write!(f, "limit of {most} {noun} an hour for {scope} is reached; room again at {until}")
            }
            Self::NodeTooSmall(TooLarge { node, resource, requested, allocatable }) => write!(
                f,
                "node {node} can give pods {allocatable} of {resource} in all, and it would request {requested}"
            ),
            Self::BoostInProgress => f.write_str("its startup boost goes on"),
            Self::BoostAnnotation(error) => f.write_str(error),
            Self::NothingWouldChange => f.write_str("it already has what it would get"),
            Self::QosClass { before, after } => {
                write!(
                    f,
                    "a resize would change its QoS class from {before} to {after}, which Kubernetes refuses"
                )
            }
            Self::HeartbeatStale(why) => write!(f, "the admission controller does not answer: {why}"),
            Self::RecreatedUnchanged { pod } => {
                write!(
                    f,
                    "evictions stopped: pod {pod} came back with the resources of the evicted one; check the webhook"
                )
            }
            Self::DisruptionBudget(message) => {
                write!(f, "a PodDisruptionBudget allows no eviction: {message}")
            }
            Self::Refused(message) => write!(f, "the API server refused: {message}"),
            Self::Transient(message) => write!(f, "the call failed, the next pass tries again: {message}"),
            Self::RateLimited => f.write_str("the rate limit left no room in this pass"),
            Self::PassOver => f.write_str("the pass was over before its turn"),
            Self::NotLeader => f.write_str("another replica leads now"),
            Self::ShuttingDown => f.write_str("the updater is shutting down"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecommendation => f.write_str("there is no recommendation yet"),
            Self::NotLowerThanInfeasible => Reason::InfeasibleRemembered.fmt(f),
            Self::NoStartTime => f.write_str("within its bounds, and its start time is not known"),
            Self::TooYoung { until } => {
                write!(f, "within its bounds, and younger than the threshold until {until}")
            }
            Self::ChangeTooSmall { diff } => {
                write!(f, "within its bounds, and a change of {:.1} % is below the threshold", diff * 100.0)
            }
            Self::OomWithoutChange => {
                f.write_str("it ran out of memory, but the recommendation would change nothing")
            }
            Self::EvictionRequirements => f.write_str("the VPA's evictionRequirements do not hold"),
        }
    }
}

impl fmt::Display for Untracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowMinReplicas { live, required } => {
                let noun = if *live == 1 { "replica" } else { "replicas" };
                write!(f, "{live} live {noun}, fewer than the minimum of {required}")
            }
            Self::NoReplicas { owner, why } => write!(f, "{owner} {why}"),
        }
    }
}
