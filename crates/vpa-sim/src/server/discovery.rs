//! What clients ask first: versions, groups, resources.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kinds::{Kind, Registry};

/// Version that the server says it is.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": concat!("v1.36.0-vpa-sim-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "",
        "platform": "",
    })
}

/// Groups that are answered without a table of objects, with their one version.
const VIRTUAL_GROUPS: &[(&str, &str)] = &[
    ("authentication.k8s.io", "v1"),
    ("authorization.k8s.io", "v1"),
    ("external.metrics.k8s.io", "v1beta1"),
    ("metrics.k8s.io", "v1beta1"),
];

fn groups(registry: &Registry) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (group, version) in VIRTUAL_GROUPS {
        groups.entry((*group).to_owned()).or_default().push((*version).to_owned());
    }
    for kind in registry.all().filter(|kind| !kind.group.is_empty()) {
        let versions = groups.entry(kind.group.clone()).or_default();
        for version in kind.versions.keys() {
            // The stored version comes first: clients prefer it.
            match versions.contains(version) {
                true => {}
                false if *version == kind.storage => versions.insert(0, version.clone()),
                false => versions.push(version.clone()),
            }
        }
    }
    groups
}

fn group_object(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

/// Answers a discovery path; `None` where it is none or names nothing.
pub(crate) fn answer(registry: &Registry, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["version"] => Some(version()),
        ["api"] => Some(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}],
        })),
        ["apis"] => {
            let groups: Vec<Value> =
                groups(registry).iter().map(|(name, versions)| group_object(name, versions)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", group] => {
            let groups = groups(registry);
            let mut object = group_object(group, groups.get(*group)?);
            object["kind"] = json!("APIGroup");
            object["apiVersion"] = json!("v1");
            Some(object)
        }
        ["api", "v1"] => resources(registry, "", "v1"),
        ["apis", group, version] => resources(registry, group, version),
        _ => None,
    }
}

fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let served = registry.all().filter(|kind| kind.group == group && kind.versions.contains_key(version));
    let mut list: Vec<Value> = served.flat_map(|kind| kind_resources(kind, version)).collect();
    list.extend(virtual_resources(group));
    if list.is_empty() && !groups(registry).get(group)?.iter().any(|served| served == version) {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list}),
    )
}

fn kind_resources(kind: &Kind, version: &str) -> Vec<Value> {
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let mut main = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": verbs, "storageVersionHash": "",
    });
    for (key, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !names.is_empty() {
            main[key] = json!(names);
        }
    }
    let mut list = vec![main];
    let mut sub = |name: &str, sub_kind: &str, group: &str, verbs: &[&str]| {
        let mut entry = json!({
            "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
            "kind": sub_kind, "verbs": verbs,
        });
        if !group.is_empty() {
            entry["group"] = json!(group);
            entry["version"] = json!("v1");
        }
        list.push(entry);
    };
    let Some(version) = kind.versions.get(version) else { return list };
    let change = ["get", "patch", "update"];
    if version.status {
        sub("status", &kind.kind, "", &change);
    }
    if version.scale.is_some() {
        sub("scale", "Scale", "autoscaling", &change);
    }
    for name in kind.extra {
        match *name {
            "eviction" => sub(name, "Eviction", "policy", &["create"]),
            "binding" => sub(name, "Binding", "", &["create"]),
            "token" => sub(name, "TokenRequest", "authentication.k8s.io", &["create"]),
            _ => sub(name, &kind.kind, "", &change),
        }
    }
    list
}

fn virtual_resources(group: &str) -> Vec<Value> {
    let entry = |name: &str, kind: &str, namespaced: bool, verbs: &[&str]| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs});
    match group {
        "metrics.k8s.io" => vec![entry("pods", "PodMetrics", true, &["get", "list"])],
        "authorization.k8s.io" => vec![
            entry("selfsubjectaccessreviews", "SelfSubjectAccessReview", false, &["create"]),
            entry("subjectaccessreviews", "SubjectAccessReview", false, &["create"]),
        ],
        "authentication.k8s.io" => {
            vec![entry("selfsubjectreviews", "SelfSubjectReview", false, &["create"])]
        }
        _ => Vec::new(),
    }
}
