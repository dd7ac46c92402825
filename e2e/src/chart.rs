//! The Helm chart: rendered by Helm, sent to the API server.

use std::path::{Path, PathBuf};
use std::process::Command;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};

use crate::error::{Doing, Error, OnFile, Result};
use crate::tools::{Tool, Tools};

/// Field manager of what the harness applies.
const FIELD_MANAGER: &str = "vpa-e2e";

/// Folder of the chart.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/vpa")
}

/// Renders the chart as `helm install RELEASE --namespace NAMESPACE` would, with `values` as `--set` takes them.
/// The CRDs are not among the result ([`crds`]).
///
/// # Errors
/// If Helm refuses the chart or its output is not YAML.
pub fn render(tools: &Tools, release: &str, namespace: &str, values: &[&str]) -> Result<Vec<DynamicObject>> {
    let mut command = Command::new(tools.path(Tool::Helm));
    command.args(["template", release]).arg(folder()).args(["--namespace", namespace]);
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().map_err(|source| Error::Spawn { program: "helm".to_owned(), source })?;
    if !output.status.success() {
        return Err(Error::Chart(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Runs `helm lint --strict` on the chart.
///
/// # Errors
/// If Helm finds fault with it.
pub fn lint(tools: &Tools) -> Result<()> {
    let output = Command::new(tools.path(Tool::Helm))
        .args(["lint", "--strict"])
        .arg(folder())
        .output()
        .map_err(|source| Error::Spawn { program: "helm".to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Chart(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

/// The CRDs that the chart brings.
///
/// # Errors
/// If there is none, or one is not YAML.
pub fn crds() -> Result<Vec<DynamicObject>> {
    let dir = folder().join("crds");
    let entries = std::fs::read_dir(&dir).on_file(&dir, "read")?;
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    let mut crds = Vec::new();
    for path in paths {
        crds.extend(parse(&std::fs::read_to_string(&path).on_file(&path, "read")?)?);
    }
    if crds.is_empty() {
        return Err(Error::Chart(format!("{} holds no CRD", dir.display())));
    }
    Ok(crds)
}

fn parse(text: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(text).map_err(|error| Error::Chart(error.to_string()))?;
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|document| serde_json::from_value(document).map_err(|error| Error::Chart(error.to_string())))
        .collect()
}

/// Kind and name of an object, for messages.
pub fn title(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    let name = object.metadata.name.as_deref().unwrap_or("(unnamed)");
    match &object.metadata.namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// API of an object's kind. An object without a namespace is one of the cluster: the chart names it everywhere.
///
/// # Errors
/// If the object has no kind.
pub fn api(client: &kube::Client, object: &DynamicObject) -> Result<Api<DynamicObject>> {
    let types = object.types.as_ref().ok_or_else(|| Error::Chart("an object without a kind".to_owned()))?;
    let kind = GroupVersionKind::try_from(types).map_err(|error| Error::Chart(error.to_string()))?;
    let resource = ApiResource::from_gvk(&kind);
    Ok(match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

/// Sends an object by server-side apply with strict validation: an unknown field is an error.
///
/// # Errors
/// The API server's refusal, with the object's kind and name.
pub async fn apply(client: &kube::Client, object: &DynamicObject, dry_run: bool) -> Result<()> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut params = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
    params.dry_run = dry_run;
    let verb = if dry_run { "apply (dry run)" } else { "apply" };
    api(client, object)?
        .patch(&name, &params, &Patch::Apply(object))
        .await
        .doing(format!("{verb} {}", title(object)))
        .map(drop)
}

/// Creates an object; one that is there already is left as it is.
///
/// # Errors
/// The API server's refusal, with the object's kind and name.
pub async fn create(client: &kube::Client, object: &DynamicObject) -> Result<()> {
    match api(client, object)?.create(&Default::default(), object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error).doing(format!("create {}", title(object))),
    }
}
