//! What a VPA has to get along with, beyond its target: other autoscalers, and nodes.

use std::sync::Arc;

use compact_str::CompactString;
use vpa_api::Quantity;

/// A HorizontalPodAutoscaler, as far as it can get in a VPA's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Autoscaler {
    /// Its name.
    pub name: CompactString,
    /// Name of the KEDA ScaledObject that made it, which is what its owner edits.
    pub scaled_object: Option<CompactString>,
    /// What of a pod's own resources it scales on; empty where it only scales on other metrics.
    pub scaled_on: Box<[ScaledOn]>,
}

/// A resource that an autoscaler scales on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaledOn {
    /// `cpu` or `memory`; a VPA controls no other.
    pub resource: &'static str,
    /// The container whose usage counts; `None` for the sum over the pod.
    pub container: Option<CompactString>,
}

/// Where warnings find what is around a VPA, without waiting.
pub trait Surroundings {
    /// Whether what is in a namespace is known here and in the other sources of the snapshot. Where it is not, an object
    /// that is not found may well be there, and nothing is said about it.
    fn covers(&self, namespace: &str) -> bool;

    /// The autoscalers in `namespace` whose target has this kind and name, ordered by name.
    fn autoscalers(&self, namespace: &str, kind: &str, name: &str) -> Vec<Arc<Autoscaler>>;

    /// The most of `cpu` or `memory` that any one node can give to pods (`status.allocatable`); `None` where no node is
    /// known.
    fn largest_node(&self, resource: &str) -> Option<Quantity>;
}
