//! Reading of cases.

use serde_json::Value;

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer).and_then(Value::as_f64)
}

pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn annotations(pod: &Value) -> impl Iterator<Item = (String, String)> + '_ {
    let all = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    all.into_iter().flatten().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
}

/// A quantity as a number; exact enough to tell the amounts of the cases apart.
pub(super) fn amount(quantity: &str) -> f64 {
    let end = quantity.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(quantity.len());
    let (digits, suffix) = quantity.split_at(end);
    let factor = match suffix {
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        _ => 1.0,
    };
    digits.parse::<f64>().unwrap_or(f64::NAN) * factor
}
