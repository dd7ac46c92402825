//! Reviews of VPAs.

use serde_json::{Value, json};

use super::http;

/// The request, of both forms of cases.
pub(super) fn request(case: &Value) -> Value {
    if case["request"].is_object() { case["request"]["request"].clone() } else { http::request(case) }
}

pub(super) fn is_vpa(case: &Value) -> bool {
    request(case)["resource"]["resource"] == "verticalpodautoscalers"
}

pub(super) fn expect_allowed(file: &str, case: &mut Value) {
    if file == "malformed.json" {
        return http::expect_plain(case);
    }
    let uid = request(case)["uid"].clone();
    case["expect"] = json!({ "http_status": 200, "response": { "allowed": true, "uid": uid } });
}

/// The refusal stays, its text has to name the field.
pub(super) fn expect_path(file: &str, case: &mut Value) {
    let body: Value =
        serde_json::from_str(case["expect"]["body"].as_str().unwrap_or_default()).unwrap_or_default();
    let mut response =
        if file == "malformed.json" { body["response"].clone() } else { case["expect"]["response"].clone() };
    let text = response["status"]["message"].as_str().unwrap_or_default().to_owned();
    // "… into Go struct field PodUpdatePolicy.spec.updatePolicy.minReplicas of type int32"
    let field = text.split_once("Go struct field ").and_then(|(_, rest)| rest.split(' ').next());
    let path = field.and_then(|field| field.split_once('.')).map_or("bject", |(_, path)| path);
    if let Some(status) = response["status"].as_object_mut() {
        status.remove("message");
    }
    for cause in response["status"]["details"]["causes"].as_array_mut().into_iter().flatten() {
        if let Some(cause) = cause.as_object_mut() {
            cause.remove("message");
        }
    }
    let status = if file == "malformed.json" { "status" } else { "http_status" };
    let mut expect = json!({ "response": response, "names": path });
    expect[status] = json!(200);
    if file == "malformed.json" {
        expect["content_type"] = case["expect"]["content_type"].clone();
    }
    case["expect"] = expect;
}
