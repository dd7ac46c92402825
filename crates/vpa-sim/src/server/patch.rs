//! The patch formats: JSON patch, merge patch, strategic merge patch, and apply in its basic form.

use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};
use super::value::items;

/// Most operations in one JSON patch, as in the API server.
const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// Format of a patch, from its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Format {
    pub(crate) fn of(content_type: &str) -> ApiResult<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => {
                let mut error = ApiError::unsupported_media("415: Unsupported Media Type");
                error.details = Some(serde_json::json!({}));
                Err(error)
            }
        }
    }
}

/// Reads the body of a patch; apply bodies may be YAML.
pub(crate) fn decode(format: Format, body: &[u8]) -> ApiResult<Value> {
    let parsed = if format == Format::Apply {
        serde_saphyr::from_slice(body).map_err(|error| error.to_string())
    } else {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    };
    parsed.map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
}

/// Applies a patch to a copy of `current`.
///
/// Apply keeps no field ownership: it merges like a strategic patch, so fields that an applier no longer names stay.
pub(crate) fn apply(format: Format, current: &Value, patch: &Value) -> ApiResult<Value> {
    let mut patched = current.clone();
    match format {
        Format::Json => json_patch(&mut patched, patch)?,
        Format::Merge => json_patch::merge(&mut patched, patch),
        Format::Strategic | Format::Apply => strategic(&mut patched, patch)?,
    }
    if patched.is_object() { Ok(patched) } else { Err(ApiError::bad_request("the patch leaves no object")) }
}

fn json_patch(object: &mut Value, patch: &Value) -> ApiResult<()> {
    if items(patch).len() > JSON_PATCH_OPERATIONS_MAX {
        let message =
            format!("The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}");
        return Err(ApiError::new(413, "RequestEntityTooLarge", message));
    }
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    json_patch::patch(object, &operations).map_err(|error| {
        tracing::debug!(%error, "JSON patch refused");
        let message = "the server rejected our request due to an error in our request";
        let mut refused = ApiError::new(422, "Invalid", message);
        refused.details = Some(serde_json::json!({}));
        refused
    })
}

/// Key that identifies an element of a list which strategic merge patches merge, by the list's field name.
fn merge_key(field: &str) -> Option<&'static [&'static str]> {
    Some(match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "secrets"
        | "webhooks" => &["name"],
        "conditions" | "addresses" => &["type"],
        "ports" => &["containerPort", "port"],
        "volumeMounts" => &["mountPath"],
        "ownerReferences" => &["uid"],
        "hostAliases" | "podIPs" => &["ip"],
        "topologySpreadConstraints" => &["topologyKey"],
        _ => return None,
    })
}

fn strategic(target: &mut Value, patch: &Value) -> ApiResult<()> {
    let (Value::Object(into), Value::Object(from)) = (&mut *target, patch) else {
        *target = patch.clone();
        return Ok(());
    };
    match from.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *into = without_directives(from);
            return Ok(());
        }
        Some("delete") => {
            into.clear();
            return Ok(());
        }
        _ => {}
    }
    for (key, value) in from {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let Some(Value::Array(list)) = into.get_mut(field) {
                list.retain(|item| !items(value).contains(item));
            }
        } else if key.starts_with('$') {
            continue;
        } else if value.is_null() {
            into.remove(key);
        } else if let (Some(keys), Value::Array(changes)) = (merge_key(key), value) {
            let slot = into.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()));
            merge_list(slot, changes, keys, key)?;
        } else if key == "finalizers" && value.is_array() {
            let slot = into.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()));
            add_missing(slot, items(value));
        } else {
            strategic(into.entry(key.clone()).or_insert(Value::Null), value)?;
            prune_nulls(into.get_mut(key));
        }
    }
    Ok(())
}

/// A new branch of the patch may itself carry nulls, which mean "absent".
fn prune_nulls(value: Option<&mut Value>) {
    if let Some(value) = value {
        super::value::drop_nulls(value);
    }
}

fn without_directives(from: &Map<String, Value>) -> Map<String, Value> {
    from.iter()
        .filter(|(key, _)| !key.starts_with('$'))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn add_missing(slot: &mut Value, additions: &[Value]) {
    if let Value::Array(list) = slot {
        for addition in
            additions.iter().filter(|addition| !list.contains(addition)).cloned().collect::<Vec<_>>()
        {
            list.push(addition);
        }
    }
}

fn merge_list(slot: &mut Value, changes: &[Value], keys: &[&str], field: &str) -> ApiResult<()> {
    let Value::Array(list) = slot else {
        *slot = Value::Array(changes.to_vec());
        return Ok(());
    };
    if changes
        .iter()
        .any(|change| change["$patch"] == "replace" && change.as_object().is_some_and(|c| c.len() == 1))
    {
        *list = changes.iter().filter(|change| change["$patch"].is_null()).cloned().collect();
        return Ok(());
    }
    let server = list.clone();
    let mut patched = Vec::new();
    for change in changes {
        let Some(key) = keys.iter().copied().find(|key| !change[*key].is_null()) else {
            let message = format!(
                "The request is invalid: patch: Invalid value: map: {{}} does not contain declared merge key: {} (in {field})",
                keys[0]
            );
            return Err(ApiError::new(422, "Invalid", message));
        };
        let found =
            list.iter().position(|item| item[key] == change[key]).map(|position| list.remove(position));
        match (found, change["$patch"].as_str()) {
            (_, Some("delete")) => {}
            (Some(mut item), _) => {
                strategic(&mut item, change)?;
                patched.push((key, item));
            }
            (None, _) => patched.push((key, change.clone())),
        }
    }
    *list = in_server_order(std::mem::take(list), patched, &server);
    Ok(())
}

/// Merges what the patch named with what it did not: new elements stand before the untouched ones that remain, known
/// elements keep their place. That is the order the API server arrives at.
fn in_server_order(untouched: Vec<Value>, patched: Vec<(&str, Value)>, server: &[Value]) -> Vec<Value> {
    let mut out = Vec::with_capacity(untouched.len() + patched.len());
    let mut left = untouched.into_iter().peekable();
    for (key, item) in patched {
        let place = server.iter().position(|old| old[key] == item[key]);
        while let Some(next) = left.peek() {
            let next_place = server.iter().position(|old| old[key] == next[key]);
            let first = matches!((next_place, place), (Some(next), Some(place)) if next < place);
            if !first {
                break;
            }
            out.extend(left.next());
        }
        out.push(item);
    }
    out.extend(left);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_format_changes_what_it_names() {
        let pod = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [
            {"name": "x", "resources": {"requests": {"cpu": "1"}}}, {"name": "y"}], "args": ["one", "two"]}});
        let table = [
            (
                Format::Merge,
                json!({"metadata": {"labels": {"a": null}}}),
                "/metadata/labels",
                json!({"b": "2"}),
            ),
            (
                Format::Json,
                json!([{"op": "replace", "path": "/metadata/labels/a", "value": "9"}]),
                "/metadata/labels",
                json!({"a": "9", "b": "2"}),
            ),
            (
                Format::Strategic,
                json!({"spec": {"containers": [{"name": "x", "resources": {"requests": {"memory": "1Gi"}}}]}}),
                "/spec/containers",
                json!([{"name": "x", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}, {"name": "y"}]),
            ),
            (
                Format::Strategic,
                json!({"spec": {"containers": [{"name": "y", "$patch": "delete"}, {"name": "z"}]}}),
                "/spec/containers",
                json!([{"name": "z"}, {"name": "x", "resources": {"requests": {"cpu": "1"}}}]),
            ),
            (Format::Strategic, json!({"spec": {"args": ["three"]}}), "/spec/args", json!(["three"])),
        ];
        for (format, patch, path, expected) in table {
            let patched = apply(format, &pod, &patch).unwrap();
            assert_eq!(patched.pointer(path), Some(&expected), "{format:?} {patch}");
        }
        let missing = apply(Format::Json, &pod, &json!([{"op": "replace", "path": "/nope/x", "value": 1}]));
        assert_eq!(missing.unwrap_err().code, 422);
    }
}
