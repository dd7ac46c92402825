//! Scripted faults, seen by a client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use serde_json::{Value, json};
use support::client;
use vpa_sim::{ApiServer, Options, Running};

async fn start() -> (Running, Client) {
    let server = ApiServer::start(Options::default()).await.unwrap();
    let client = client(&server.kubeconfig()).await;
    (server, client)
}

/// Status code of an answer.
fn code<T>(answer: Result<T, kube::Error>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(other) => panic!("no answer of the API: {other}"),
    }
}

fn refuse(code: u16) -> Value {
    json!({"refuse": {"code": code, "reason": "Scripted", "message": "scripted"}})
}

#[tokio::test]
async fn faults_hit_what_they_name() {
    let (server, client) = start().await;
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let metadata = ObjectMeta { name: Some("a".to_owned()), ..ObjectMeta::default() };
    let map = ConfigMap { metadata, ..ConfigMap::default() };
    api.create(&PostParams::default(), &map).await.unwrap();
    let once = json!({"verb": "get", "resource": "configmaps", "times": 1, "action": refuse(500)});
    assert!(server.add_fault(serde_json::from_value(once).unwrap()));
    assert_eq!(code(api.list(&ListParams::default()).await), 200);
    assert_eq!(code(api.get("a").await), 500);
    assert_eq!(code(api.get("a").await), 200);
}

#[tokio::test]
async fn a_fault_in_turn_hits_anything_and_can_be_taken_back() {
    let (_server, client) = start().await;
    let script = |method: &str, body: String| {
        let request = http::Request::builder().method(method).uri("/vpa-sim/faults");
        client.request_text(request.body(body.into_bytes()).unwrap())
    };
    // Discovery and resources alike, every second request.
    let half = json!({"action": {"nth": {"of": 2, "at": 1, "action": refuse(503)}}});
    script("POST", half.to_string()).await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    for expected in [200, 503] {
        assert_eq!(code(client.apiserver_version().await), expected);
    }
    for expected in [200, 503] {
        assert_eq!(code(api.list(&ListParams::default()).await), expected);
    }
    // One that hits everything spares the request that takes it back.
    script("POST", json!({"action": refuse(500)}).to_string()).await.unwrap();
    assert_eq!(code(api.list(&ListParams::default()).await), 500);
    script("DELETE", String::new()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(code(api.list(&ListParams::default()).await), 200);
    }
}
