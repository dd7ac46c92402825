//! Types of the `autoscaling.k8s.io/v1` API, exact resource quantities, and the names that every
//! program of the suite agrees on (annotations, leases, conditions, ports).
//!
//! The crate knows neither a client nor a clock; it is the vocabulary that `vpa-core` decides in and that the
//! programs speak to the API server.

pub mod checkpoint;
mod lenient;
pub mod limit_range;
pub mod names;
mod open_enum;
pub mod pod;
pub mod quantity;
mod schema;
pub mod vpa;

pub use checkpoint::{HistogramCheckpoint, VerticalPodAutoscalerCheckpoint};
pub use quantity::Quantity;
pub use vpa::VerticalPodAutoscaler;

/// Amounts by resource name (`cpu`, `memory`, …), ordered by name as Kubernetes prints them. Most have two, and there
/// are several for each container in the cluster: a sorted vector takes a sixth of a tree's memory.
pub type ResourceList = litemap::LiteMap<ResourceName, Quantity>;

/// Name of a resource; the usual ones need no allocation.
pub type ResourceName = compact_str::CompactString;
