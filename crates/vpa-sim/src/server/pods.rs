//! Rules of pods: quality of service, validation, what an update may change, binding.

use serde_json::{Value, json};
use vpa_api::Quantity;

use super::error::{ApiError, ApiResult, Cause};
use super::state::{Call, State};
use super::value::{items, map_mut, meta, now_text, text};
use super::write::{Part, update};

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

fn all_containers(pod: &Value) -> impl Iterator<Item = &Value> {
    items(&pod["spec"]["initContainers"]).iter().chain(items(&pod["spec"]["containers"]))
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from cpu and memory of all containers.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let positive = |value: &Value| quantity(value).filter(|quantity| quantity.signum() > 0);
    let (mut any, mut guaranteed) = (false, true);
    let pod_level = &pod["spec"]["resources"];
    let whole: Vec<&Value> = if pod_level.is_object() {
        vec![pod_level]
    } else {
        all_containers(pod).map(|container| &container["resources"]).collect()
    };
    for resources in whole {
        for name in ["cpu", "memory"] {
            let (request, limit) =
                (positive(&resources["requests"][name]), positive(&resources["limits"][name]));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The status of a pod that nobody has looked at yet.
pub(crate) fn reset_status(pod: &mut Value) {
    let class = qos_class(pod);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
}

/// Everything that is wrong with a pod, as far as the suite can cause it.
pub(crate) fn validate(pod: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if items(&pod["spec"]["containers"]).is_empty() {
        causes.push(Cause::required("spec.containers", ""));
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in items(&pod["spec"][list]).iter().enumerate() {
            let path = format!("spec.{list}[{index}]");
            if text(container, &["name"]).is_empty() {
                causes.push(Cause::required(format!("{path}.name"), ""));
            }
            validate_resources(&container["resources"], &format!("{path}.resources"), &mut causes);
        }
    }
    causes
}

fn validate_resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    for list in ["limits", "requests"] {
        for (name, value) in resources[list].as_object().into_iter().flatten() {
            let field = format!("{path}.{list}[{name}]");
            match quantity(value) {
                None => causes.push(Cause::invalid(field, value, "must be a quantity")),
                Some(found) if found.signum() < 0 => {
                    causes.push(Cause::invalid(field, value, "must be greater than or equal to 0"));
                }
                Some(_) => {}
            }
        }
    }
    for (name, value) in resources["requests"].as_object().into_iter().flatten() {
        let (request, limit) = (quantity(value), quantity(&resources["limits"][name]));
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            causes.push(Cause::invalid(format!("{path}.requests"), value, &detail));
        }
    }
}

/// A running pod's specification is fixed, apart from images and deadlines; what an update changes beyond them.
pub(crate) fn update_causes(old: &Value, new: &Value) -> Vec<Cause> {
    let count = |pod: &Value| items(&pod["spec"]["containers"]).len();
    if count(old) != count(new) {
        return vec![Cause::forbidden("spec.containers", "pod updates may not add or remove containers")];
    }
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        let map = map_mut(&mut spec);
        for key in
            ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"]
        {
            map.remove(key);
        }
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                map_mut(container).remove("image");
            }
        }
        spec
    };
    if fixed(old) == fixed(new) {
        return Vec::new();
    }
    let detail = "pod updates may not change fields other than `spec.containers[*].image`,\
                  `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                  existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                  previously negative)";
    vec![Cause::forbidden("spec", detail)]
}

/// Assigns a pod to a node.
pub(crate) async fn bind(state: &State, call: &Call) -> ApiResult<Value> {
    let binding = call.json()?;
    let node = text(&binding, &["target", "name"]).to_owned();
    if node.is_empty() {
        let cause = Cause::required("target.name", "");
        return Err(ApiError::invalid("", "Binding", &call.path.name, &[cause]));
    }
    update_raw(state, call, |pod| {
        let conflict = |why: String| ApiError::conflict("", "pods/binding", &call.path.name, &why);
        if !meta(pod, "deletionTimestamp").is_empty() {
            return Err(conflict(format!(
                "pod {} is being deleted, cannot be assigned to a host",
                call.path.name
            )));
        }
        let found = text(pod, &["spec", "nodeName"]);
        if !found.is_empty() {
            return Err(conflict(format!("pod {} is already assigned to node \"{found}\"", call.path.name)));
        }
        let mut pod = pod.clone();
        pod["spec"]["nodeName"] = json!(node);
        set_condition(&mut pod, "PodScheduled", "True", "", "");
        Ok(pod)
    })?;
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

/// Changes a pod past the rules of its parts; tried again when someone else was faster.
pub(crate) fn update_raw(
    state: &State,
    call: &Call,
    change: impl Fn(&Value) -> ApiResult<Value>,
) -> ApiResult<std::sync::Arc<Value>> {
    for _ in 0..8 {
        let current = state.store.get("pods", &call.key()).ok_or_else(|| call.not_found())?;
        let changed = change(&current)?;
        if call.query.dry_run()? {
            return Ok(std::sync::Arc::new(changed));
        }
        if let Ok(stored) = state.store.replace("pods", &current, changed) {
            return Ok(stored);
        }
    }
    Err(call.modified())
}

/// Sets a pod condition.
pub(crate) fn set_condition(pod: &mut Value, name: &str, status: &str, reason: &str, message: &str) {
    let mut condition = json!({"type": name, "status": status, "lastTransitionTime": now_text()});
    for (key, value) in [("reason", reason), ("message", message)] {
        if !value.is_empty() {
            condition[key] = json!(value);
        }
    }
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|found| found["type"] != name);
        list.push(condition);
    }
}

/// Reads or changes the scale of an object.
pub(crate) async fn scale(state: &State, call: &Call, change: Option<Value>) -> ApiResult<Value> {
    let version = call.version()?;
    let paths = version.scale.clone().ok_or_else(ApiError::unknown_path)?;
    let keys = |path: &[String]| -> Vec<String> { path.to_vec() };
    let spec_path = keys(&paths.spec_replicas);
    let spec: Vec<&str> = spec_path.iter().map(String::as_str).collect();
    let object = match change {
        None => state.store.get(&call.kind.table(), &call.key()).ok_or_else(|| call.not_found())?,
        Some(scale) => {
            let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
            if replicas < 0 {
                let cause =
                    Cause::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0");
                return Err(ApiError::invalid("autoscaling", "Scale", &call.path.name, &[cause]));
            }
            update(state, call, Part::Main, |current| {
                let mut object = current.clone();
                *super::value::at_mut(&mut object, &spec) = json!(replicas);
                match meta(&scale, "resourceVersion") {
                    "" => {
                        map_mut(&mut object["metadata"]).remove("resourceVersion");
                    }
                    wanted => object["metadata"]["resourceVersion"] = json!(wanted),
                }
                Ok(object)
            })
            .await?
        }
    };
    Ok(scale_of(&object, &paths))
}

fn scale_of(object: &Value, paths: &super::kinds::ScalePaths) -> Value {
    let number = |path: &[String]| {
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        super::value::at(object, &steps).as_i64().unwrap_or(0)
    };
    let selector = match &paths.selector {
        None => super::selector::selector_text(&object["spec"]["selector"]),
        Some(path) => {
            let steps: Vec<&str> = path.iter().map(String::as_str).collect();
            text(object, &steps).to_owned()
        }
    };
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    let kept = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata: serde_json::Map<String, Value> =
        kept.iter().map(|key| ((*key).to_owned(), object["metadata"][*key].clone())).collect();
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": number(&paths.spec_replicas)}, "status": status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service_follows_cpu_and_memory() {
        let full = json!({"cpu": "1", "memory": "1Gi"});
        let table = [
            (json!([{"resources": {}}]), "BestEffort"),
            (json!([{"resources": {"requests": full, "limits": full}}]), "Guaranteed"),
            (
                json!([{"resources": {"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": full}}]),
                "Guaranteed",
            ),
            (json!([{"resources": {"requests": {"cpu": "1"}}}]), "Burstable"),
            (json!([{"resources": {"requests": full, "limits": full}}, {"resources": {}}]), "Burstable"),
        ];
        for (containers, expected) in table {
            let pod = json!({"spec": {"containers": containers}});
            assert_eq!(qos_class(&pod), expected, "{pod}");
        }
    }

    #[test]
    fn requests_above_limits_are_refused() {
        let pod = json!({"spec": {"containers": [{"name": "a", "resources": {
            "requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}}]}});
        assert_eq!(validate(&pod)[0].field, "spec.containers[0].resources.requests");
    }
}
