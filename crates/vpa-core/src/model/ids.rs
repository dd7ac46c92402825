//! Names of what the model holds.

use compact_str::CompactString;
use kube::Resource;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;

/// Namespace and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Namespace.
    pub namespace: CompactString,
    /// Name, unique in the namespace for the object's kind.
    pub name: CompactString,
}

/// Names a pod.
pub type PodId = ObjectId;

/// Names a VPA.
pub type VpaId = ObjectId;

/// Names a container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    /// The pod.
    pub pod: PodId,
    /// Name of the container, unique in the pod.
    pub container: CompactString,
}

impl ObjectId {
    /// From namespace and name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The id of a pod.
    pub fn of_pod(pod: &Pod) -> Self {
        Self::of(pod)
    }

    /// The id of a VPA.
    pub fn of_vpa(vpa: &VerticalPodAutoscaler) -> Self {
        Self::of(vpa)
    }

    fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""))
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ContainerId {
    /// From namespace, pod and container.
    pub fn new(namespace: &str, pod: &str, container: &str) -> Self {
        Self { pod: PodId::new(namespace, pod), container: container.into() }
    }
}

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.pod, self.container)
    }
}
