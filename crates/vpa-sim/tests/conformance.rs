//! Holds the server's answers against those of a real kube-apiserver.
//!
//! Each file in `conformance/` is a script of requests, one a line, with the answer that kube-apiserver 1.36.3 gave.
//! The test plays them to the embedded server and compares. With `VPA_SIM_CONFORMANCE_KUBECONFIG` set it plays them to
//! that cluster instead, and with `VPA_SIM_CONFORMANCE_RECORD=1` besides it writes down what the cluster answers.
//!
//! A step is an object: `do` is method and path, `type` the content type (JSON by default), `body` (or `file`, one of the chart's definitions), `save` a name under
//! which later steps find the answer as `${name/json/pointer}`, `look` the parts of the answer that count. `code` and
//! `answer` are recorded. Where the embedded server differs on purpose, `sim` holds its answer and `why` the reason.
//! `$NS` is a fresh namespace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use http_body_util::BodyExt;
use kube::Client;
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use support::client_of;
use vpa_sim::{ApiServer, Options};

/// Replaces `$NS` and `${name/pointer}` in a text.
fn fill(text: &str, namespace: &str, saved: &BTreeMap<String, Value>) -> String {
    let mut out = text.replace("$NS", namespace);
    while let Some(start) = out.find("${") {
        let end = start + out[start..].find('}').expect("a closing brace");
        let (name, pointer) = out[start + 2..end].split_once('/').expect("a pointer after the name");
        let value =
            saved[name].pointer(&format!("/{pointer}")).unwrap_or_else(|| panic!("{name} has no /{pointer}"));
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        out.replace_range(start..=end, &value);
    }
    out
}

struct Player {
    client: Client,
    namespace: String,
    saved: BTreeMap<String, Value>,
}

impl Player {
    async fn play(&mut self, step: &Value) -> (u16, Value) {
        let what = fill(step["do"].as_str().unwrap(), &self.namespace, &self.saved);
        let (method, path) = what.split_once(' ').unwrap();
        let content_type = step["type"].as_str().unwrap_or("application/json");
        let body = if let Some(file) = step["file"].as_str() {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../charts/vpa/crds").join(file);
            std::fs::read(path).unwrap()
        } else if step["body"].is_null() {
            Vec::new()
        } else {
            fill(&step["body"].to_string(), &self.namespace, &self.saved).into_bytes()
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("accept", step["accept"].as_str().unwrap_or("application/json"))
            .body(kube::client::Body::from(body))
            .unwrap();
        let response = self.client.send(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        if let Some(name) = step["save"].as_str() {
            self.saved.insert(name.to_owned(), answer.clone());
        }
        (code, self.essence(step, code, &answer))
    }

    /// What counts of an answer: a failure as a whole, else the parts named by `look`.
    fn essence(&self, step: &Value, code: u16, answer: &Value) -> Value {
        let mut parts = json!({});
        if code >= 400 {
            for key in ["reason", "message", "details"] {
                parts[key] = answer[key].clone();
            }
        }
        for pointer in step["look"].as_array().into_iter().flatten() {
            let pointer = pointer.as_str().unwrap();
            parts[pointer] = answer.pointer(pointer).cloned().unwrap_or(Value::Null);
        }
        let mut text = parts.to_string().replace(&self.namespace, "$NS");
        // Identities differ from run to run.
        for saved in self.saved.values() {
            if let Some(uid) = saved["metadata"]["uid"].as_str() {
                text = text.replace(uid, "<uid>");
            }
        }
        const RECORD: &str = "in record (";
        for (start, _) in text.clone().match_indices(RECORD).collect::<Vec<_>>().into_iter().rev() {
            let start = start + RECORD.len();
            let end = start + text[start..].find(')').unwrap();
            text.replace_range(start..end, "<found>");
        }
        serde_json::from_str(&text).unwrap()
    }
}

fn line(step: &Value) -> String {
    serde_json::to_string(step).unwrap()
}

/// Plays one script; the differences found.
async fn run(file: &str, client: Client, record: bool, real: bool) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/conformance/{file}.json"));
    let mut steps: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let namespace = format!("c{stamp}");
    let mut player = Player { client, namespace: namespace.clone(), saved: BTreeMap::new() };
    let create = json!({"do": "POST /api/v1/namespaces", "body": {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}});
    assert_eq!(player.play(&create).await.0, 201);
    let mut differences = Vec::new();
    for (index, step) in steps.iter_mut().enumerate() {
        if let Some(ms) = step["waitMs"].as_u64().filter(|_| real) {
            tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
        }
        let (code, answer) = player.play(step).await;
        if record {
            step["code"] = json!(code);
            step["answer"] = answer;
            continue;
        }
        let expected = if real || step["sim"].is_null() {
            (step["code"].clone(), step["answer"].clone())
        } else {
            (step["sim"]["code"].clone(), step["sim"]["answer"].clone())
        };
        if (json!(code), answer.clone()) != expected {
            differences.push(format!(
                "{file}.json step {} ({}):\n  expected {} {}\n  found    {code} {answer}",
                index + 1,
                step["do"],
                expected.0,
                expected.1
            ));
        }
    }
    if record {
        let lines: Vec<String> = steps.iter().map(line).collect();
        std::fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
    differences
}

async fn check(file: &str) {
    let record = std::env::var_os("VPA_SIM_CONFORMANCE_RECORD").is_some();
    let differences = match std::env::var_os("VPA_SIM_CONFORMANCE_KUBECONFIG") {
        Some(path) => run(file, client_of(Kubeconfig::read_from(path).unwrap()).await, record, true).await,
        None => {
            let server = ApiServer::start(Options::default()).await.unwrap();
            let kubeconfig = serde_json::from_str(&server.kubeconfig()).unwrap();
            run(file, client_of(kubeconfig).await, false, false).await
        }
    };
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

macro_rules! scripts {
    ($($name:ident)*) => { $(#[tokio::test] async fn $name() { check(stringify!($name)).await; })* };
}

scripts! { objects patches pods resize eviction definitions deletion lists workloads access vpa }
