//! CustomResourceDefinitions become served kinds.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::error::Cause;
use super::kinds::{Kind, ScalePaths, Version};
use super::schema::Schema;
use super::value::{items, now_text, text};

/// Reads a definition; a cause where it cannot be served.
pub(crate) fn kind_of(definition: &Value) -> Result<Kind, Cause> {
    let spec = &definition["spec"];
    let required = |path: &[&str]| match text(spec, path) {
        "" => Err(Cause::required(format!("spec.{}", path.join(".")), "")),
        found => Ok(found.to_owned()),
    };
    let (group, plural, kind) =
        (required(&["group"])?, required(&["names", "plural"])?, required(&["names", "kind"])?);
    let expected = format!("{plural}.{group}");
    if text(definition, &["metadata", "name"]) != expected {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        return Err(Cause::invalid("metadata.name", &definition["metadata"]["name"], detail));
    }
    let mut versions = BTreeMap::new();
    let mut storage = None;
    for version in items(&spec["versions"]) {
        let name = text(version, &["name"]).to_owned();
        if version["storage"] == true {
            storage = Some(name.clone());
        }
        if version["served"] == true {
            versions.insert(name, version_of(version));
        }
    }
    let storage =
        storage.ok_or_else(|| Cause::required("spec.versions", "one version must be the storage version"))?;
    let texts = |path: &str| {
        items(&spec["names"][path]).iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let or = |path: &[&str], other: String| match text(spec, path) {
        "" => other,
        found => found.to_owned(),
    };
    Ok(Kind {
        list_kind: or(&["names", "listKind"], format!("{kind}List")),
        singular: or(&["names", "singular"], kind.to_lowercase()),
        short_names: texts("shortNames"),
        categories: texts("categories"),
        namespaced: text(spec, &["scope"]) != "Cluster",
        group,
        kind,
        plural,
        versions,
        storage,
        extra: &[],
        custom: true,
    })
}

fn version_of(version: &Value) -> Version {
    let schema = &version["schema"]["openAPIV3Schema"];
    let subresources = &version["subresources"];
    let keys = |path: &str| -> Vec<String> {
        path.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect()
    };
    let scale = &subresources["scale"];
    let scale = scale.is_object().then(|| ScalePaths {
        spec_replicas: keys(text(scale, &["specReplicasPath"])),
        status_replicas: keys(text(scale, &["statusReplicasPath"])),
        selector: Some(keys(text(scale, &["labelSelectorPath"]))),
    });
    Version {
        schema: schema.is_object().then(|| Arc::new(Schema::parse(schema))),
        status: subresources["status"].is_object(),
        scale,
    }
}

/// Fills in what the API server and its controllers add to a definition: names, conditions, stored versions.
pub(crate) fn accept(definition: &mut Value, kind: &Kind) {
    let now = now_text();
    let condition = |name: &str, reason: &str, message: &str| json!({"type": name, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now});
    let mut names = json!({
        "plural": kind.plural, "singular": kind.singular, "kind": kind.kind, "listKind": kind.list_kind,
    });
    for (key, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !list.is_empty() {
            names[key] = json!(list);
        }
    }
    definition["spec"]["names"] = names.clone();
    super::value::set_default(definition, &["spec", "conversion"], json!({"strategy": "None"}));
    if definition["status"]["conditions"].is_array() {
        return;
    }
    definition["status"] = json!({
        "acceptedNames": names,
        "storedVersions": [kind.storage],
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
}
