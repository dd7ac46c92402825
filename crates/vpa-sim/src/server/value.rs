//! Small accessors on objects held as JSON.

use serde_json::{Map, Value, json};

/// The value at a path of keys, `Null` where a step is missing.
pub(crate) fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(object, |value, key| &value[*key])
}

/// The text at a path, empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).as_str().unwrap_or_default()
}

/// `metadata.<key>` as text.
pub(crate) fn meta<'a>(object: &'a Value, key: &str) -> &'a str {
    text(object, &["metadata", key])
}

/// The elements of a list, none where it is missing or no list.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The object behind `value`, made empty first where it is anything else.
pub(crate) fn map_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        // Unreachable: set just above; an empty leaked map keeps this free of panics.
        _ => Box::leak(Box::default()),
    }
}

/// The value at a path, made on the way.
pub(crate) fn at_mut<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(object, |value, key| map_mut(value).entry((*key).to_owned()).or_insert(Value::Null))
}

/// Sets `value` where the path holds nothing or null.
pub(crate) fn set_default(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    let slot = at_mut(object, path);
    if slot.is_null() {
        *slot = value.into();
    }
}

/// Moves `path` from `from` into `to`: set, or removed where `from` has none.
pub(crate) fn copy_path(from: &Value, to: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let value = at(from, path);
    if value.is_null() {
        if !at(to, parents).is_object() {
            return;
        }
        map_mut(at_mut(to, parents)).remove(*last);
    } else {
        *at_mut(to, path) = value.clone();
    }
}

/// Removes null members, which the API server never stores.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A moment as the API server writes it: RFC 3339, whole seconds, UTC.
pub(crate) fn time_text(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Now, as [`time_text`].
pub(crate) fn now_text() -> String {
    time_text(jiff::Timestamp::now())
}
