//! Comparisons that say where two values differ.

use std::fmt::Debug;

use serde::Serialize;
use serde_json::Value;

/// Equal, or a message that names both.
///
/// # Errors
/// The values differ.
pub fn expect<T: PartialEq + Debug + ?Sized>(what: &str, want: &T, got: &T) -> Result<(), String> {
    if want == got { Ok(()) } else { Err(format!("{what}: want {want:?}, got {got:?}")) }
}

/// Equal up to a relative difference.
///
/// # Errors
/// The values differ by more.
pub fn expect_close(what: &str, want: f64, got: f64, relative: f64) -> Result<(), String> {
    let close = want == got
        || (want.is_nan() && got.is_nan())
        || (want - got).abs() <= relative * want.abs().max(got.abs());
    if close { Ok(()) } else { Err(format!("{what}: want {want:e}, got {got:e}")) }
}

/// Equal as JSON, or a message with the first few paths at which they differ. An integer equals the same float.
///
/// # Errors
/// The values differ, or `got` cannot be written as JSON.
pub fn expect_json<T: Serialize + ?Sized>(what: &str, want: &Value, got: &T) -> Result<(), String> {
    let got = serde_json::to_value(got).map_err(|error| format!("{what}: {error}"))?;
    let mut differences = Vec::new();
    compare(what.to_owned(), want, &got, &mut differences);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
}

/// Differences that one message shows.
const DIFFERENCES_MAX: usize = 5;

fn compare(path: String, want: &Value, got: &Value, differences: &mut Vec<String>) {
    if differences.len() >= DIFFERENCES_MAX {
        return;
    }
    match (want, got) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                compare(format!("{path}.{key}"), value, b.get(key).unwrap_or(&ABSENT), differences);
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                compare(format!("{path}.{key}"), &ABSENT, value, differences);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                let (a, b) = (a.get(index).unwrap_or(&ABSENT), b.get(index).unwrap_or(&ABSENT));
                compare(format!("{path}[{index}]"), a, b, differences);
            }
        }
        (Value::Number(a), Value::Number(b)) if a == b || a.as_f64() == b.as_f64() => {}
        _ if want == got && !std::ptr::eq(want, &ABSENT) && !std::ptr::eq(got, &ABSENT) => {}
        _ => differences.push(format!("{path}: want {}, got {}", show(want), show(got))),
    }
}

static ABSENT: Value = Value::Null;

fn show(value: &Value) -> String {
    if std::ptr::eq(value, &ABSENT) { "nothing".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_each_difference() {
        let want = json!({"a": 1, "b": [1, 2], "c": null, "d": 2.0});
        assert!(expect_json("x", &want, &json!({"a": 1.0, "b": [1, 2], "c": null, "d": 2})).is_ok());
        let message = expect_json("x", &want, &json!({"a": 2, "b": [1], "d": 2, "e": true})).unwrap_err();
        let parts = [
            "x.a: want 1, got 2",
            "x.b[1]: want 2, got nothing",
            "x.c: want null, got nothing",
            "x.e: want nothing, got true",
        ];
        assert_eq!(message, parts.join("; "));
    }

    #[test]
    fn closeness_is_relative() {
        assert!(expect_close("x", 1e12, 1e12 + 1.0, 1e-9).is_ok());
        assert!(expect_close("x", 1.0, 1.1, 1e-9).is_err());
    }
}
