//! Structural schemas, as a CRD holds them, from Rust types.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of a custom resource whose root type is `T`, without references, defaults and titles.
///
/// An optional field is one that may be missing. It may be `null` only where the type says so itself: the API server
/// refuses `null` elsewhere, and so tells a user of a field that was left empty by mistake.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    clean(&mut schema);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("apiVersion".to_owned(), json!({ "type": "string" }));
        properties.insert("kind".to_owned(), json!({ "type": "string" }));
        properties.insert("metadata".to_owned(), json!({ "type": "object" }));
    }
    schema
}

fn clean(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for keyword in ["$schema", "title", "default"] {
        map.remove(keyword);
    }
    unwrap_optional(map);
    if let Some(Value::String(text)) = map.get_mut("description") {
        *text = one_line(text);
    }
    for keyword in ["items", "additionalProperties"] {
        map.get_mut(keyword).map(clean);
    }
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(clean);
    }
}

/// Takes `null` out of `{"type": ["x", "null"]}` and of `{"anyOf": [x, {"type": "null"}]}`.
fn unwrap_optional(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(choices)) = map.get_mut("anyOf") else { return };
    let count = choices.len();
    choices.retain(|choice| choice.get("type") != Some(&json!("null")));
    if choices.len() == count || choices.len() != 1 {
        return;
    }
    // The description of the field is better than that of its type.
    if let Some(Value::Object(inner)) = choices.pop() {
        map.remove("anyOf");
        for (key, value) in inner {
            map.entry(key).or_insert(value);
        }
        unwrap_optional(map);
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
