//! Quality-of-service class of a pod, which a resize may never change.
//!
//! Source: the Kubernetes documentation, "Pod Quality of Service Classes"; only CPU and memory count.

use std::fmt;

use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::pod::{Pod, ResourceRequirements};

/// Quality-of-service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has limits for CPU and memory, and requests equal to them.
    Guaranteed,
    /// Neither of the two.
    Burstable,
    /// No container has a request or limit for CPU or memory.
    BestEffort,
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        })
    }
}

/// The class of a pod by its spec.
pub fn qos_class(pod: &Pod) -> QosClass {
    let of_pod = pod
        .spec
        .resources
        .as_ref()
        .filter(|r| !is_empty(r.requests.as_ref()) || !is_empty(r.limits.as_ref()));
    // Resources of the pod as a whole, where they are set, decide alone.
    if let Some(resources) = of_pod {
        return class(std::iter::once(resources));
    }
    let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    class(containers.map(|container| &container.resources))
}

fn is_empty(list: Option<&vpa_api::ResourceList>) -> bool {
    list.is_none_or(|list| list.is_empty())
}

fn class<'a>(all: impl Iterator<Item = &'a ResourceRequirements>) -> QosClass {
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for name in [CPU, MEMORY] {
            let amount = |list: &'a Option<vpa_api::ResourceList>| {
                list.as_ref().and_then(|list| list.get(name)).filter(|amount| amount.signum() > 0)
            };
            let (request, limit) = (amount(&resources.requests), amount(&resources.limits));
            any |= request.is_some() || limit.is_some();
            // A missing request takes the limit's value when the pod is created.
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({ "spec": { "containers": containers } })).unwrap()
    }

    #[test]
    fn classes() {
        use serde_json::json;
        let full = json!({ "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "1000m", "memory": "1Gi" } });
        for (containers, want) in [
            (json!([{ "name": "a", "resources": full }]), QosClass::Guaranteed),
            (
                json!([{ "name": "a", "resources": { "limits": { "cpu": "1", "memory": "1" } } }]),
                QosClass::Guaranteed,
            ),
            (json!([{ "name": "a", "resources": full }, { "name": "b" }]), QosClass::Burstable),
            (json!([{ "name": "a", "resources": { "limits": { "cpu": "1" } } }]), QosClass::Burstable),
            (json!([{ "name": "a", "resources": { "requests": { "gpu": "1" } } }]), QosClass::BestEffort),
            (json!([{ "name": "a", "resources": { "requests": { "cpu": "0" } } }]), QosClass::BestEffort),
            (json!([{ "name": "a" }]), QosClass::BestEffort),
        ] {
            assert_eq!(qos_class(&pod(containers.clone())), want, "{containers}");
        }
    }
}
