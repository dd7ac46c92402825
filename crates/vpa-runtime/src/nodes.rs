//! What nodes can give to pods.

use compact_str::CompactString;
use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use vpa_api::Quantity;

use crate::store::Stored;

/// A node that a store can hold, about 300 bytes with its place there: without what the suite does not read, of which the
/// images alone are many kilobytes.
#[derive(Debug, Deserialize)]
#[serde(from = "Read")]
pub struct StoredNode {
    name: CompactString,
    version: Option<CompactString>,
    /// Cores and bytes that it can give to pods.
    pub allocatable: Allocatable,
}

/// `status.allocatable` of a node; `None` for what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Allocatable {
    /// Cores.
    pub cpu: Option<Quantity>,
    /// Bytes.
    pub memory: Option<Quantity>,
}

/// The part of a node that is read.
#[derive(Deserialize)]
struct Read {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: CompactString,
    resource_version: Option<CompactString>,
}

#[derive(Default, Deserialize)]
struct Status {
    allocatable: Option<Allocatable>,
}

impl From<Read> for StoredNode {
    fn from(node: Read) -> Self {
        Self {
            name: node.metadata.name,
            version: node.metadata.resource_version,
            allocatable: node.status.allocatable.unwrap_or_default(),
        }
    }
}

impl Stored for StoredNode {
    fn url_path(namespace: Option<&str>) -> String {
        <Node as kube::Resource>::url_path(&(), namespace)
    }

    fn namespace(&self) -> &str {
        ""
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_its_name_and_what_it_can_give() {
        let node = |value: serde_json::Value| serde_json::from_str::<StoredNode>(&value.to_string());
        let full = node(json!({
            "metadata": { "name": "a", "resourceVersion": "7", "labels": { "x": "y" } },
            "status": {
                "allocatable": { "cpu": "4", "memory": "16Gi", "pods": "110" },
                "images": [{ "names": ["i"] }],
            },
        }))
        .unwrap();
        assert_eq!((full.name(), full.version()), ("a", Some("7")));
        let Allocatable { cpu, memory } = &full.allocatable;
        assert_eq!([cpu, memory].map(|amount| amount.as_ref().unwrap().to_string()), ["4", "16Gi"]);
        assert_eq!(
            node(json!({ "metadata": { "name": "new" } })).unwrap().allocatable,
            Allocatable::default()
        );
        assert!(node(json!({ "status": {} })).is_err());
    }
}
