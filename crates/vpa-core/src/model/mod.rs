//! What the recommender knows: pods, VPAs and the distribution of usage.
//!
//! ```text
//! ClusterState
//! └─ namespace
//!    ├─ VPA ── label sets that its target's selector matches; history from checkpoints, by container
//!    ├─ pod ── its label set; by container: how far samples are taken, the running memory interval
//!    └─ label set ── by container: an Aggregate (CPU samples, memory peaks)
//! ```
//!
//! Samples go to the aggregate of their container's name and their pod's labels, so pods of one workload, and those
//! that come after them, share a history. [`ClusterState::apply`] takes observations in;
//! [`plan`](crate::recommend::plan) turns the state into recommendations and checkpoints.

pub mod aggregate;
pub mod amount;
pub mod buckets;
mod checkpoints;
mod cluster;
mod collect;
mod container;
mod fold;
pub mod histogram;
pub mod history;
mod ids;
pub mod math;
mod namespace;
mod observation;
pub mod oom;
pub mod pod;
mod quality;
mod settings;
mod standing;
pub mod usage;
mod vpa;

pub use aggregate::{Aggregate, CheckpointError};
pub use checkpoints::{CheckpointWrite, Schedule, checkpoint_name};
pub use cluster::ClusterState;
pub use container::{ContainerState, Rejection};
pub use ids::{ContainerId, ObjectId, PodId, VpaId};
pub use namespace::{ByContainer, PodState};
pub use observation::{ApplyError, Observation};
pub use pod::ObservedPod;
pub use quality::{Quality, Resource};
pub use settings::{ContainerSettings, Settings};
pub use vpa::{Target, VpaState};
