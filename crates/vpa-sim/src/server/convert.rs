//! Objects between the form they are kept in and the version a client speaks.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::kinds::Kind;
use super::value::map_mut;

/// Fields of an event that differ between `v1` and `events.k8s.io/v1`; events are kept as `v1`.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("message", "note"),
    ("involvedObject", "regarding"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn is_new_event(kind: &Kind) -> bool {
    kind.group == "events.k8s.io"
}

/// Into the form that is kept.
pub(crate) fn to_storage(kind: &Kind, mut object: Value) -> Value {
    if is_new_event(kind) {
        object["apiVersion"] = json!("v1");
        let map = map_mut(&mut object);
        for (old, new) in EVENT_FIELDS {
            if let Some(value) = map.remove(*new) {
                map.insert((*old).to_owned(), value);
            }
        }
        return object;
    }
    object["apiVersion"] = json!(kind.api_version(&kind.storage));
    object["kind"] = json!(kind.kind);
    object
}

/// Into the version that was asked for.
pub(crate) fn to_version<'a>(kind: &Kind, version: &str, object: &'a Value) -> Cow<'a, Value> {
    if is_new_event(kind) {
        let mut object = object.clone();
        object["apiVersion"] = json!("events.k8s.io/v1");
        let map = map_mut(&mut object);
        for (old, new) in EVENT_FIELDS {
            if let Some(value) = map.remove(*old) {
                map.insert((*new).to_owned(), value);
            }
        }
        return Cow::Owned(object);
    }
    if version == kind.storage {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    object["apiVersion"] = json!(kind.api_version(version));
    Cow::Owned(object)
}

/// Only type and metadata, for clients that ask for `PartialObjectMetadata`.
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"],
    })
}
