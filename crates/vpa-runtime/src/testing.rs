//! A scripted API for tests: a tower service that answers by path, without a network.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;

use crate::{Cluster, Pacer};

/// An answer: code, headers and body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Self { code: 200, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn status(code: u16, reason: &str) -> Self {
        let body = format!(
            r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"{reason}","message":"{reason}","code":{code}}}"#
        );
        Self { code, headers: Vec::new(), body }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: String,
}

type Script = Box<dyn FnMut(&Call) -> Answer + Send>;

/// The scripted API.
#[derive(Clone)]
pub(crate) struct Api {
    script: Arc<Mutex<Script>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Api {
    /// Answers by path.
    pub(crate) fn new(mut answer: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        Self::scripted(move |call| answer(&call.path))
    }

    /// Answers by call.
    pub(crate) fn scripted(answer: impl FnMut(&Call) -> Answer + Send + 'static) -> Self {
        Self { script: Arc::new(Mutex::new(Box::new(answer))), calls: Arc::default() }
    }

    pub(crate) fn answer_all(&self, answer: Answer) {
        *self.script.lock() = Box::new(move |_| answer.clone());
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.calls.lock().iter().filter(|call| call.path == path).count()
    }

    pub(crate) fn total(&self) -> usize {
        self.calls.lock().len()
    }

    /// The bare service, for the layers' own tests.
    pub(crate) fn service(
        &self,
    ) -> impl tower::Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    > + Clone
    + Send
    + 'static {
        let api = self.clone();
        tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap_or_default();
                let call = Call {
                    method: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    body: String::from_utf8_lossy(&body).into_owned(),
                };
                api.calls.lock().push(call.clone());
                let answer = (api.script.lock())(&call);
                let mut response = Response::builder().status(answer.code);
                for (name, value) in answer.headers {
                    response = response.header(name, value);
                }
                Ok(response.body(Body::from(answer.body.into_bytes())).expect("a valid answer"))
            }
        })
    }

    /// A client without the layers.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.service(), "default")
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster {
            client: self.client(),
            url: "http://scripted".into(),
            version: String::new(),
            default_namespace: "default".into(),
            pace: Pacer::default(),
        }
    }
}

/// How often each value occurs.
pub(crate) fn tally<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    for value in values {
        *tally.entry(value).or_default() += 1;
    }
    tally
}
