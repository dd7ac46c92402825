//! Reviews through the router.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use golden::{expect, expect_json};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;
use vpa_admission_controller::webhook::Webhook;

use crate::cluster::{Cluster, Config, webhook};
use crate::sound;

#[derive(Deserialize)]
pub(crate) struct Review {
    config: Config,
    #[serde(default)]
    cluster: Cluster,
    request: Value,
    expect: Value,
    #[serde(default)]
    expect_any_of: Vec<Value>,
}

#[derive(Deserialize)]
pub(crate) struct Http {
    config: Config,
    cluster: Cluster,
    input: Input,
    expect: Expected,
}

#[derive(Deserialize)]
struct Input {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_repeat: Option<Repeat>,
}

#[derive(Deserialize)]
struct Repeat {
    text: String,
    count: usize,
}

#[derive(Deserialize)]
struct Expected {
    status: u16,
    content_type: Option<String>,
    body: Option<String>,
    /// In place of `body`: every part of this is in the answer's `response`.
    response: Option<Value>,
    /// In the message of a refusal.
    names: Option<String>,
}

struct Answer {
    status: u16,
    content_type: Option<String>,
    body: Vec<u8>,
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

async fn send(webhook: Arc<Webhook>, request: Request<Body>) -> Answer {
    let response = webhook.router().oneshot(request).await.unwrap();
    let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    Answer { status, content_type, body }
}

fn post(body: Vec<u8>) -> Request<Body> {
    Request::post("/").header("Content-Type", "application/json").body(Body::from(body)).unwrap()
}

/// A review whose answer is compared part by part, and to the byte where the case has the bytes.
pub(crate) fn review(case: &Review) -> Result<(), String> {
    let webhook = webhook(&case.config, &case.cluster);
    let body = serde_json::to_vec(&case.request).map_err(|error| error.to_string())?;
    let answer = block_on(send(Arc::clone(&webhook), post(body.clone())));
    let got = parts(&case.request, &answer)?;
    let first = compare(&case.expect, &got, &answer, &case.request);
    let outcome = if case.expect_any_of.iter().any(|want| compare(want, &got, &answer, &case.request).is_ok())
    {
        Ok(())
    } else {
        first
    };
    outcome?;
    if let Some(want) = case.expect.get("vpa") {
        let request = vpa_core::admit::decode(&body).map_err(|error| error.to_string())?;
        let decision = block_on(webhook.decide(&request, std::time::Duration::from_secs(1)));
        let got = decision.report.vpa.map(|name| format!("{}/{name}", request.namespace));
        expect("vpa", &want.as_str().map(str::to_owned), &got)?;
    }
    Ok(())
}

fn compare(want: &Value, got: &Value, answer: &Answer, request: &Value) -> Result<(), String> {
    expect("http_status", &want["http_status"].as_u64(), &Some(u64::from(answer.status)))?;
    if want.get("sound").is_some() {
        return sound::pod(request, got);
    }
    if want.get("only").is_some() {
        return Ok(());
    }
    if let Some(path) = want.get("names").and_then(Value::as_str) {
        return refused(&want["response"], path, &got["response"]);
    }
    for part in ["response", "patch", "resources_after", "annotations_after"] {
        let want = want.get(part).unwrap_or(&Value::Null);
        // `resources_after` and `annotations_after` are given where there is a patch for a pod.
        if part.ends_with("_after") && want.is_null() {
            continue;
        }
        expect_json(part, want, &got[part])?;
    }
    if let Some(exact) = want.get("exact_body").and_then(Value::as_str) {
        expect("body", exact, &*String::from_utf8_lossy(&answer.body))?;
    }
    Ok(())
}

/// The parts of an answer in the form that cases have them.
fn parts(request: &Value, answer: &Answer) -> Result<Value, String> {
    let review: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("answer: {error}"))?;
    expect("kind", &json!("AdmissionReview"), &review["kind"])?;
    expect("apiVersion", &json!("admission.k8s.io/v1"), &review["apiVersion"])?;
    let mut response = review["response"].clone();
    let patch = response.as_object_mut().and_then(|response| response.remove("patch"));
    let Some(patch) = patch else { return Ok(json!({ "response": response })) };
    let text = patch.as_str().ok_or("patch is not text")?;
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).map_err(|error| format!("patch: {error}"))?;
    let patch: Value = serde_json::from_slice(&bytes).map_err(|error| format!("patch: {error}"))?;
    let mut object = request["request"]["object"].clone();
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|error| format!("patch: {error}"))?;
    if request["request"]["resource"]["resource"] != "pods" {
        return Ok(json!({ "response": response, "patch": patch }));
    }
    json_patch::patch(&mut object, &operations).map_err(|error| format!("patch does not apply: {error}"))?;
    let containers = object["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let resources_of =
        |container: &Value| json!({ "name": container["name"], "resources": container["resources"] });
    Ok(json!({
        "response": response,
        "patch": patch,
        "resources_after": containers.iter().map(resources_of).collect::<Vec<_>>(),
        "annotations_after": object["metadata"]["annotations"],
    }))
}

/// Bytes in, status and bytes out.
pub(crate) fn http(case: &Http) -> Result<(), String> {
    let Http { config, cluster, input, expect: want } = case;
    let body = match (&input.body, &input.body_repeat) {
        (Some(body), _) => body.clone().into_bytes(),
        (None, Some(repeat)) => repeat.text.repeat(repeat.count).into_bytes(),
        (None, None) => Vec::new(),
    };
    let mut request = Request::builder().method(input.method.as_str()).uri(&input.path);
    for (name, value) in &input.headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::from(body)).map_err(|error| error.to_string())?;
    let answer = block_on(send(webhook(config, cluster), request));
    expect("status", &want.status, &answer.status)?;
    expect("content_type", &want.content_type, &answer.content_type)?;
    if let Some(body) = &want.body {
        expect("body", body.as_str(), &*String::from_utf8_lossy(&answer.body))?;
    }
    if let Some(response) = &want.response {
        let review: Value =
            serde_json::from_slice(&answer.body).map_err(|error| format!("answer: {error}"))?;
        let names = want.names.as_deref().unwrap_or_default();
        refused(response, names, &review["response"])?;
    }
    Ok(())
}

/// Every part of `want` is in the answer, and the text of its refusal names `path`.
fn refused(want: &Value, path: &str, got: &Value) -> Result<(), String> {
    expect_json("response", want, &sound::like(want, got))?;
    let message = got["status"]["message"].as_str().unwrap_or_default();
    if message.contains(path) { Ok(()) } else { Err(format!("{message:?} does not name {path:?}")) }
}
