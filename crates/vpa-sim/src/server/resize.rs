//! The resize subresource of pods, with the rules of Kubernetes 1.36.

use serde_json::Value;
use vpa_api::Quantity;

use super::error::{ApiError, ApiResult, Cause};
use super::pods::qos_class;
use super::state::State;
use super::store::Key;
use super::value::{copy_path, items, map_mut, meta, text};

/// Takes over only resources and resize policies of containers; added, removed or renamed containers stay in, for
/// [`check`] to refuse.
pub(crate) fn restrict(current: &Value, wanted: &Value) -> Value {
    let mut pod = current.clone();
    // Only the precondition of the request counts besides the containers.
    for list in ["containers", "initContainers"] {
        let (old, new) = (items(&current["spec"][list]), items(&wanted["spec"][list]));
        let same = old.len() == new.len()
            && old.iter().zip(new).all(|(old, new)| text(old, &["name"]) == text(new, &["name"]));
        if !same {
            pod["spec"][list] = wanted["spec"][list].clone();
            continue;
        }
        for (index, container) in new.iter().enumerate() {
            for key in ["resources", "resizePolicy"] {
                copy_path(container, &mut pod["spec"][list][index], &[key]);
            }
        }
    }
    pod
}

/// Refuses a resize that the API server refuses.
pub(crate) fn check(state: &State, old: &Value, new: &Value) -> ApiResult<()> {
    if old["spec"] == new["spec"] {
        return Ok(());
    }
    let causes = causes(old, new);
    if !causes.is_empty() {
        return Err(ApiError::invalid("", "Pod", meta(old, "name"), &causes));
    }
    fits_node(state, new)
}

fn causes(old: &Value, new: &Value) -> Vec<Cause> {
    if old["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        return vec![Cause::forbidden("", "static pods cannot be resized")];
    }
    let mut causes = Vec::new();
    if qos_class(old) != qos_class(new) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        causes.push(Cause::invalid("spec", &new["status"]["qosClass"], detail));
    }
    if !node_supports_resize(old) {
        causes.push(Cause::forbidden("spec", "Pod running on node without support for resize"));
    }
    for list in ["containers", "initContainers"] {
        let (old_list, new_list) = (items(&old["spec"][list]), items(&new["spec"][list]));
        if old_list.len() != new_list.len() {
            let detail = format!("{list} may not be added or removed on resize");
            causes.push(Cause::forbidden(format!("spec.{list}"), &detail));
            continue;
        }
        for (index, (old, new)) in old_list.iter().zip(new_list).enumerate() {
            let path = format!("spec.{list}[{index}]");
            if old["name"] != new["name"] {
                let detail = format!("{list} may not be renamed or reordered on resize");
                causes.push(Cause::forbidden(format!("{path}.name"), &detail));
            } else if old != new {
                container_causes(old, new, list, &path, &mut causes);
            }
        }
    }
    causes
}

fn container_causes(old: &Value, new: &Value, list: &str, path: &str, causes: &mut Vec<Cause>) {
    if list == "initContainers" && text(old, &["restartPolicy"]) != "Always" {
        causes.push(Cause::forbidden("spec", "resources for non-sidecar init containers are immutable"));
        return;
    }
    for (kind, detail) in
        [("requests", "resource requests cannot be removed"), ("limits", "resource limits cannot be removed")]
    {
        let names = old["resources"][kind].as_object().into_iter().flat_map(|map| map.keys());
        if names.into_iter().any(|name| new["resources"][kind][name].is_null()) {
            causes.push(Cause::forbidden(format!("{path}.resources.{kind}"), detail));
        }
    }
    let others = |container: &Value| {
        let mut container = container.clone();
        for kind in ["requests", "limits"] {
            if let Some(map) = container["resources"][kind].as_object_mut() {
                map.retain(|name, _| name != "cpu" && name != "memory");
            }
        }
        let resources = map_mut(&mut container["resources"]);
        resources.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
        // A policy may come along with the first request or limit of a resource.
        map_mut(&mut container).remove("resizePolicy");
        container
    };
    if others(old) != others(new) {
        causes.push(Cause::forbidden("spec", "only cpu and memory resources are mutable"));
    }
}

/// A node whose kubelet reports no resources of a running container cannot resize.
fn node_supports_resize(pod: &Value) -> bool {
    items(&pod["status"]["containerStatuses"])
        .iter()
        .find(|status| status["state"]["running"].is_object())
        .is_none_or(|status| status["resources"].is_object())
}

fn fits_node(state: &State, pod: &Value) -> ApiResult<()> {
    let name = text(pod, &["spec", "nodeName"]);
    if name.is_empty() {
        return Ok(());
    }
    let refused = |why: &str| ApiError::forbidden("", "pods", meta(pod, "name"), why);
    let node = state
        .store
        .get("nodes", &Key::new("", name))
        .ok_or_else(|| refused(&format!("node \"{name}\" not found")))?;
    let mut too_much = Vec::new();
    for resource in ["cpu", "memory"] {
        let wanted = requested(pod, resource);
        let allocatable = amount(&node["status"]["allocatable"][resource], resource);
        if wanted > allocatable {
            too_much.push(format!("{resource}, requested: {wanted}, allocatable: {allocatable}"));
        }
    }
    if too_much.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", too_much.join("; "));
    Err(refused(&why).with_cause("NodeCapacity", ""))
}

/// Thousandths of a core, or bytes.
fn amount(value: &Value, resource: &str) -> i64 {
    let parsed = value.as_str().and_then(|text| Quantity::parse(text).ok());
    parsed.map_or(0, |quantity| {
        if resource == "cpu" { quantity.milli_value_saturating() } else { quantity.value_saturating() }
    })
}

/// What a pod asks of its node: the main containers and sidecars together, or the largest init container.
fn requested(pod: &Value, resource: &str) -> i64 {
    let request = |container: &Value| amount(&container["resources"]["requests"][resource], resource);
    let mut sidecars = 0_i64;
    let mut largest_init = 0_i64;
    for container in items(&pod["spec"]["initContainers"]) {
        if text(container, &["restartPolicy"]) == "Always" {
            sidecars = sidecars.saturating_add(request(container));
        } else {
            largest_init = largest_init.max(sidecars.saturating_add(request(container)));
        }
    }
    let main = items(&pod["spec"]["containers"]).iter().map(request).fold(sidecars, i64::saturating_add);
    main.max(largest_init)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: Value) -> Value {
        json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a", "resources": resources}]},
            "status": {"containerStatuses": [{"name": "a", "state": {"running": {}}, "resources": {}}]},
        })
    }

    #[test]
    fn rules_of_a_resize() {
        let old = pod(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}));
        let table = [
            (json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}), None),
            (
                json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "1Gi", "cpu": "3"}}),
                None,
            ),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}),
                Some("resource requests cannot be removed"),
            ),
            (json!({"requests": {"cpu": "1", "memory": "1Gi"}}), Some("resource limits cannot be removed")),
            (
                json!({"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi", "cpu": "1"}}),
                Some("QOS Class may not change"),
            ),
            (
                json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}, "limits": {"memory": "2Gi"}}),
                Some("only cpu and memory"),
            ),
        ];
        for (resources, expected) in table {
            let new = restrict(&old, &pod(resources.clone()));
            let found: Vec<String> = causes(&old, &new).into_iter().map(|cause| cause.message).collect();
            match expected {
                None => assert!(found.is_empty(), "{resources}: {found:?}"),
                Some(part) => assert!(found.iter().any(|text| text.contains(part)), "{resources}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_running_container_without_reported_resources_cannot_be_resized() {
        let mut old = pod(json!({"requests": {"cpu": "1"}}));
        let new = restrict(&old, &pod(json!({"requests": {"cpu": "2"}})));
        assert!(causes(&old, &new).is_empty());
        map_mut(&mut old["status"]["containerStatuses"][0]).remove("resources");
        assert!(causes(&old, &new)[0].message.contains("without support for resize"));
    }
}
