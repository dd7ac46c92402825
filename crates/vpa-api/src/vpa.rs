//! `VerticalPodAutoscaler`: what an owner asks for, and what the recommender answers.

use k8s_openapi::api::autoscaling::v1::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// Required fields are read as missing or null too, as Go reads them; only the schema demands them.
use crate::lenient::{exact_list_or_none, none_or_empty, null_as_default};
use crate::open_enum::open_enum;
use crate::{Quantity, ResourceList, schema};

/// Container name in a policy that stands for every container without a policy of its own.
pub const WILDCARD_CONTAINER: &str = "*";

/// What the autoscaler controls and how.
#[allow(clippy::duplicated_attributes)] // the printed columns have keys in common
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "autoscaling.k8s.io",
    version = "v1",
    kind = "VerticalPodAutoscaler",
    plural = "verticalpodautoscalers",
    shortname = "vpa",
    namespaced,
    status = "VerticalPodAutoscalerStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Sizes the containers of a workload by what they use.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.updatePolicy.updateMode"),
    printcolumn(
        name = "CPU",
        type_ = "string",
        json_path = ".status.recommendation.containerRecommendations[0].target.cpu"
    ),
    printcolumn(
        name = "Mem",
        type_ = "string",
        json_path = ".status.recommendation.containerRecommendations[0].target.memory"
    ),
    printcolumn(
        name = "Provided",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='RecommendationProvided')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "MinReplicas",
        type_ = "integer",
        json_path = ".spec.updatePolicy.minReplicas",
        priority = 1
    ),
    printcolumn(
        name = "OOMSeconds",
        type_ = "integer",
        json_path = ".spec.updatePolicy.evictAfterOOMSeconds",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct VerticalPodAutoscalerSpec {
    /// The controller whose pods are sized: a Deployment, StatefulSet, DaemonSet, Job, CronJob, ReplicaSet,
    /// ReplicationController, or any kind with the scale subresource.
    #[schemars(schema_with = "schema::target_ref", required)]
    pub target_ref: Option<CrossVersionObjectReference>,
    /// How changes reach the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_policy: Option<PodUpdatePolicy>,
    /// Constraints on the recommendation, container by container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_policy: Option<PodResourcePolicy>,
    /// The recommender that serves this object; none means the default one. At most one entry.
    #[serde(default, deserialize_with = "exact_list_or_none", skip_serializing_if = "none_or_empty")]
    pub recommenders: Option<Vec<VerticalPodAutoscalerRecommenderSelector>>,
    /// More resources while a pod starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_boost: Option<StartupBoost>,
}

/// Names a recommender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["name"]))]
pub struct VerticalPodAutoscalerRecommenderSelector {
    /// Name that the recommender was started with (`--recommender-name`).
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
}

/// How changes reach the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodUpdatePolicy {
    /// When and by what means pods are changed; `Recreate` where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_mode: Option<UpdateMode>,
    /// Live replicas below which no pod is disrupted. Overrides the updater's `--min-replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// Conditions on the direction of a change, all of which must hold before a pod is disrupted.
    #[serde(default, deserialize_with = "exact_list_or_none", skip_serializing_if = "none_or_empty")]
    pub eviction_requirements: Option<Vec<EvictionRequirement>>,
    /// A container that was OOM-killed sooner than this many seconds after its start makes its pod due at once.
    #[serde(default, rename = "evictAfterOOMSeconds", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub evict_after_oom_seconds: Option<i32>,
}

open_enum! {
    /// When and by what means the pods of a VPA get its recommendation.
    pub enum UpdateMode {
        /// Recommend only.
        Off = "Off",
        /// Apply to pods as they are created.
        Initial = "Initial",
        /// Also evict running pods whose requests are off.
        Recreate = "Recreate",
        /// Resize running pods in place, evict those that cannot be.
        InPlaceOrRecreate = "InPlaceOrRecreate",
        /// Resize running pods in place, never evict.
        InPlace = "InPlace",
        /// Deprecated: means [`UpdateMode::Recreate`].
        Auto = "Auto",
        /// Name that AEP-4016 first gave to [`UpdateMode::InPlace`].
        InPlaceOnly = "InPlaceOnly",
    }
}

/// A condition on the direction of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["changeRequirement", "resources"]))]
pub struct EvictionRequirement {
    /// Resources of which at least one has to change in the required direction.
    #[serde(default, deserialize_with = "null_as_default")]
    pub resources: Vec<String>,
    /// The required direction.
    #[serde(default, deserialize_with = "null_as_default")]
    pub change_requirement: EvictionChangeRequirement,
}

open_enum! {
    /// Direction of the recommended target against the present request.
    pub enum EvictionChangeRequirement {
        /// The pod would grow.
        TargetHigherThanRequests = "TargetHigherThanRequests",
        /// The pod would shrink.
        TargetLowerThanRequests = "TargetLowerThanRequests",
    }
}

/// Constraints on the recommendation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodResourcePolicy {
    /// One entry a container; the name `*` serves those without one.
    #[serde(default, deserialize_with = "exact_list_or_none", skip_serializing_if = "none_or_empty")]
    pub container_policies: Option<Vec<ContainerResourcePolicy>>,
}

/// Constraints on the recommendation for one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerResourcePolicy {
    /// Container name, or `*` for every container without a policy of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Whether the container is scaled at all; `Auto` where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ContainerScalingMode>,
    /// Lowest amounts to recommend.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub min_allowed: Option<ResourceList>,
    /// Highest amounts to recommend.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub max_allowed: Option<ResourceList>,
    /// Resources to recommend for; cpu and memory where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controlled_resources: Option<Vec<String>>,
    /// Whether limits follow requests; they do where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controlled_values: Option<ContainerControlledValues>,
    /// Factor by which an OOM kill raises the memory sample.
    #[serde(default, rename = "oomBumpUpRatio", skip_serializing_if = "Option::is_none")]
    pub oom_bump_up_ratio: Option<Quantity>,
    /// Least amount by which an OOM kill raises the memory sample.
    #[serde(default, rename = "oomMinBumpUp", skip_serializing_if = "Option::is_none")]
    pub oom_min_bump_up: Option<Quantity>,
    /// Length in seconds of the interval of which the memory peak is taken as one sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub memory_aggregation_interval_seconds: Option<i32>,
    /// Number of memory intervals that make up the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub memory_aggregation_interval_count: Option<i64>,
    /// More resources while the container starts; overrides the pod-level boost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_boost: Option<StartupBoost>,
}

open_enum! {
    /// Whether a container is scaled.
    pub enum ContainerScalingMode {
        /// It is.
        Auto = "Auto",
        /// It is left alone.
        Off = "Off",
    }
}

open_enum! {
    /// Which values of a container follow the recommendation.
    pub enum ContainerControlledValues {
        /// Requests, and limits in the proportion that the pod's template has.
        RequestsAndLimits = "RequestsAndLimits",
        /// Requests alone.
        RequestsOnly = "RequestsOnly",
    }
}

/// More resources while a pod or container starts (AEP-7862).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StartupBoost {
    /// The CPU boost; none where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<GenericStartupBoost>,
}

/// How much more of a resource, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "(self.type == 'Factor') == has(self.factor)", "message": "type Factor needs factor, and only it has one" },
    { "rule": "(self.type == 'Quantity') == has(self.quantity)", "message": "type Quantity needs quantity, and only it has one" },
]))]
#[schemars(extend("required" = ["type"]))]
pub struct GenericStartupBoost {
    /// Which of the two amounts below counts. A webhook also sees objects that lack it; they work as with `Factor`.
    #[serde(default, rename = "type", deserialize_with = "null_as_default")]
    pub kind: StartupBoostType,
    /// Multiplies the request; with type `Factor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<i32>,
    /// Is added to the request; with type `Quantity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Quantity>,
    /// Seconds that the boost outlasts the moment the pod becomes Ready; 0 where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i32>,
}

open_enum! {
    /// Kind of a startup boost.
    pub enum StartupBoostType {
        /// The request times a factor.
        Factor = "Factor",
        /// The request plus an amount.
        Quantity = "Quantity",
    }
}

/// What the recommender found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerticalPodAutoscalerStatus {
    /// The latest recommendation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommendation: Option<RecommendedPodResources>,
    /// State of the VPA, by condition type.
    #[serde(default, deserialize_with = "exact_list_or_none", skip_serializing_if = "none_or_empty")]
    pub conditions: Option<Vec<VerticalPodAutoscalerCondition>>,
    /// Generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

/// A recommendation for the pods of a VPA.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecommendedPodResources {
    /// One entry a container.
    #[serde(default, deserialize_with = "exact_list_or_none", skip_serializing_if = "none_or_empty")]
    pub container_recommendations: Option<Vec<RecommendedContainerResources>>,
}

/// A recommendation for one container. Always `lower_bound` ≤ `target` ≤ `upper_bound`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["target"]))]
pub struct RecommendedContainerResources {
    /// Container name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Amounts to request.
    #[serde(default, deserialize_with = "null_as_default")]
    pub target: ResourceList,
    /// Below these amounts a pod is too small.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub lower_bound: Option<ResourceList>,
    /// Above these amounts a pod wastes.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub upper_bound: Option<ResourceList>,
    /// The target before the constraints of the resource policy.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub uncapped_target: Option<ResourceList>,
}

/// One aspect of a VPA's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["status", "type"]))]
pub struct VerticalPodAutoscalerCondition {
    /// What the condition speaks of, such as `RecommendationProvided`.
    #[serde(default, rename = "type", deserialize_with = "null_as_default")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub status: String,
    /// When the status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, in one word for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Generation of the spec that this condition speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

#[cfg(test)]
mod tests;
