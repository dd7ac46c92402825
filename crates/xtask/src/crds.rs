//! The custom resource definitions of the chart, from the types in `vpa-api`.

use kube::CustomResourceExt;
use serde_json::{Value, json};
use vpa_api::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};

use crate::generated::{Generated, TaskError, apply};
use crate::schema;

/// Kubernetes demands this annotation of a group below `k8s.io`; the value is the review that approved the API.
const APPROVED: (&str, &str) =
    ("api-approved.kubernetes.io", "https://github.com/kubernetes/kubernetes/pull/63797");

/// Fields of the VPA that v1beta2 did not have, as JSON pointers into the properties of its schema; `[]` steps into the
/// items of a list.
const NOT_IN_V1BETA2: [&str; 14] = [
    "spec.recommenders",
    "spec.startupBoost",
    "spec.updatePolicy.minReplicas",
    "spec.updatePolicy.evictionRequirements",
    "spec.updatePolicy.evictAfterOOMSeconds",
    "spec.resourcePolicy.containerPolicies.[].controlledResources",
    "spec.resourcePolicy.containerPolicies.[].controlledValues",
    "spec.resourcePolicy.containerPolicies.[].oomBumpUpRatio",
    "spec.resourcePolicy.containerPolicies.[].oomMinBumpUp",
    "spec.resourcePolicy.containerPolicies.[].memoryAggregationIntervalSeconds",
    "spec.resourcePolicy.containerPolicies.[].memoryAggregationIntervalCount",
    "spec.resourcePolicy.containerPolicies.[].startupBoost",
    "status.observedGeneration",
    "status.conditions.[].observedGeneration",
];

/// Update modes of v1beta2.
const V1BETA2_MODES: [&str; 4] = ["Off", "Initial", "Recreate", "Auto"];

/// Writes the files, or compares them with what is on disk.
///
/// # Errors
/// A file cannot be written, or is stale.
pub fn run(check: bool) -> Result<(), TaskError> {
    apply(&files()?, check, "crds")
}

/// The files of the chart's `crds` folder.
///
/// # Errors
/// A definition cannot be written as YAML.
pub fn files() -> Result<Vec<Generated>, TaskError> {
    let definitions =
        [("verticalpodautoscalers", vpa()?), ("verticalpodautoscalercheckpoints", checkpoint()?)];
    let files = definitions.into_iter().map(|(plural, definition)| {
        let yaml = serde_saphyr::to_string(&definition)
            .map_err(|error| TaskError::Text { what: plural, reason: error.to_string() })?;
        let content = format!("# Generated from crates/vpa-api by `cargo xtask crds`; do not edit.\n{yaml}");
        Ok(Generated { path: format!("charts/vpa/crds/{plural}.yaml"), content })
    });
    files.collect()
}

/// The definition of `VerticalPodAutoscaler`.
///
/// # Errors
/// The derived definition cannot be written as JSON.
pub fn vpa() -> Result<Value, TaskError> {
    let v1 = schema::of::<VerticalPodAutoscaler>();
    let mut v1beta2 = v1.clone();
    for path in NOT_IN_V1BETA2 {
        remove(&mut v1beta2, path);
    }
    if let Some(mode) = field(&mut v1beta2, "spec.updatePolicy.updateMode") {
        mode["enum"] = json!(V1BETA2_MODES);
    }
    let mut definition = definition::<VerticalPodAutoscaler>(v1)?;
    let old = json!({
        "name": "v1beta2",
        "served": false,
        "storage": false,
        "deprecated": true,
        "deprecationWarning": "autoscaling.k8s.io/v1beta2 is no longer served; use autoscaling.k8s.io/v1",
        "subresources": { "status": {} },
        "schema": { "openAPIV3Schema": v1beta2 },
    });
    push_version(&mut definition, old);
    Ok(definition)
}

/// The definition of `VerticalPodAutoscalerCheckpoint`. It has no status subresource, so that one write stores name and
/// content together.
///
/// # Errors
/// The derived definition cannot be written as JSON.
pub fn checkpoint() -> Result<Value, TaskError> {
    let mut v1 = schema::of::<VerticalPodAutoscalerCheckpoint>();
    if let Some(map) = v1.as_object_mut() {
        map.remove("required");
    }
    let mut definition = definition::<VerticalPodAutoscalerCheckpoint>(v1.clone())?;
    if let Some(version) = definition["spec"]["versions"][0].as_object_mut() {
        version.remove("subresources");
    }
    let old = json!({
        "name": "v1beta2",
        "served": false,
        "storage": false,
        "schema": { "openAPIV3Schema": v1 },
    });
    push_version(&mut definition, old);
    Ok(definition)
}

/// What the derive knows (names, scope, columns, subresources) with a schema of our own.
fn definition<K: CustomResourceExt>(v1: Value) -> Result<Value, TaskError> {
    let crd = K::crd();
    let mut definition = serde_json::to_value(&crd)
        .map_err(|error| TaskError::Text { what: "a derived definition", reason: error.to_string() })?;
    definition["metadata"]["annotations"] = json!({ APPROVED.0: APPROVED.1 });
    let names = &mut definition["spec"]["names"];
    names["listKind"] = json!(format!("{}List", names["kind"].as_str().unwrap_or_default()));
    if let Some(names) = names.as_object_mut() {
        names.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    }
    let version = &mut definition["spec"]["versions"][0];
    version["schema"] = json!({ "openAPIV3Schema": v1 });
    if let Some(version) = version.as_object_mut() {
        version.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    }
    Ok(definition)
}

fn push_version(definition: &mut Value, version: Value) {
    if let Some(versions) = definition["spec"]["versions"].as_array_mut() {
        versions.push(version);
    }
}

/// The schema of a field named by its path.
fn field<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(schema, |schema, step| match step {
        "[]" => schema.get_mut("items"),
        name => schema.get_mut("properties")?.get_mut(name),
    })
}

fn remove(schema: &mut Value, path: &str) {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    if let Some(parent) = field(schema, parent)
        && let Some(properties) = parent.get_mut("properties").and_then(Value::as_object_mut)
    {
        properties.remove(name);
    }
}
