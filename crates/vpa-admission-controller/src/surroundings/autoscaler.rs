//! HorizontalPodAutoscalers, down to what a VPA can clash with.

use std::sync::Arc;

use compact_str::{CompactString, format_compact};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde::Deserialize;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_core::admit::{Autoscaler, ScaledOn};
use vpa_runtime::store::Stored;

/// A HorizontalPodAutoscaler that a store can hold, about 500 bytes with its places in store and index instead of some
/// kilobytes.
#[derive(Debug, Deserialize)]
#[serde(from = "Raw")]
pub struct StoredAutoscaler {
    namespace: CompactString,
    version: Option<CompactString>,
    target_kind: CompactString,
    target_name: CompactString,
    /// What a VPA can clash with.
    pub autoscaler: Arc<Autoscaler>,
}

impl StoredAutoscaler {
    /// What it scales, as an index has it.
    pub(super) fn slot(&self) -> CompactString {
        slot(&self.namespace, &self.target_kind, &self.target_name)
    }
}

/// A target as one text: none of the three can hold a slash.
pub(super) fn slot(namespace: &str, kind: &str, name: &str) -> CompactString {
    format_compact!("{namespace}/{kind}/{name}")
}

impl Stored for StoredAutoscaler {
    fn url_path(namespace: Option<&str>) -> String {
        <HorizontalPodAutoscaler as kube::Resource>::url_path(&(), namespace)
    }

    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.autoscaler.name
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

#[derive(Deserialize)]
struct Raw {
    metadata: RawMeta,
    spec: RawSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMeta {
    name: CompactString,
    #[serde(default)]
    namespace: CompactString,
    resource_version: Option<CompactString>,
    owner_references: Option<Vec<RawOwner>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOwner {
    api_version: CompactString,
    kind: CompactString,
    name: CompactString,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    scale_target_ref: RawTarget,
    metrics: Option<Vec<RawMetric>>,
}

#[derive(Deserialize)]
struct RawTarget {
    kind: CompactString,
    name: CompactString,
}

/// A metric of any type; of those that are no resource nothing is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetric {
    #[serde(rename = "type")]
    kind: CompactString,
    resource: Option<RawResource>,
    container_resource: Option<RawResource>,
}

#[derive(Deserialize)]
struct RawResource {
    name: CompactString,
    container: Option<CompactString>,
}

impl RawMetric {
    fn scaled_on(self) -> Option<ScaledOn> {
        let (read, of_container) = match self.kind.as_str() {
            "Resource" => (self.resource?, false),
            "ContainerResource" => (self.container_resource?, true),
            _ => return None,
        };
        let resource = [CPU, MEMORY].into_iter().find(|known| *known == read.name)?;
        Some(ScaledOn { resource, container: read.container.filter(|_| of_container) })
    }
}

impl From<Raw> for StoredAutoscaler {
    fn from(raw: Raw) -> Self {
        let RawMeta { name, namespace, resource_version, owner_references } = raw.metadata;
        let RawSpec { scale_target_ref, metrics } = raw.spec;
        let scaled_object = owner_references.into_iter().flatten().find(RawOwner::is_scaled_object);
        let metrics = metrics.unwrap_or_default();
        let scaled_on: Box<[ScaledOn]> = if metrics.is_empty() {
            // Kubernetes takes the CPU, at 80 % of the requests.
            [ScaledOn { resource: CPU, container: None }].into()
        } else {
            metrics.into_iter().filter_map(RawMetric::scaled_on).collect()
        };
        Self {
            namespace,
            version: resource_version,
            target_kind: scale_target_ref.kind,
            target_name: scale_target_ref.name,
            autoscaler: Arc::new(Autoscaler {
                name,
                scaled_object: scaled_object.map(|owner| owner.name),
                scaled_on,
            }),
        }
    }
}

impl RawOwner {
    fn is_scaled_object(&self) -> bool {
        self.kind == "ScaledObject" && self.api_version.split('/').next() == Some("keda.sh")
    }
}
