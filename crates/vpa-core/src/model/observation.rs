//! What the model is told.

use std::sync::Arc;

use jiff::Timestamp;
use vpa_api::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};

use super::aggregate::CheckpointError;
use super::container::Rejection;
use super::ids::{ContainerId, PodId, VpaId};
use super::oom::Oom;
use super::pod::ObservedPod;
use super::vpa::Target;

/// Something seen in the cluster.
#[derive(Clone, Debug)]
pub enum Observation<'a> {
    /// A VPA is there or has changed, or its target was looked up again.
    Vpa(Arc<VerticalPodAutoscaler>, Target),
    /// A VPA is gone.
    VpaGone(&'a VpaId),
    /// A checkpoint that was found at the start. Its VPA has to be known.
    Checkpoint(&'a VerticalPodAutoscalerCheckpoint),
    /// A pod is there or has changed.
    Pod(&'a ObservedPod),
    /// A pod is gone.
    PodGone(&'a PodId),
    /// CPU usage of a container.
    Cpu {
        /// The container.
        container: &'a ContainerId,
        /// When it was measured.
        time: Timestamp,
        /// How much.
        millicores: i64,
    },
    /// Memory usage of a container.
    Memory {
        /// The container.
        container: &'a ContainerId,
        /// When it was measured.
        time: Timestamp,
        /// How much.
        bytes: i64,
    },
    /// A container was killed, or its pod evicted, for using too much memory.
    Oom(&'a Oom),
}

/// Why an observation was not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// It does not fit what is known.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
