//! An API server that answers by script.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use vpa_runtime::{Cluster, Pacer};

/// A request: method, path and body.
pub(crate) type Call = (String, String, Value);

/// A cluster that gives these answers, code and body, in this order, and the requests that it got.
pub(crate) fn scripted(answers: Vec<(u16, Value)>) -> (Cluster, Arc<Mutex<Vec<Call>>>) {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
    let log = calls.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answers, log) = (answers.clone(), log.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            log.lock().push((head.method.to_string(), head.uri.path().to_owned(), body));
            let (code, body) = answers.lock().pop_front().unwrap_or((500, json!({})));
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    let client = kube::Client::new(service, "default");
    (
        Cluster {
            client,
            url: "http://scripted".into(),
            version: String::new(),
            default_namespace: "default".into(),
            pace: Pacer::default(),
        },
        calls,
    )
}

/// The body of a refusal.
pub(crate) fn refusal(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code}))
}
