//! Layers between the programs and the HTTP client: observe → retry → limit → pace → deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use tokio::time::Instant;
use tower::buffer::Buffer;
use tower::{BoxError, Service, ServiceExt};
use vpa_core::limiter::{Limiter, RateError};
use vpa_core::pace;

use super::CallKind;
use crate::FlagError;
use crate::metrics::RuntimeMetrics;
use crate::pace::Pacer;

/// Requests that may wait for the HTTP client at once; as many as the client library queues itself.
const QUEUE_MAX: usize = 1024;
/// Largest answer that is read into memory. A page of 500 pods of 100 kB is half of it; more is not from an API server
/// whose objects are bounded at 1.5 MB by etcd and whose pages are bounded by us.
const ANSWER_MAX: usize = 100 * 1024 * 1024;
/// First wait before another attempt; doubles with each.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// Longest wait before another attempt, also if the API server's Retry-After asks for longer: by then the caller's next
/// cycle is a better moment.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Body of an answer: all of it, or for a watch the stream.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;
type Answer = Result<Response<AnswerBody>, BoxError>;
type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// `--kube-api-qps` and `--kube-api-burst`; clones share the bucket.
#[derive(Clone, Debug)]
pub struct Rate {
    /// Those who wait queue up at the mutex, first come, first served.
    limiter: Option<Arc<tokio::sync::Mutex<Limiter>>>,
    start: Instant,
}

impl Rate {
    /// A rate a second, 0 for no limit, with a burst of at least 1.
    ///
    /// # Errors
    /// A burst below 1 with a rate, or a rate too slow to be meant.
    pub fn new(per_second: f64, burst: f64) -> Result<Self, FlagError> {
        // A burst beyond 32 bits is cut by the conversion, which saturates.
        let limiter = Limiter::new(per_second, burst as u32).map_err(|error| match error {
            RateError::Burst(_) => {
                FlagError::new("kube-api-burst", burst.to_string(), "at least 1 with --kube-api-qps")
            }
            RateError::Rate(_) => {
                FlagError::new("kube-api-qps", per_second.to_string(), "0 for no limit, or a rate")
            }
        })?;
        Ok(Self::of(limiter))
    }

    /// The rate of a limiter.
    pub fn of(limiter: Limiter) -> Self {
        let limiter = limiter.is_limited().then(|| Arc::new(tokio::sync::Mutex::new(limiter)));
        Self { limiter, start: Instant::now() }
    }

    /// Waits for a token and returns how long that took.
    pub(crate) async fn take(&self) -> Duration {
        let Some(limiter) = &self.limiter else { return Duration::ZERO };
        let began = Instant::now();
        let mut limiter = limiter.lock().await;
        loop {
            let passed = SignedDuration::try_from(self.start.elapsed()).unwrap_or(SignedDuration::MAX);
            let now = Timestamp::UNIX_EPOCH.checked_add(passed).unwrap_or(Timestamp::MAX);
            match limiter.try_take(now) {
                Ok(()) => return began.elapsed(),
                Err(at) => tokio::time::sleep(at.duration_since(now).unsigned_abs()).await,
            }
        }
    }
}

/// All layers, over a queue to a service with futures of type `F`.
pub type Stack<F> = Observe<Retry<Limit<Paced<Deadline<Buffer<Request<Body>, F>>>>>>;

/// All layers on top of `inner`, which many requests at once reach through a queue.
pub fn stack<S, B>(inner: S, rate: Rate, pace: Pacer, metrics: Arc<RuntimeMetrics>) -> Stack<S::Future>
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send + Sync,
{
    let inner = Deadline { inner: Buffer::new(inner, QUEUE_MAX) };
    let inner = Paced { inner, pace };
    let inner = Limit { inner, rate, metrics: metrics.clone() };
    let inner = Retry { inner, metrics: metrics.clone() };
    Observe { inner, metrics }
}

/// Bounds the time of one attempt, to the end of the answer; of a watch, to its head.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> AnswerFuture {
        let kind = CallKind::of(&request);
        let inner = self.inner.clone();
        Box::pin(async move {
            let attempt = async {
                let answer = inner.oneshot(request).await.map_err(Into::into)?;
                let (head, body) = answer.into_parts();
                let body = if kind == CallKind::Watch && head.status.is_success() {
                    body.map_err(Into::into).boxed_unsync()
                } else {
                    let bytes = Limited::new(body, ANSWER_MAX).collect().await?.to_bytes();
                    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
                };
                Ok(Response::from_parts(head, body))
            };
            let limit = kind.deadline();
            tokio::time::timeout(limit, attempt)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs()).into()))
        })
    }
}

/// Tells the pace of writes how each attempt at one was answered.
#[derive(Clone, Debug)]
pub struct Paced<S> {
    inner: S,
    pace: Pacer,
}

impl<S> Service<Request<Body>> for Paced<S>
where
    S: Service<Request<Body>, Response = Response<AnswerBody>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> AnswerFuture {
        let Self { inner, pace } = self.clone();
        Box::pin(async move {
            let kind = CallKind::of(&request);
            let began = Instant::now();
            let answer = inner.oneshot(request).await;
            if kind.sets_the_pace() {
                let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
                pace.answered(match code {
                    0 | 500.. => pace::Answer::Failed,
                    // Of an eviction it speaks of a disruption budget.
                    429 if kind != CallKind::Evict => pace::Answer::Failed,
                    _ => pace::Answer::Given { kind: kind.label(), took: began.elapsed() },
                });
            }
            answer
        })
    }
}

/// Waits for `--kube-api-qps` before each attempt. Leases do not wait: a queue of writes must not cost the leadership under
/// which they are made, nor silence a heartbeat, and leases are a few requests in ten seconds.
#[derive(Clone, Debug)]
pub struct Limit<S> {
    inner: S,
    rate: Rate,
    metrics: Arc<RuntimeMetrics>,
}

impl<S> Service<Request<Body>> for Limit<S>
where
    S: Service<Request<Body>, Response = Response<AnswerBody>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> AnswerFuture {
        let Self { inner, rate, metrics } = self.clone();
        Box::pin(async move {
            if !request.uri().path().starts_with("/apis/coordination.k8s.io/") {
                metrics.throttled_seconds.inc_by(rate.take().await.as_secs_f64());
            }
            inner.oneshot(request).await
        })
    }
}

/// Tries again where that is safe and may help.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    metrics: Arc<RuntimeMetrics>,
}

impl<S> Service<Request<Body>> for Retry<S>
where
    S: Service<Request<Body>, Response = Response<AnswerBody>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> AnswerFuture {
        let Self { inner, metrics } = self.clone();
        Box::pin(async move {
            let kind = CallKind::of(&request);
            let (head, body) = request.into_parts();
            let mut attempt = 1;
            loop {
                // A body that cannot be copied is a stream; none of the programs sends one, and it goes out once.
                let Some(copy) = body.try_clone() else {
                    return inner.oneshot(Request::from_parts(head, body)).await;
                };
                let answer = inner.clone().oneshot(Request::from_parts(head.clone(), copy)).await;
                observe_attempt(&metrics, kind, &answer);
                let again = match &answer {
                    Ok(answer) => kind.retries_code(answer.status().as_u16()),
                    Err(_) => kind.retries_silence(),
                };
                if !again || attempt >= kind.attempts_max() {
                    return answer;
                }
                let asked = answer.as_ref().ok().and_then(|answer| retry_after(answer.headers()));
                tokio::time::sleep(backoff(attempt, asked)).await;
                metrics.retries.with_label_values(&[kind.label()]).inc();
                attempt += 1;
            }
        })
    }
}

fn observe_attempt(metrics: &RuntimeMetrics, kind: CallKind, answer: &Answer) {
    let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
    metrics.requests.with_label_values(&[kind.label(), &code.to_string()]).inc();
}

/// Seconds of a Retry-After header; the API server sends whole seconds, never dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// The wait after the given attempt. The API server's word counts, up to [`BACKOFF_MAX`].
fn backoff(attempt: u32, asked: Option<Duration>) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    asked.unwrap_or(doubled).clamp(BACKOFF_FIRST, BACKOFF_MAX)
}

/// Measures whole requests.
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    metrics: Arc<RuntimeMetrics>,
}

impl<S> Service<Request<Body>> for Observe<S>
where
    S: Service<Request<Body>, Response = Response<AnswerBody>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> AnswerFuture {
        let Self { inner, metrics } = self.clone();
        Box::pin(async move {
            let kind = CallKind::of(&request);
            let timer = metrics.request_seconds.with_label_values(&[kind.label()]).start_timer();
            let target = tracing::enabled!(tracing::Level::DEBUG)
                .then(|| format!("{} {}", request.method(), request.uri()));
            let answer = inner.oneshot(request).await;
            let seconds = timer.stop_and_record();
            if let Some(target) = target {
                let code = answer.as_ref().map_or(StatusCode::SERVICE_UNAVAILABLE, Response::status).as_u16();
                tracing::debug!(request = %target, code, seconds, "answered");
            }
            answer
        })
    }
}
