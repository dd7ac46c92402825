//! Admission webhooks, called as an API server calls them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use support::client;
use tokio::net::TcpListener;
use vpa_sim::{ApiServer, Options, Running};

/// A webhook that answers what it is told to and keeps the reviews.
struct Webhook {
    port: u16,
    authority: String,
    reviews: Arc<Mutex<Vec<Value>>>,
    answer: Arc<Mutex<Value>>,
}

impl Webhook {
    async fn start() -> Self {
        let names = ["localhost", "hook.default.svc"].map(str::to_owned).to_vec();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hook = Self {
            port,
            authority: STANDARD.encode(made.cert.pem()),
            reviews: Arc::default(),
            answer: Arc::new(Mutex::new(json!({"allowed": true}))),
        };
        let (reviews, answer) = (Arc::clone(&hook.reviews), Arc::clone(&hook.answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, reviews, answer) =
                    (acceptor.clone(), Arc::clone(&reviews), Arc::clone(&answer));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(
                        move |request: http::Request<hyper::body::Incoming>| {
                            let (reviews, answer) = (Arc::clone(&reviews), Arc::clone(&answer));
                            async move {
                                let path = request.uri().path().to_owned();
                                let body = request.into_body().collect().await.unwrap().to_bytes();
                                let mut review: Value = serde_json::from_slice(&body).unwrap();
                                review["path"] = json!(path);
                                let mut response = answer.lock().clone();
                                if let Some(ms) = response["delayMs"].as_u64() {
                                    tokio::time::sleep(Duration::from_millis(ms)).await;
                                }
                                response["uid"] = review["request"]["uid"].clone();
                                reviews.lock().push(review);
                                let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
                                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(
                                    bytes::Bytes::from(answer.to_string()),
                                )))
                            }
                        },
                    );
                    let _ended = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        hook
    }

    fn patches(&self, operations: &Value) {
        let patch = STANDARD.encode(operations.to_string());
        *self.answer.lock() = json!({"allowed": true, "patchType": "JSONPatch", "patch": patch});
    }
}

async fn start() -> (Running, Client) {
    let server = ApiServer::start(Options::default()).await.unwrap();
    let client = client(&server.kubeconfig()).await;
    (server, client)
}

async fn register(client: &Client, mut webhook: Value) {
    webhook["name"] = json!("hook.example.com");
    webhook["admissionReviewVersions"] = json!(["v1"]);
    webhook["sideEffects"] = json!("None");
    webhook["rules"] =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let object =
        serde_json::from_value(json!({"metadata": {"name": "hook"}, "webhooks": [webhook]})).unwrap();
    let _none = api.delete("hook", &DeleteParams::default()).await;
    api.create(&PostParams::default(), &object).await.unwrap();
}

async fn create(client: &Client, name: &str) -> Result<Pod, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x",
        "resources": {"requests": {"cpu": "100m"}}}]}});
    api.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await
}

fn refusal(result: Result<Pod, kube::Error>) -> (u16, String) {
    match result.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn patches_of_a_webhook_are_applied_and_completed() {
    let hook = Webhook::start().await;
    let (_server, client) = start().await;
    register(&client, json!({"clientConfig": {"url": format!("https://localhost:{}/mutate?timeout=1", hook.port), "caBundle": hook.authority}})).await;
    hook.patches(&json!([
        {"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}},
        {"op": "add", "path": "/spec/containers/0/resources/limits", "value": {"memory": "1024Mi"}},
    ]));
    let pod = create(&client, "p").await.unwrap();
    assert_eq!(pod.metadata.annotations.unwrap()["a"], "b");
    let resources = pod.spec.unwrap().containers.remove(0).resources.unwrap();
    assert_eq!(resources.requests.unwrap()["memory"].0, "1Gi", "defaults follow the patch");
    let reviews = hook.reviews.lock().clone();
    let request = &reviews[0]["request"];
    assert_eq!(
        (request["operation"].as_str(), request["namespace"].as_str()),
        (Some("CREATE"), Some("default"))
    );
    assert_eq!(request["requestResource"], json!({"group": "", "version": "v1", "resource": "pods"}));
    assert_eq!((&request["object"]["kind"], &request["oldObject"]), (&json!("Pod"), &Value::Null));
    let api: Api<Pod> = Api::namespaced(client, "default");
    api.patch("p", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}})))
        .await
        .unwrap();
    assert_eq!(hook.reviews.lock().len(), 1, "only creations were asked for");
}

#[tokio::test]
async fn a_service_with_an_external_name_is_dialled_under_its_own_name() {
    let hook = Webhook::start().await;
    let (_server, client) = start().await;
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service =
        json!({"metadata": {"name": "hook"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    let service = json!({"namespace": "default", "name": "hook", "port": hook.port, "path": "/x"});
    register(&client, json!({"clientConfig": {"service": service, "caBundle": hook.authority}})).await;
    create(&client, "p").await.unwrap();
    assert_eq!(hook.reviews.lock()[0]["path"], "/x");
}

#[tokio::test]
async fn a_refusal_reaches_the_client() {
    let hook = Webhook::start().await;
    let (_server, client) = start().await;
    register(&client, json!({"clientConfig": {"url": format!("https://localhost:{}/", hook.port), "caBundle": hook.authority}})).await;
    *hook.answer.lock() =
        json!({"allowed": false, "status": {"message": "spec.x: not so", "code": 422, "reason": "Invalid"}});
    let (code, message) = refusal(create(&client, "p").await);
    assert_eq!(
        (code, message.as_str()),
        (422, "admission webhook \"hook.example.com\" denied the request: spec.x: not so")
    );
}

#[tokio::test]
async fn warnings_of_a_webhook_are_headers_of_the_answer_refused_or_not() {
    let hook = Webhook::start().await;
    let (_server, client) = start().await;
    register(&client, json!({"clientConfig": {"url": format!("https://localhost:{}/", hook.port), "caBundle": hook.authority}})).await;
    let long = "x".repeat(300);
    let many: Vec<String> = (0..14).map(|i| format!("{i:02}{long}")).collect();
    for (index, (allowed, warnings, expected)) in [
        (
            true,
            json!(["say \"no\"", "b\\c", "b\\c", "", "a\nb"]),
            vec![r#"299 - "say \"no\"""#.to_owned(), r#"299 - "b\\c""#.to_owned()],
        ),
        (false, json!(["why"]), vec![r#"299 - "why""#.to_owned()]),
        (true, json!([long]), vec![format!("299 - \"{long}\"")]),
        (true, json!(many), many.iter().map(|text| format!("299 - \"{}\"", &text[..256])).collect()),
        (true, json!([]), vec![]),
    ]
    .into_iter()
    .enumerate()
    {
        *hook.answer.lock() = json!({"allowed": allowed, "warnings": warnings});
        let pod = json!({"metadata": {"name": format!("p{index}")}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
        let request = http::Request::post("/api/v1/namespaces/default/pods")
            .header("content-type", "application/json")
            .body(pod.to_string().into_bytes().into())
            .unwrap();
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status().is_success(), allowed);
        let found = answer.headers().get_all("warning").iter();
        assert_eq!(found.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn the_failure_policy_decides_when_the_webhook_does_not_answer() {
    let hook = Webhook::start().await;
    let (_server, client) = start().await;
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let url = format!("https://localhost:{}/", hook.port);
    let late = json!({"allowed": true, "delayMs": 3000});
    let table = [
        (
            "nobody listens",
            json!({"clientConfig": {"url": "https://localhost:1/", "caBundle": hook.authority}}),
        ),
        (
            "a stranger's certificate",
            json!({"clientConfig": {"url": url, "caBundle": STANDARD.encode(other.cert.pem())}}),
        ),
        (
            "no service",
            json!({"clientConfig": {"service": {"namespace": "default", "name": "none"}, "caBundle": hook.authority}}),
        ),
        ("too late", json!({"timeoutSeconds": 1, "clientConfig": {"url": url, "caBundle": hook.authority}})),
    ];
    for (index, (what, webhook)) in table.into_iter().enumerate() {
        *hook.answer.lock() = if what == "too late" { late.clone() } else { json!({"allowed": true}) };
        register(&client, webhook.clone()).await;
        let (code, message) = refusal(create(&client, &format!("refused-{index}")).await);
        assert_eq!(code, 500, "{what}");
        assert!(message.contains("failed calling webhook \"hook.example.com\""), "{what}: {message}");
        let mut open = webhook;
        open["failurePolicy"] = json!("Ignore");
        register(&client, open).await;
        create(&client, &format!("taken-{index}")).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[tokio::test]
async fn selectors_narrow_what_a_webhook_sees() {
    let hook = Webhook::start().await;
    let (_server, client) = start().await;
    let labelled = json!({"matchLabels": {"hook": "on"}});
    let url = format!("https://localhost:{}/", hook.port);
    register(
        &client,
        json!({"namespaceSelector": labelled, "clientConfig": {"url": url, "caBundle": hook.authority}}),
    )
    .await;
    create(&client, "p").await.unwrap();
    assert!(hook.reviews.lock().is_empty());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let label = json!({"metadata": {"labels": {"hook": "on"}}});
    namespaces.patch("default", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    create(&client, "q").await.unwrap();
    assert_eq!(hook.reviews.lock().len(), 1);
    register(
        &client,
        json!({"objectSelector": labelled, "clientConfig": {"url": url, "caBundle": hook.authority}}),
    )
    .await;
    create(&client, "r").await.unwrap();
    assert_eq!(hook.reviews.lock().len(), 1);
}
