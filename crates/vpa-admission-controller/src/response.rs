//! Answers as the API server reads them.
//!
//! kube's own type writes the patch as an array of numbers, which no API server takes; here it is base64. Texts are
//! escaped as Go's encoder does it, so that answers are the same to the byte.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use vpa_core::admit::{Decision, Denial, FieldError};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'static str,
    api_version: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Status<'a> {
    metadata: Empty,
    status: &'static str,
    message: String,
    reason: &'static str,
    details: Details<'a>,
    code: u16,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    causes: Vec<Cause<'a>>,
}

#[derive(Serialize)]
struct Cause<'a> {
    reason: &'static str,
    message: &'a str,
    field: &'a str,
}

/// The answer to the review with this uid.
///
/// # Errors
/// None that can occur with these types; kept because the encoder's signature has one.
pub fn encode(uid: &str, decision: &Decision) -> serde_json::Result<Vec<u8>> {
    let patch = if decision.patches.is_empty() {
        None
    } else {
        Some(BASE64_STANDARD.encode(escape(serde_json::to_string(&decision.patches)?)))
    };
    let response = Response {
        uid,
        allowed: decision.allowed(),
        status: decision.denial.as_ref().map(status),
        patch_type: patch.as_ref().map(|_| "JSONPatch"),
        patch,
        warnings: &decision.warnings,
    };
    let review = Review { kind: "AdmissionReview", api_version: "admission.k8s.io/v1", response };
    Ok(escape(serde_json::to_string(&review)?).into_bytes())
}

/// The answer that admits an object as it is.
pub fn admit(uid: &str) -> Vec<u8> {
    let uid = escape(serde_json::Value::from(uid).to_string());
    let head = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"#;
    format!(r#"{head}{uid},"allowed":true}}}}"#).into_bytes()
}

fn status(denial: &Denial) -> Status<'_> {
    Status {
        metadata: Empty {},
        status: "Failure",
        message: denial.message(),
        reason: "Invalid",
        details: Details {
            name: &denial.name,
            group: &denial.group,
            kind: &denial.kind,
            causes: denial.causes.iter().map(cause).collect(),
        },
        code: 422,
    }
}

fn cause(error: &FieldError) -> Cause<'_> {
    let FieldError { field, reason, message } = error;
    Cause { reason: reason.as_str(), message, field }
}

/// Escapes what Go's encoder escapes beyond JSON: these characters stand in texts only.
fn escape(json: String) -> String {
    // The first byte of the two separators stands in no other characters but typographic ones and the like.
    if !json.bytes().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_answer_is_well_formed() {
        let text = String::from_utf8(admit("a<b\"\u{2028}")).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"a\u003cb\"\u2028","allowed":true}}"#
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["response"]["uid"],
            "a<b\"\u{2028}"
        );
    }
}
