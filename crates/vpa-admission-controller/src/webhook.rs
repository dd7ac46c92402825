//! Reviews over HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::post;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use vpa_core::admit::{self, Config, Decision, Outcome, Request, Snapshot};
use vpa_core::policy::LimitRangeSource;
use vpa_core::target::{ControllerKey, ControllerSource, VpaSource};

use crate::metrics::{Step, WebhookMetrics};
use crate::response;

/// Largest review that is read. Objects are at most 1.5 MB in etcd, and an update brings two of them.
pub const BODY_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Longest time for a body to arrive. The API server sends it at once; it gives up after 10 s by default.
const READ_MAX: Duration = Duration::from_secs(5);

/// Reviews that are worked on at once. One takes well under a millisecond, so more only take memory: at most 256 bodies
/// of 5 MiB. Those beyond wait, which the API server bounds by its own timeout.
const REVIEWS_MAX: usize = 256;

/// Longest wait for a controller that is looked up for the first time, all look-ups of a review together. The review
/// must be answered within the API server's timeout, of which this leaves most.
const LOOKUP_MAX: Duration = Duration::from_secs(2);

/// Look-ups that one review may wait for: a chain has few custom controllers.
const LOOKUPS_MAX: usize = 8;

/// What reviews are decided against, for one moment.
#[derive(Clone)]
pub struct View {
    /// VPAs by what they target.
    pub vpas: Arc<dyn VpaSource + Send + Sync>,
    /// Controllers.
    pub controllers: Arc<dyn ControllerSource + Send + Sync>,
    /// Limits of namespaces.
    pub limit_ranges: Arc<dyn LimitRangeSource + Send + Sync>,
}

/// Where views come from.
pub trait Views: Send + Sync + 'static {
    /// The view of this moment.
    fn view(&self) -> View;

    /// Waits until a controller that was pending is known, or cannot be known.
    fn resolve<'a>(&'a self, key: &'a ControllerKey) -> BoxFuture<'a, ()>;
}

/// The webhook.
pub struct Webhook {
    views: Arc<dyn Views>,
    config: Config,
    metrics: WebhookMetrics,
    slots: Semaphore,
}

impl Webhook {
    /// A webhook that decides against `views`.
    pub fn new(views: Arc<dyn Views>, config: Config, metrics: WebhookMetrics) -> Self {
        Self { views, config, metrics, slots: Semaphore::new(REVIEWS_MAX) }
    }

    /// Its HTTP side: `POST /`, and nothing else.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().route("/", post(serve)).with_state(self)
    }

    /// Decides a review; waits a little for controllers that are not known yet.
    pub async fn decide(&self, request: &Request) -> Decision {
        let deadline = tokio::time::Instant::now() + LOOKUP_MAX;
        let mut waited_for: Vec<ControllerKey> = Vec::new();
        loop {
            let decision = self.decide_now(request);
            let Outcome::Pending(key) = &decision.report.outcome else { return decision };
            // What was waited for once is not there.
            if waited_for.contains(key) || waited_for.len() >= LOOKUPS_MAX {
                return decision;
            }
            if tokio::time::timeout_at(deadline, self.views.resolve(key)).await.is_err() {
                return decision;
            }
            waited_for.push(key.clone());
        }
    }

    fn decide_now(&self, request: &Request) -> Decision {
        let View { vpas, controllers, limit_ranges } = self.views.view();
        let snapshot = Snapshot {
            vpas: &*vpas,
            controllers: &*controllers,
            limit_ranges: &*limit_ranges,
            config: &self.config,
        };
        admit::review(request, &snapshot)
    }
}

async fn serve(State(webhook): State<Arc<Webhook>>, request: HttpRequest) -> Response {
    let start = Instant::now();
    // The API server sends exactly `application/json`. Anything else gets the answer that the Go suite gives, an empty
    // one, which the API server takes for a failed call.
    if !is_json(request.headers()) {
        webhook.metrics.refused("content_type", start.elapsed());
        tracing::warn!(content_type = ?request.headers().get(CONTENT_TYPE), "request is not application/json");
        return Response::new(Body::empty());
    }
    let Ok(_slot) = webhook.slots.acquire().await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".into());
    };
    let body = match tokio::time::timeout(READ_MAX, read(request.into_body())).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => {
            webhook.metrics.refused(refusal.reason, start.elapsed());
            return text(refusal.status, refusal.text.into());
        }
        Err(_) => {
            webhook.metrics.refused("timeout", start.elapsed());
            return text(StatusCode::REQUEST_TIMEOUT, "request took too long\n".into());
        }
    };
    webhook.metrics.step(Step::ReadRequest, start.elapsed());
    let answer = answer(&webhook, &body, start).await;
    webhook.metrics.step(Step::Total, start.elapsed());
    text(StatusCode::OK, answer)
}

async fn answer(webhook: &Webhook, body: &[u8], start: Instant) -> Vec<u8> {
    let began = Instant::now();
    let request = match admit::decode(body) {
        Ok(request) => request,
        Err(error) => {
            // Not to be blocked by what this webhook does not understand.
            tracing::warn!(%error, "review cannot be read; the object is admitted as it is");
            webhook.metrics.refused("decode", start.elapsed());
            return response::admit("");
        }
    };
    let decision = webhook.decide(&request).await;
    webhook.metrics.step(Step::Admit, began.elapsed());
    log(&request, &decision);
    let began = Instant::now();
    let answer = response::encode(&request.uid, &decision).unwrap_or_else(|error| {
        tracing::error!(%error, "answer cannot be written; the object is admitted as it is");
        response::admit(&request.uid)
    });
    webhook.metrics.step(Step::BuildResponse, began.elapsed());
    webhook.metrics.reviewed(&decision.report, start.elapsed());
    answer
}

fn log(request: &Request, decision: &Decision) {
    let Request { uid, namespace, name, resource, .. } = request;
    let resource = resource.resource.as_str();
    let vpa = decision.report.vpa.as_deref();
    match &decision.report.outcome {
        Outcome::Applied => {
            tracing::debug!(uid, namespace, name, resource, vpa, patches = decision.patches.len(), "patched");
        }
        Outcome::Skipped(reason) => tracing::debug!(uid, namespace, name, resource, reason, "left as it is"),
        Outcome::Denied => {
            let message = decision.denial.as_ref().map(admit::Denial::message);
            tracing::info!(uid, namespace, name, resource, message, "refused");
        }
        Outcome::Failed(reason) => {
            tracing::warn!(
                uid,
                namespace,
                name,
                resource,
                vpa,
                reason,
                "cannot be reviewed, admitted as it is"
            );
        }
        Outcome::Pending(key) => {
            tracing::warn!(uid, namespace, name, resource, controller = %key, "controller not known in time, admitted as it is");
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

struct Refusal {
    status: StatusCode,
    reason: &'static str,
    text: &'static str,
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            reason: "too_large",
            text: "request payload too large\n",
        }),
        Err(_) => {
            Err(Refusal { status: StatusCode::BAD_REQUEST, reason: "body", text: "body cannot be read\n" })
        }
    }
}

fn text(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
