//! `VerticalPodAutoscalerCheckpoint`: the history of one container, as the recommender keeps it across restarts.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the checkpoint format that both suites write and read.
pub const CHECKPOINT_VERSION: &str = "v3";

/// Whose history a checkpoint holds.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "autoscaling.k8s.io",
    version = "v1",
    kind = "VerticalPodAutoscalerCheckpoint",
    plural = "verticalpodautoscalercheckpoints",
    shortname = "vpacheckpoint",
    namespaced,
    derive = "Default",
    derive = "PartialEq"
)]
#[kube(status = "VerticalPodAutoscalerCheckpointStatus")]
#[serde(rename_all = "camelCase")]
pub struct VerticalPodAutoscalerCheckpointSpec {
    /// Name of the VPA, in the checkpoint's namespace.
    #[serde(default, rename = "vpaObjectName", skip_serializing_if = "Option::is_none")]
    pub vpa_object_name: Option<String>,
    /// Name of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
}

/// The history of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerticalPodAutoscalerCheckpointStatus {
    /// When the checkpoint was written.
    #[serde(default)]
    pub last_update_time: Option<Time>,
    /// Version of the format, [`CHECKPOINT_VERSION`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// CPU usage in cores.
    #[serde(default)]
    pub cpu_histogram: HistogramCheckpoint,
    /// Memory peaks in bytes.
    #[serde(default)]
    pub memory_histogram: HistogramCheckpoint,
    /// Time of the first sample.
    #[serde(default)]
    pub first_sample_start: Option<Time>,
    /// Time of the last sample.
    #[serde(default)]
    pub last_sample_start: Option<Time>,
    /// Number of CPU samples.
    #[serde(default)]
    pub total_samples_count: i64,
}

/// A decaying histogram with its weights scaled to whole numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistogramCheckpoint {
    /// Time at which a sample weighs exactly its given weight.
    #[serde(default)]
    pub reference_timestamp: Option<Time>,
    /// Weight by bucket number; the largest is 10000.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bucket_weights: BTreeMap<u32, u32>,
    /// Sum of all weights before scaling.
    #[serde(default)]
    pub total_weight: f64,
}
