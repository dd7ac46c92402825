//! Label and field selectors of list and watch.

use serde_json::Value;

use super::error::{ApiError, ApiResult};
use super::value::at;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// Label and field selector of a list or watch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    /// Path, wanted value, and whether it must differ.
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Reads both selectors; `fields` is judged by what `group`'s `resource` offers.
    pub(crate) fn parse(group: &str, resource: &str, labels: &str, fields: &str) -> ApiResult<Self> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(group, resource, fields)? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = at(object, &["metadata", "labels"]);
        self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                labels[key.as_str()].as_str().is_some_and(|found| values.iter().any(|value| value == found))
            }
            Requirement::NotIn(key, values) => {
                !labels[key.as_str()].as_str().is_some_and(|found| values.iter().any(|value| value == found))
            }
            Requirement::Exists(key) => labels.get(key).is_some(),
            Requirement::Absent(key) => labels.get(key).is_none(),
        }) && self
            .fields
            .iter()
            .all(|(path, wanted, differs)| (field_text(object, path) == *wanted) != *differs)
    }
}

/// Text of a field; what is missing is empty, as it is for the API server's zero values.
fn field_text(object: &Value, path: &str) -> String {
    // `source` of an event is its component.
    let path = if path == "source" { "source.component" } else { path };
    let steps: Vec<&str> = path.split('.').collect();
    match at(object, &steps) {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        _ if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".to_owned(),
        _ => String::new(),
    }
}

/// Whether the API server offers a field selector for that path.
fn field_offered(group: &str, resource: &str, path: &str) -> bool {
    if matches!(path, "metadata.name" | "metadata.namespace") {
        return true;
    }
    match (group, resource) {
        ("", "pods") => matches!(
            path,
            "spec.nodeName"
                | "spec.restartPolicy"
                | "spec.schedulerName"
                | "spec.serviceAccountName"
                | "spec.hostNetwork"
                | "status.phase"
                | "status.podIP"
                | "status.nominatedNodeName"
        ),
        ("" | "events.k8s.io", "events") => {
            path.starts_with("involvedObject.")
                || path.starts_with("regarding.")
                || matches!(path, "reason" | "reportingComponent" | "source" | "type")
        }
        ("", "nodes") => path == "spec.unschedulable",
        ("", "namespaces") => path == "status.phase",
        ("", "secrets") => path == "type",
        _ => false,
    }
}

fn parse_fields(group: &str, resource: &str, text: &str) -> ApiResult<Vec<(String, String, bool)>> {
    let mut found = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (path, value, differs) = if let Some((path, value)) = part.split_once("!=") {
            (path, value, true)
        } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (path, value, false)
        } else {
            return Err(ApiError::bad_request(format!("invalid field selector {part:?}: no = or != in it")));
        };
        if !field_offered(group, resource, path) {
            let own = ["pods", "nodes", "events", "namespaces", "secrets", "jobs", "replicasets"];
            let message = if own.contains(&resource) {
                format!("field label not supported: {path}")
            } else {
                format!(
                    "\"{path}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )
            };
            return Err(ApiError::bad_request(message));
        }
        found.push((path.to_owned(), value.to_owned(), differs));
    }
    Ok(found)
}

/// Splits at commas that are not inside parentheses.
fn split_requirements(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_u32, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn parse_labels(text: &str) -> ApiResult<Vec<Requirement>> {
    split_requirements(text).into_iter().map(parse_requirement).collect()
}

fn parse_requirement(part: &str) -> ApiResult<Requirement> {
    let owned = |text: &str| text.trim().to_owned();
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(owned(key), vec![owned(value)]));
    }
    if let Some((head, rest)) = part.split_once('(') {
        let values = rest.trim_end().trim_end_matches(')').split(',').map(owned).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok(Requirement::In(owned(key), values)),
            (Some(key), Some("notin"), None) => Ok(Requirement::NotIn(owned(key), values)),
            (Some(_), Some(word), _) => Err(ApiError::bad_request(format!(
                "unable to parse requirement: found '{word}', expected: in, notin, =, ==, !=, gt, lt"
            ))),
            _ => Err(ApiError::bad_request(format!("unable to parse requirement: {part:?}"))),
        };
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(owned(key), vec![owned(value)]));
    }
    Ok(match part.strip_prefix('!') {
        Some(key) => Requirement::Absent(owned(key)),
        None => Requirement::Exists(owned(part)),
    })
}

/// Reads a `LabelSelector` object (`matchLabels`, `matchExpressions`); an empty one matches everything.
pub(crate) fn from_label_selector(selector: &Value) -> Selector {
    let mut labels = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        labels.push(Requirement::In(key.clone(), vec![value.as_str().unwrap_or_default().to_owned()]));
    }
    for expression in super::value::items(&selector["matchExpressions"]) {
        let key = expression["key"].as_str().unwrap_or_default().to_owned();
        let values = super::value::items(&expression["values"])
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect();
        labels.push(match expression["operator"].as_str() {
            Some("In") => Requirement::In(key, values),
            Some("NotIn") => Requirement::NotIn(key, values),
            Some("Exists") => Requirement::Exists(key),
            _ => Requirement::Absent(key),
        });
    }
    Selector { labels, fields: Vec::new() }
}

/// The text form of a `LabelSelector` object, as the scale subresource reports it.
pub(crate) fn selector_text(selector: &Value) -> String {
    let requirements = from_label_selector(selector).labels;
    let parts: Vec<String> = requirements
        .iter()
        .map(|requirement| match requirement {
            Requirement::In(key, values) if values.len() == 1 => format!("{key}={}", values[0]),
            Requirement::In(key, values) => format!("{key} in ({})", values.join(",")),
            Requirement::NotIn(key, values) if values.len() == 1 => format!("{key}!={}", values[0]),
            Requirement::NotIn(key, values) => format!("{key} notin ({})", values.join(",")),
            Requirement::Exists(key) => key.clone(),
            Requirement::Absent(key) => format!("!{key}"),
        })
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_match_as_the_api_server_matches() {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"app": "web", "tier": "front"}},
            "spec": {"nodeName": "node-1"}, "status": {"phase": "Running"},
        });
        let table = [
            ("app=web", "", true),
            ("app==web,tier!=back", "", true),
            ("app in (db, web),!gone", "", true),
            ("app notin (web)", "", false),
            ("missing!=x", "", true),
            ("tier", "spec.nodeName!=", true),
            ("", "spec.nodeName=", false),
            ("", "status.phase!=Succeeded,status.phase!=Failed", true),
            ("", "metadata.name=p,metadata.namespace=n", true),
            ("", "metadata.name=q", false),
        ];
        for (labels, fields, expected) in table {
            let selector = Selector::parse("", "pods", labels, fields).unwrap();
            assert_eq!(selector.matches(&pod), expected, "labels {labels:?} fields {fields:?}");
        }
        assert!(Selector::parse("", "pods", "", "spec.replicas=1").is_err());
        assert!(Selector::parse("", "pods", "a of (b)", "").is_err());
    }

    #[test]
    fn label_selector_objects_become_text() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]});
        assert_eq!(selector_text(&selector), "a=b,c in (d,e),!f");
    }
}
