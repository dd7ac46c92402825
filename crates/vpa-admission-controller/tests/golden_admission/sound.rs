//! What is asserted where the reference's answer is no measure.

use serde_json::Value;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;

/// The members of `got` that `want` has.
pub(crate) fn like(want: &Value, got: &Value) -> Value {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            want.iter().filter_map(|(key, want)| Some((key.clone(), like(want, got.get(key)?)))).collect()
        }
        _ => got.clone(),
    }
}

pub(crate) fn pod(_rule: &str, _request: &Value, _got: &Value) -> Result<(), String> {
    Err("todo".into())
}

pub(crate) fn capping(
    _rule: &str,
    _vpa: &VerticalPodAutoscaler,
    _pod: &Pod,
    _got: &Value,
) -> Result<(), String> {
    Err("todo".into())
}

pub(crate) fn scaling(_rule: &str, _input: &Value, _got: &Value) -> Result<(), String> {
    Err("todo".into())
}
