//! The HTTP server for metrics and health on `--address`.
//!
//! - `/metrics`: all metrics in Prometheus' text format;
//! - `/health-check`: as in the Go suite, `OK`, or 500 when the main loop has been silent for longer than it may;
//! - `/healthz`: the process answers and its main loop is not stuck: for liveness;
//! - `/readyz`: all that the program needs is there, with one line for each check: for readiness;
//! - `/debug/tasks` with `--profiling`: what the program is doing;
//! - `/debug/…` with `--profiling`: what it knows, as JSON ([`Pages`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::flags::ListenAddress;
use crate::{Error, metrics};

mod pages;

pub use pages::{Asked, Pages};

type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// How a program feels. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<Vitals>>);

/// What health is judged by.
#[derive(Default)]
struct Vitals {
    /// Longest silence of the main loop, once it is watched, and its last sign of life.
    activity: Option<(Duration, Instant)>,
    checks: BTreeMap<String, Check>,
    phase: String,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Health")
    }
}

impl Health {
    /// Starts to watch the main loop: silence for longer than `timeout` makes `/health-check` and `/healthz` fail. The Go
    /// suite allows five intervals.
    pub fn monitor(&self, timeout: Duration) {
        self.0.lock().activity = Some((timeout, Instant::now()));
    }

    /// The main loop gives a sign of life.
    pub fn active(&self) {
        if let Some((_, last)) = &mut self.0.lock().activity {
            *last = Instant::now();
        }
    }

    /// Adds something that has to be in order before the program counts as ready, or replaces it. The check is called
    /// for each request and has to be quick.
    pub fn check(
        &self,
        name: impl Into<String>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.0.lock().checks.insert(name.into(), Box::new(check));
    }

    /// What the program is doing, for `/readyz` and `/debug/tasks`.
    pub fn phase(&self, phase: impl Into<String>) {
        self.0.lock().phase = phase.into();
    }

    /// Whether the main loop has shown life in time.
    ///
    /// # Errors
    /// For how long it has not.
    pub fn alive(&self) -> Result<(), Duration> {
        match self.0.lock().activity {
            Some((timeout, last)) if last.elapsed() > timeout => Err(last.elapsed()),
            _ => Ok(()),
        }
    }

    /// Whether all checks hold, and one line for each. A program that has entered no check yet is still starting.
    pub fn ready(&self) -> (bool, String) {
        let state = self.0.lock();
        let mut ready = !state.checks.is_empty();
        let mut text = String::new();
        for (name, check) in &state.checks {
            match check() {
                Ok(()) => text.push_str(&format!("[+] {name} ok\n")),
                Err(reason) => {
                    ready = false;
                    text.push_str(&format!("[-] {name} {reason}\n"));
                }
            }
        }
        text.push_str(if ready { "ready" } else { "not ready" });
        if !state.phase.is_empty() {
            text.push_str(&format!(": {}", state.phase));
        }
        text.push('\n');
        (ready, text)
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    registry: Registry,
    health: Health,
    pages: Pages,
}

/// The routes of the server; those under `/debug` only where `pages` are given.
pub fn router(registry: Registry, health: Health, pages: Option<Pages>) -> Router {
    let mut router = Router::new()
        .route("/metrics", get(serve_metrics))
        .route("/health-check", get(health_check))
        .route("/healthz", get(healthz))
        .route("/livez", get(healthz))
        .route("/readyz", get(readyz));
    if pages.is_some() {
        router = router.route("/debug/tasks", get(debug_tasks)).route("/debug/{page}", get(pages::serve));
    }
    router.with_state(Shared { registry, health, pages: pages.unwrap_or_default() })
}

async fn serve_metrics(State(shared): State<Shared>) -> Response {
    match metrics::render(&shared.registry) {
        Ok(text) => {
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn health_check(State(shared): State<Shared>) -> Response {
    match shared.health.alive() {
        Ok(()) => "OK".into_response(),
        Err(silence) => {
            let text = format!("Error: last activity more than {:.0} s ago\n", silence.as_secs_f64());
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

async fn healthz(State(shared): State<Shared>) -> Response {
    match shared.health.alive() {
        Ok(()) => "ok".into_response(),
        Err(silence) => {
            let text = format!("the main loop has been silent for {:.0} s\n", silence.as_secs_f64());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let (ready, text) = shared.health.ready();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

async fn debug_tasks(State(shared): State<Shared>) -> Response {
    let metrics = tokio::runtime::Handle::current().metrics();
    let (_, health) = shared.health.ready();
    format!(
        "workers {}\nalive tasks {}\nqueued {}\n{health}",
        metrics.num_workers(),
        metrics.num_alive_tasks(),
        metrics.global_queue_depth()
    )
    .into_response()
}

/// Listens on the address.
///
/// # Errors
/// [`Error::Listen`] where none of its addresses can be listened on.
pub async fn listen(address: &ListenAddress) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address: address.to_string(), source };
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for candidate in address.candidates().await.map_err(failed)? {
        match TcpListener::bind(candidate).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Serves until `stop`; then requests under way are finished.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Address that a listener got.
pub(crate) fn local(listener: &TcpListener) -> Option<SocketAddr> {
    listener.local_addr().ok()
}

#[cfg(test)]
mod tests;
