//! `VerticalPodAutoscalerCheckpoint`: the history of one container, as the recommender keeps it across restarts.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::lenient::{is_default, null_as_default};
use crate::schema;

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
    derive = "PartialEq",
    doc = "History of the usage of one container, from which a recommender goes on after a restart."
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
    #[schemars(schema_with = "schema::nullable_time")]
    pub last_update_time: Option<Time>,
    /// Version of the format, `v3` at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// CPU usage in cores.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cpu_histogram: HistogramCheckpoint,
    /// Memory peaks in bytes.
    #[serde(default, deserialize_with = "null_as_default")]
    pub memory_histogram: HistogramCheckpoint,
    /// Time of the first sample.
    #[serde(default)]
    #[schemars(schema_with = "schema::nullable_time")]
    pub first_sample_start: Option<Time>,
    /// Time of the last sample.
    #[serde(default)]
    #[schemars(schema_with = "schema::nullable_time")]
    pub last_sample_start: Option<Time>,
    /// Number of CPU samples.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    #[schemars(schema_with = "schema::integer")]
    pub total_samples_count: i64,
}

/// A decaying histogram with its weights scaled to whole numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistogramCheckpoint {
    /// Time at which a sample weighs exactly its given weight.
    #[serde(default)]
    #[schemars(schema_with = "schema::nullable_time")]
    pub reference_timestamp: Option<Time>,
    /// Weight by bucket number; the largest is 10000.
    #[serde(default, deserialize_with = "bucket_weights", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub bucket_weights: BTreeMap<u32, u32>,
    /// Sum of all weights before scaling.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    #[schemars(schema_with = "schema::number")]
    pub total_weight: f64,
}

/// Reads the weights. The bucket numbers are the keys of a JSON object, so texts, and stay so wherever a decoder looks at
/// the object before its type is known; there the general decoder of a map of numbers would refuse them.
fn bucket_weights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, u32>, D::Error> {
    let weights = Option::<BTreeMap<Bucket, u32>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(weights.into_iter().map(|(bucket, weight)| (bucket.0, weight)).collect())
}

/// A bucket number as a key.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Bucket(u32);

impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BucketVisitor)
    }
}

struct BucketVisitor;

impl Visitor<'_> for BucketVisitor {
    type Value = Bucket;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of a bucket")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bucket, E> {
        text.parse().map(Bucket).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bucket, E> {
        u32::try_from(number)
            .map(Bucket)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_checkpoint_of_the_go_suite_keeps_its_form() {
        let object = json!({
            "apiVersion": "autoscaling.k8s.io/v1",
            "kind": "VerticalPodAutoscalerCheckpoint",
            "metadata": {"name": "web-app", "namespace": "shop"},
            "spec": {"vpaObjectName": "web", "containerName": "app"},
            "status": {
                "lastUpdateTime": "2026-08-15T12:00:00Z",
                "version": "v3",
                "cpuHistogram": {"referenceTimestamp": "2026-08-16T00:00:00Z", "bucketWeights": {"0": 10000, "12": 7}, "totalWeight": 28.5},
                "memoryHistogram": {"referenceTimestamp": null},
                "firstSampleStart": null,
                "lastSampleStart": null,
            }
        });
        let checkpoint: VerticalPodAutoscalerCheckpoint = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(checkpoint.status.as_ref().unwrap().cpu_histogram.bucket_weights[&12], 7);
        assert_eq!(serde_json::to_value(&checkpoint).unwrap(), object);
    }

    #[test]
    fn buckets_are_read_after_buffering_too() {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Buffered {
            Histogram(HistogramCheckpoint),
        }
        let Buffered::Histogram(histogram) =
            serde_json::from_str(r#"{"bucketWeights": {"3": 1, "20": 2}}"#).unwrap();
        assert_eq!(histogram.bucket_weights, BTreeMap::from([(3, 1), (20, 2)]));
        let histogram: HistogramCheckpoint =
            serde_saphyr::from_str("bucketWeights: {3: 1, \"20\": 2}").unwrap();
        assert_eq!(histogram.bucket_weights.len(), 2);
    }

    #[test]
    fn a_wrong_bucket_is_named() {
        for bucket in ["-1", "x", "4294967296"] {
            let text = format!(r#"{{"bucketWeights": {{"{bucket}": 1}}}}"#);
            let error = serde_json::from_str::<HistogramCheckpoint>(&text).err().unwrap().to_string();
            assert!(error.contains(bucket) && error.contains("bucket"), "{error}");
        }
    }

    #[test]
    fn nulls_and_gaps_are_zero() {
        let text = r#"{"metadata": {"name": "x"}, "spec": {}, "status": {"cpuHistogram": null, "memoryHistogram": {"bucketWeights": null, "totalWeight": null}, "totalSamplesCount": null}}"#;
        let checkpoint: VerticalPodAutoscalerCheckpoint = serde_json::from_str(text).unwrap();
        assert_eq!(checkpoint.status.unwrap(), VerticalPodAutoscalerCheckpointStatus::default());
    }
}
