//! What nodes can give to pods.

use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use vpa_api::ResourceList;
use vpa_core::update::NodeSource;
use vpa_runtime::Store;
use vpa_runtime::store::Stored;

/// A node that a store can hold, without what the updater does not read: its images alone are many kilobytes.
#[derive(Debug, Deserialize)]
#[serde(from = "Read")]
pub(crate) struct StoredNode {
    name: String,
    version: Option<String>,
    allocatable: Option<ResourceList>,
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
    name: String,
    resource_version: Option<String>,
}

#[derive(Default, Deserialize)]
struct Status {
    allocatable: Option<ResourceList>,
}

impl From<Read> for StoredNode {
    fn from(node: Read) -> Self {
        Self {
            name: node.metadata.name,
            version: node.metadata.resource_version,
            allocatable: node.status.allocatable,
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

/// The nodes of the cluster, as far as they are known.
#[derive(Clone)]
pub(crate) struct Nodes(pub(crate) Store<StoredNode>);

impl NodeSource for Nodes {
    fn allocatable(&self, node: &str) -> Option<ResourceList> {
        self.0.get("", node)?.allocatable.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_its_name_and_what_it_can_give() {
        let node = |value| serde_json::from_value::<StoredNode>(value);
        let store = Store::detached("nodes");
        store.apply(
            node(json!({
                "metadata": { "name": "a", "resourceVersion": "7", "labels": { "x": "y" } },
                "status": { "allocatable": { "cpu": "4", "memory": "16Gi" }, "images": [{ "names": ["i"] }] },
            }))
            .unwrap(),
        );
        store.apply(node(json!({ "metadata": { "name": "new" } })).unwrap());
        let nodes = Nodes(store);
        let cpu = nodes.allocatable("a").and_then(|list| list.get("cpu").map(ToString::to_string));
        assert_eq!(cpu.as_deref(), Some("4"));
        assert_eq!(nodes.allocatable("new"), None);
        assert_eq!(nodes.allocatable("gone"), None);
        assert!(node(json!({ "status": {} })).is_err());
    }
}
