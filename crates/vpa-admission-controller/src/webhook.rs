//! Reviews over HTTP.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use axum::routing::post;
use futures::future::BoxFuture;
use tokio::time::Instant;
use vpa_core::admit::{self, Config, Decision, Outcome, Report, Request, Reviewed, Snapshot, Surroundings};
use vpa_core::policy::LimitRangeSource;
use vpa_core::target::{ControllerKey, ControllerSource, VpaSource};
use vpa_runtime::flags::GoDuration;

use crate::body::Reader;
use crate::load::Load;
use crate::metrics::{Step, WebhookMetrics};
use crate::response;

/// Longest wait for controllers that are looked up for the first time, all look-ups of a review together.
const LOOKUP_MAX: Duration = Duration::from_secs(2);

/// Timeout of a caller that does not say its own: the API server's default. It tells the one in force with each call.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

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
    /// What warnings about a VPA look at; none for the warnings of the Go suite alone.
    pub surroundings: Option<Arc<dyn Surroundings + Send + Sync>>,
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
    bodies: Reader,
    load: Load,
}

impl Webhook {
    /// A webhook that decides against `views`.
    pub fn new(views: Arc<dyn Views>, config: Config, metrics: WebhookMetrics) -> Self {
        Self { views, config, metrics, bodies: Reader::default(), load: Load::default() }
    }

    /// How busy it is; [`Load::measure`] has to run for it to know of a processor that does not keep up.
    pub fn load(&self) -> Load {
        self.load.clone()
    }

    /// Its HTTP side: `POST /`, and nothing else.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().route("/", post(serve)).with_state(self)
    }

    /// Decides a review; waits for controllers that are not known yet, for `patience` at most.
    pub async fn decide(&self, request: &Request<'_>, patience: Duration) -> Decision {
        let deadline = Instant::now() + patience.min(LOOKUP_MAX);
        let mut waited_for: Vec<ControllerKey> = Vec::new();
        let mut waiting = None;
        loop {
            let decision = self.decide_now(request);
            let Outcome::Pending(key) = &decision.report.outcome else { return decision };
            // What was waited for once is not there.
            if waited_for.contains(key) || waited_for.len() >= LOOKUPS_MAX {
                return decision;
            }
            if waiting.is_none() {
                waiting = self.load.wait();
            }
            if waiting.is_none() || tokio::time::timeout_at(deadline, self.views.resolve(key)).await.is_err()
            {
                return decision;
            }
            waited_for.push(key.clone());
        }
    }

    fn decide_now(&self, request: &Request<'_>) -> Decision {
        let View { vpas, controllers, limit_ranges, surroundings } = self.views.view();
        let snapshot = Snapshot {
            vpas: &*vpas,
            controllers: &*controllers,
            limit_ranges: &*limit_ranges,
            surroundings: surroundings.as_deref().map(|surroundings| surroundings as &dyn Surroundings),
            config: &self.config,
        };
        catch_unwind(AssertUnwindSafe(|| admit::review(request, &snapshot))).unwrap_or_else(|_| {
            // There is no known way to get here. A pod must not pay for one that is not known.
            let Request { uid, namespace, name, .. } = request;
            tracing::error!(uid, namespace, name, "the review crashed; the object is admitted as it is");
            let outcome = Outcome::Failed("the review crashed".to_owned());
            let report = Report { reviewed: Reviewed::Other, outcome, vpa: None };
            Decision { denial: None, patches: Vec::new(), warnings: Vec::new(), report }
        })
    }

    /// Answers a review.
    async fn answer(&self, body: &[u8], start: Instant, timeout: Duration) -> Vec<u8> {
        let request = match admit::decode(body) {
            Ok(request) => request,
            Err(error) => {
                // Not to be blocked by what this webhook does not understand.
                tracing::warn!(%error, "review cannot be read; the object is admitted as it is");
                self.metrics.refused("decode", start.elapsed());
                return response::admit("");
            }
        };
        let took = start.elapsed();
        if self.load.too_much() || took > timeout / 2 {
            // An answer that comes too late is worth less than none.
            let Request { namespace, name, .. } = &request;
            tracing::debug!(namespace, name, lag = ?self.load.lag(), "too busy, admitted as it is");
            self.metrics.refused("overload", took);
            return response::admit(&request.uid);
        }
        let began = Instant::now();
        let decision = self.decide(&request, timeout / 2 - took).await.settled();
        self.metrics.step(Step::Admit, began.elapsed());
        log(&request, &decision);
        let began = Instant::now();
        let answer = response::encode(&request.uid, &decision).unwrap_or_else(|error| {
            tracing::error!(%error, "answer cannot be written; the object is admitted as it is");
            response::admit(&request.uid)
        });
        self.metrics.step(Step::BuildResponse, began.elapsed());
        self.metrics.reviewed(&decision.report, start.elapsed());
        answer
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
    let timeout = timeout(request.uri());
    let body = match webhook.bodies.read(request.into_body()).await {
        Ok(body) => body,
        Err(refusal) => {
            webhook.metrics.refused(refusal.reason, start.elapsed());
            return text(refusal.status, refusal.text.into());
        }
    };
    webhook.metrics.step(Step::ReadRequest, start.elapsed());
    let answer = webhook.answer(&body.bytes, start, timeout).await;
    webhook.metrics.step(Step::Total, start.elapsed());
    text(StatusCode::OK, answer)
}

/// How long the caller waits for the answer, which the API server says in the query: `?timeout=10s`.
fn timeout(uri: &Uri) -> Duration {
    let parameters = uri.query().unwrap_or_default().split('&');
    let given = parameters.filter_map(|parameter| parameter.strip_prefix("timeout=")).next_back();
    let given = given.and_then(|text| text.parse::<GoDuration>().ok()).map(Duration::from);
    given.filter(|timeout| !timeout.is_zero()).unwrap_or(TIMEOUT_DEFAULT)
}

fn log(request: &Request<'_>, decision: &Decision) {
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

fn text(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_timeout_is_read_from_the_query() {
        let seconds = |uri: &'static str| timeout(&Uri::from_static(uri)).as_secs_f64();
        assert_eq!(seconds("/?timeout=5s"), 5.0);
        assert_eq!(seconds("/?a=b&timeout=500ms"), 0.5);
        for other in ["/", "/?timeout=", "/?timeout=soon", "/?timeout=0s", "/?timeout=-1s"] {
            assert_eq!(seconds(other), 10.0, "{other}");
        }
    }
}
