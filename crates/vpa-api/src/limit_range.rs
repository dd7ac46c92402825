//! A LimitRange, down to what the suite reads.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize};

use crate::ResourceList;

/// Limits on what pods and containers of a namespace may ask for.
#[derive(Resource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[resource(inherit = k8s_openapi::api::core::v1::LimitRange)]
pub struct LimitRange {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The limits.
    #[serde(default)]
    pub spec: LimitRangeSpec,
}

/// The limits of a [`LimitRange`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitRangeSpec {
    /// One entry for each kind of thing that is limited.
    #[serde(deserialize_with = "crate::lenient::null_as_default")]
    pub limits: Vec<LimitRangeItem>,
}

/// Limits on one kind of thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitRangeItem {
    /// `Container`, `Pod` or `PersistentVolumeClaim`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Least amounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<ResourceList>,
    /// Highest amounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<ResourceList>,
    /// Limits of containers that set none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<ResourceList>,
}
