//! What a pass did and why it left the rest alone.

use std::collections::BTreeMap;

use std::sync::Arc;

use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;

use super::group::{Groups, pod_name};
use super::in_place::FallbackReason;
use super::reason::Reason;
use super::restarts::UnexpectedRestart;
use super::step::Event;
use crate::policy::LimitRanges;

/// Report of a pass. Every live pod that a VPA controls is in it, with what became of it.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassReport {
    /// VPAs that control at least one live pod, by namespace and name.
    pub vpas: Vec<VpaReport>,
    /// VPAs that took no part: `namespace/name` and why.
    pub left_out: BTreeMap<String, LeftOut>,
    /// Owners of pods whose topmost controller is not known, and why; their pods are left alone.
    pub unresolved: BTreeMap<String, String>,
    /// Live pods that no VPA controls.
    pub uncontrolled_pods: usize,
    /// Containers that restarted on a resize of an earlier pass although they need not.
    pub unexpected_restarts: Vec<UnexpectedRestart>,
    /// Events that came up at the end of the pass.
    pub events: Vec<Event>,
    /// Whether all work was done; what was not is taken up by the next pass.
    pub complete: bool,
    /// Whether time ran out, or the rate limit let no more through in time.
    pub cut_off: bool,
}

/// Why a VPA took no part in a pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// In a namespace that is ignored.
    #[error("its namespace is ignored")]
    IgnoredNamespace,
    /// Its mode never touches running pods.
    #[error("update mode {0} leaves running pods alone")]
    Mode(String),
    /// Its target cannot be resolved.
    #[error("its target cannot be resolved: {0}")]
    Target(String),
    /// It controls no live pod.
    #[error("no live pod is controlled by it")]
    NoPods,
}

/// What became of the pods of one VPA.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VpaReport {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The VPA as the snapshot has it.
    pub object: Arc<VerticalPodAutoscaler>,
    /// Limits of its namespace.
    pub limit_ranges: Arc<LimitRanges>,
    /// The budgets at the end of the pass.
    pub groups: Groups,
    /// Update mode as the VPA writes it, `Recreate` where it writes none.
    pub mode: String,
    /// Whether the mode took effect; not with its feature gate off.
    pub handled: bool,
    /// Its live pods, in the order of the snapshot.
    pub pods: Vec<PodReport>,
    /// Counts for metrics.
    pub tally: Tally,
}

impl VpaReport {
    /// Namespace and name of the VPA.
    pub fn vpa(&self) -> String {
        [self.namespace.as_str(), &self.name].join("/")
    }
}

/// What became of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodReport {
    /// The pod as the snapshot has it.
    pub object: Arc<Pod>,
    /// What became of it.
    pub verdict: Verdict,
}

impl PodReport {
    /// Namespace and name of the pod.
    pub fn pod(&self) -> String {
        pod_name(&self.object)
    }
}

/// What became of a pod in a pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// A resize was accepted by the API server.
    Resized,
    /// A resize that ends its startup boost was accepted.
    BoostEnded {
        /// Limits that the boost added and that the API does not let go.
        limits_kept: Vec<(String, String)>,
    },
    /// It was evicted, after a resize that did not get through where one is named.
    Evicted(Option<FallbackReason>),
    /// It was left alone.
    Left(Reason),
}

/// Counts of one VPA in one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pods that met all criteria for an eviction when the VPA's turn came; `None` where evictions do not come first.
    pub evictable: Option<usize>,
    /// Pods that met all criteria for a resize; `None` where the mode does not resize.
    pub in_place_updatable: Option<usize>,
    /// Evictions accepted.
    pub evicted: usize,
    /// Resizes accepted, ends of boosts included.
    pub resized: usize,
    /// Pods skipped since the resize is known to be infeasible.
    pub infeasible_skipped: usize,
    /// Failed evictions by reason.
    pub failed_evictions: BTreeMap<&'static str, usize>,
    /// Failed resizes by reason.
    pub failed_resizes: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Whether nothing was tried.
    pub fn is_nothing(&self) -> bool {
        self.evicted == 0
            && self.resized == 0
            && self.infeasible_skipped == 0
            && self.failed_evictions.is_empty()
            && self.failed_resizes.is_empty()
    }
}

/// Reasons under which failures are counted; the Go suite's words.
pub mod failure {
    /// The API server refused an eviction.
    pub const EVICTION: &str = "EvictionError";
    /// The rate limit left no room for an eviction.
    pub const EVICTION_RATE: &str = "EvictionRateLimiterWaitFailed";
    /// The API server refused a resize.
    pub const RESIZE: &str = "InPlaceUpdateError";
    /// The API server found that the node can never take a resize.
    pub const RESIZE_INFEASIBLE: &str = "InPlaceUpdateInfeasible";
    /// The rate limit left no room for a resize.
    pub const RESIZE_RATE: &str = "InPlaceUpdateRateLimiterWaitFailed";
    /// A startup boost could not be ended.
    pub const UNBOOST: &str = "UnboostError";
}

impl PassReport {
    /// All pods of the report with their VPA.
    pub fn pods(&self) -> impl Iterator<Item = (&VpaReport, &PodReport)> {
        self.vpas.iter().flat_map(|vpa| vpa.pods.iter().map(move |pod| (vpa, pod)))
    }
}
