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
pub mod resources;
mod schema;
pub mod vpa;

pub use checkpoint::{HistogramCheckpoint, VerticalPodAutoscalerCheckpoint};
pub use quantity::Quantity;
pub use resources::{ResourceList, ResourceName};
pub use vpa::VerticalPodAutoscaler;
