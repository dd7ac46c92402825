//! What nodes can hold, looked at before a resize is sent.

use vpa_api::pod::Pod;
use vpa_api::{Quantity, ResourceList};

use super::patch::ResizePatch;

/// Where the capacity of nodes is found.
pub trait NodeSource {
    /// What a node can give to pods (`status.allocatable`); `None` where it is not known, and the kubelet decides.
    fn allocatable(&self, node: &str) -> Option<ResourceList>;
}

/// Nothing is known of any node.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNodes;

impl NodeSource for NoNodes {
    fn allocatable(&self, _: &str) -> Option<ResourceList> {
        None
    }
}

/// A resize that the pod's node can never take, whatever else runs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The node.
    pub node: String,
    /// Resource of which it has too little.
    pub resource: &'static str,
    /// What the pod would request.
    pub requested: Quantity,
    /// What the node can give to pods.
    pub allocatable: Quantity,
}

/// Resources that the kubelet compares before it takes a resize.
const COMPARED: [&str; 2] = ["cpu", "memory"];

/// Looks for a resource of which the pod, once resized, would request more than its node has. Requests that only count
/// while init containers run, and the overhead of a runtime class, are left out: what is too large here is too large
/// for the kubelet in any case. A resource of which the resize asks for no more than before is never refused for.
pub(super) fn too_large(pod: &Pod, patch: &ResizePatch, nodes: &dyn NodeSource) -> Option<TooLarge> {
    let node = pod.spec.node_name.as_deref()?;
    let allocatable = nodes.allocatable(node)?;
    let own = pod.spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    // Where the pod as a whole has a request, its containers' do not count for the node.
    let mut compared =
        COMPARED.into_iter().filter(|resource| own.is_none_or(|own| !own.contains_key(*resource)));
    compared.find_map(|resource| {
        let allocatable = allocatable.get(resource)?;
        let total = |requests: &mut dyn Iterator<Item = Option<&ResourceList>>| {
            let milli = |list: Option<&ResourceList>| {
                list.and_then(|list| list.get(resource)).map_or(0, Quantity::milli_value_saturating)
            };
            requests.map(milli).fold(0_i64, i64::saturating_add)
        };
        let before = total(&mut pod.spec.containers.iter().map(|c| c.resources.requests.as_ref()));
        let after = total(&mut patch.after.iter().map(|after| after.requests.as_ref()));
        let sidecars = pod.spec.init_containers.iter().filter(|container| container.is_sidecar());
        let beside = total(&mut sidecars.map(|c| c.resources.requests.as_ref()));
        let requested = after.saturating_add(beside);
        (after > before && requested > allocatable.milli_value_saturating()).then(|| TooLarge {
            node: node.to_owned(),
            resource,
            requested: Quantity::from_milli(requested, allocatable.format()),
            allocatable: allocatable.clone(),
        })
    })
}
