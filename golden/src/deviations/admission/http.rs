//! Requests as bytes.

use serde_json::{Value, json};

/// The path without its query.
pub(super) fn path(case: &Value) -> &str {
    case["input"]["path"].as_str().unwrap_or_default().split('?').next().unwrap_or_default()
}

/// The request of the review in the body; null where there is none.
pub(super) fn request(case: &Value) -> Value {
    let body = case["input"]["body"].as_str().unwrap_or_default();
    let review: Value = serde_json::from_str(body).unwrap_or_default();
    review["request"].clone()
}

pub(super) fn is_json_in_other_words(case: &Value) -> bool {
    let content_type = case["input"]["headers"]["Content-Type"].as_str().unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    content_type != "application/json" && media_type.eq_ignore_ascii_case("application/json")
}

pub(super) fn is_pod_but_not_created(case: &Value) -> bool {
    let request = request(case);
    let is_pod = request["resource"]["resource"] == "pods"
        && request["resource"]["group"].as_str().is_none_or(str::is_empty);
    let subresource = request["subResource"].as_str().unwrap_or_default();
    is_pod && (request["operation"] != "CREATE" || !subresource.is_empty())
}

fn uid(case: &Value) -> Value {
    Value::from(request(case)["uid"].as_str().unwrap_or_default())
}

const TEXT: &str = "text/plain; charset=utf-8";

/// The answer that admits the object as it is, to the byte.
pub(super) fn expect_plain(case: &mut Value) {
    let uid = uid(case);
    let head = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"#;
    let body = format!("{head}{uid},\"allowed\":true}}}}");
    case["expect"] = json!({ "status": 200, "content_type": TEXT, "body": body });
}

/// An answer that admits the object, with or without a patch.
pub(super) fn expect_answer(case: &mut Value, patched: bool) {
    let mut response = json!({ "uid": uid(case), "allowed": true });
    if patched {
        response["patchType"] = json!("JSONPatch");
    }
    case["expect"] = json!({ "status": 200, "content_type": TEXT, "response": response });
}
