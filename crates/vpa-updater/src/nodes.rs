//! What nodes can give to pods, as the core asks for it.

use vpa_api::ResourceList;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_core::update::NodeSource;
use vpa_runtime::Store;
use vpa_runtime::nodes::{Allocatable, StoredNode};

/// The nodes of the cluster, as far as they are known.
#[derive(Clone)]
pub(crate) struct Nodes(pub(crate) Store<StoredNode>);

impl NodeSource for Nodes {
    fn allocatable(&self, node: &str) -> Option<ResourceList> {
        let Allocatable { cpu, memory } = self.0.get("", node)?.allocatable.clone();
        let amounts = [(CPU, cpu), (MEMORY, memory)].into_iter();
        Some(amounts.filter_map(|(resource, amount)| Some((resource, amount?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_says_nothing_is_not_compared_with() {
        let store = Store::detached("nodes");
        let node = |name: &str, status: serde_json::Value| {
            serde_json::from_value(json!({ "metadata": { "name": name }, "status": status })).unwrap()
        };
        store.apply(node("a", json!({ "allocatable": { "cpu": "4" } })));
        store.apply(node("new", json!({})));
        let nodes = Nodes(store);
        let cpu = nodes.allocatable("a").and_then(|list| list.get("cpu").map(ToString::to_string));
        assert_eq!(cpu.as_deref(), Some("4"));
        assert!(nodes.allocatable("new").is_some_and(|list| list.is_empty()));
        assert_eq!(nodes.allocatable("gone"), None);
    }
}
