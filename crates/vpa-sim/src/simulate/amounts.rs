//! CPU and memory as plain numbers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use vpa_api::Quantity;

/// CPU and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// CPU in thousandths of a core.
    pub cpu_millis: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
}

impl Amounts {
    /// Both amounts added, staying at the largest number.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// Both amounts subtracted, below zero where `other` is more.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }

    /// Whether neither amount is more than in `room`. Nothing wanted always fits.
    pub fn fits(self, room: Self) -> bool {
        (self.cpu_millis == 0 || self.cpu_millis <= room.cpu_millis)
            && (self.memory_bytes == 0 || self.memory_bytes <= room.memory_bytes)
    }
}

/// A CPU quantity in thousandths of a core, rounded up; zero where it is missing or no quantity.
pub fn cpu_millis(list: Option<&BTreeMap<String, Text>>) -> i64 {
    optional(list, "cpu").map_or(0, |quantity| quantity.milli_value_saturating())
}

/// A memory quantity in bytes, rounded up; zero where it is missing or no quantity.
pub fn memory_bytes(list: Option<&BTreeMap<String, Text>>) -> i64 {
    optional(list, "memory").map_or(0, |quantity| quantity.value_saturating())
}

/// CPU and memory of a list.
pub fn of_list(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    Amounts { cpu_millis: cpu_millis(list), memory_bytes: memory_bytes(list) }
}

fn optional(list: Option<&BTreeMap<String, Text>>, name: &str) -> Option<Quantity> {
    list.and_then(|list| list.get(name)).and_then(|text| Quantity::parse(&text.0).ok())
}

/// Whether two sets of requests and limits say the same, numerically. Only CPU and memory count: nothing else can be
/// resized.
pub fn same_resources(one: Option<&ResourceRequirements>, other: Option<&ResourceRequirements>) -> bool {
    let both = |list: fn(&ResourceRequirements) -> Option<&BTreeMap<String, Text>>| {
        ["cpu", "memory"].iter().all(|name| {
            let amount = |set: Option<&ResourceRequirements>| optional(set.and_then(list), name);
            amount(one) == amount(other)
        })
    };
    both(|set| set.requests.as_ref()) && both(|set| set.limits.as_ref())
}

/// What the scheduler counts for a pod: the sum of its containers and sidecars, at least its largest init container,
/// and the pod's own resources where it has some.
pub fn of_spec(spec: &PodSpec) -> Amounts {
    let requests =
        |container: &Container| of_list(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let mut running = Amounts::default();
    let mut highest = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            running = running.plus(requests(container));
            highest = highest.max(running);
        } else {
            highest = highest.max(running.plus(requests(container)));
        }
    }
    let containers = spec.containers.iter().map(requests).fold(running, Amounts::plus);
    let whole = of_list(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let summed = containers.max(highest);
    Amounts {
        cpu_millis: if whole.cpu_millis > 0 { whole.cpu_millis } else { summed.cpu_millis },
        memory_bytes: if whole.memory_bytes > 0 { whole.memory_bytes } else { summed.memory_bytes },
    }
}

/// What a node has set aside for a pod: for each running container the larger of what its status says is allocated
/// and nothing more, so that a resize that waits does not count yet.
pub fn allocated(pod: &Pod) -> Amounts {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return Amounts::default() };
    let statuses =
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let known: BTreeMap<&str, Amounts> = statuses
        .filter_map(|status| {
            Some((status.name.as_str(), of_list(Some(status.allocated_resources.as_ref()?))))
        })
        .collect();
    if known.is_empty() {
        return of_spec(spec);
    }
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    sidecars
        .chain(&spec.containers)
        .map(|container| known.get(container.name.as_str()).copied().unwrap_or_default())
        .fold(Amounts::default(), Amounts::plus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn requests_of_a_pod() {
        let container = |name: &str, cpu: &str| serde_json::json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("s", "50m");
        sidecar["restartPolicy"] = "Always".into();
        let cases = [
            (serde_json::json!({"containers": [container("a", "100m"), container("b", "0.2")]}), 300),
            (
                serde_json::json!({"containers": [container("a", "100m")], "initContainers": [container("i", "1")]}),
                1000,
            ),
            (
                serde_json::json!({"containers": [container("a", "100m")], "initContainers": [sidecar.clone()]}),
                150,
            ),
            (
                serde_json::json!({"containers": [container("a", "100m")], "initContainers": [sidecar, container("i", "200m")]}),
                250,
            ),
            (
                serde_json::json!({"containers": [container("a", "100m")], "resources": {"requests": {"cpu": "2"}}}),
                2000,
            ),
            (serde_json::json!({"containers": [container("a", "nonsense")]}), 0),
        ];
        for (json, expected) in cases {
            assert_eq!(of_spec(&spec(json.clone())).cpu_millis, expected, "{json}");
        }
    }

    #[test]
    fn resources_are_compared_as_numbers() {
        let resources =
            |json: serde_json::Value| serde_json::from_value::<ResourceRequirements>(json).unwrap();
        let one = resources(serde_json::json!({"requests": {"cpu": "1", "memory": "1Gi"}}));
        let other =
            resources(serde_json::json!({"requests": {"cpu": "1000m", "memory": "1024Mi", "x/y": "1"}}));
        assert!(same_resources(Some(&one), Some(&other)));
        let limited =
            resources(serde_json::json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1"}}));
        assert!(!same_resources(Some(&one), Some(&limited)));
        assert!(!same_resources(Some(&one), None));
    }
}
