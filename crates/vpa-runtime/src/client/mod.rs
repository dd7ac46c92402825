//! The way to the API server.
//!
//! The client library's own retry would try an eviction that a disruption budget blocks up to 16 times, so it is off, and
//! requests pass these layers instead, outermost first:
//! 1. [`layers`] `Observe` counts attempts and measures requests;
//! 2. `Retry` tries again, by [`CallKind`]: reads and patches after 429, 5xx and broken connections; never
//!    evictions and lease writes, whose callers have their own rules;
//! 3. `Limit` waits for `--kube-api-qps`, so each attempt is paid for;
//! 4. `Paced` tells the [`Pacer`](crate::Pacer) how attempts at writes were answered;
//! 5. `Deadline` bounds an attempt from the first byte sent to the last byte of the answer.

mod call;
mod layers;
mod outside;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

pub use call::CallKind;
pub use layers::{AnswerBody, Deadline, Limit, Observe, Paced, Rate, Retry, Stack, stack};
pub use outside::{Login, Outside};

use crate::Error;
use crate::flags::KubeFlags;
use crate::metrics::RuntimeMetrics;
use crate::pace::Pacer;

/// How long a connection may take to be made; a healthy one takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may stay without a byte before it counts as dead. Longer than the five minutes after
/// which the watches here end by themselves ([`crate::store::WATCH_SECONDS`]).
const READ_TIMEOUT: Duration = Duration::from_secs(330);

/// Bytes of an answer that say what went wrong where it is not an API status; a proxy's whole page says no more.
const FAILURE_TEXT_MAX: usize = 500;

/// A cluster and the way to it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    /// The client, with all layers.
    pub client: Client,
    /// Address of the API server.
    pub url: String,
    /// Its version (`v1.36.3`); empty where it was not asked.
    pub version: String,
    /// Namespace of the kubeconfig's context or of the service account.
    pub default_namespace: String,
    /// How many writes may be under way.
    pub pace: Pacer,
}

impl Cluster {
    /// Whether the API server is of this version or a later one; not where its version is not known.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        version(&self.version).is_some_and(|version| version >= (major, minor))
    }
}

/// Major and minor number of a version, whatever a distribution adds to it (`v1.34.1+k3s1`, `v1.33-gke.5`).
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.trim_start_matches('v').split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Makes rustls use its `ring` provider, process-wide; a second provider in the process would make rustls panic at the
/// first handshake if none was chosen.
pub fn install_crypto() {
    // An error says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client for the cluster that the flags name, for the program `user_agent`. Sends nothing yet.
///
/// # Errors
/// [`Error::ClusterConfig`] where nothing usable was found.
pub async fn connect(
    flags: &KubeFlags,
    user_agent: &str,
    metrics: &Arc<RuntimeMetrics>,
) -> Result<Cluster, Error> {
    install_crypto();
    let mut config = config(flags).await?;
    let agent = http::HeaderValue::from_str(user_agent).map_err(|e| Error::ClusterConfig(e.to_string()))?;
    config.headers.push((http::header::USER_AGENT, agent));
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    let url = config.cluster_url.to_string();
    let default_namespace = config.default_namespace.clone();
    let rate = Rate::new(flags.kube_api_qps, flags.kube_api_burst)?;
    let pace = Pacer::default();
    let inner = ClientBuilder::try_from(config).map_err(|e| Error::ClusterConfig(chain(&e)))?;
    let client = inner
        .with_layer(&tower::layer::layer_fn(|service| {
            stack(service, rate.clone(), pace.clone(), metrics.clone())
        }))
        .build();
    Ok(Cluster { client, url, version: String::new(), default_namespace, pace })
}

async fn config(flags: &KubeFlags) -> Result<Config, Error> {
    let Some(path) = flags.kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty()) else {
        return Config::infer().await.map_err(|e| Error::ClusterConfig(chain(&e)));
    };
    let failed = |e: &kube::config::KubeconfigError| {
        Error::ClusterConfig(format!("--kubeconfig {}: {}", path.display(), chain(e)))
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|e| failed(&e))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(|e| failed(&e))
}

/// The body of an answer, as it came: what is decoded from it borrows from it.
///
/// # Errors
/// The request failed, or was answered by a code of failure.
pub async fn fetch(client: &Client, request: http::Request<Vec<u8>>) -> Result<Bytes, kube::Error> {
    let (head, body) = request.into_parts();
    let answer = client.send(http::Request::from_parts(head, kube::client::Body::from(body))).await?;
    let code = answer.status();
    // The layers have read it already: this takes it over without a copy.
    let bytes = answer.into_body().collect_bytes().await?;
    if code.is_success() {
        return Ok(bytes);
    }
    let status = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(FAILURE_TEXT_MAX)]).into_owned();
        kube::core::Status::failure(&text, "").with_code(code.as_u16())
    });
    Err(kube::Error::Api(Box::new(status)))
}

/// Makes a call, and again after each of these waits for as long as `again` says that its error may pass. For calls of kinds
/// that the client does not repeat by itself, since not each of the kind may be sent twice; this one may.
///
/// # Errors
/// That of the last call.
pub async fn repeat<T, F>(
    waits: &[Duration],
    again: impl Fn(&kube::Error) -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, kube::Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    for wait in waits {
        match call().await {
            Err(error) if again(&error) => tokio::time::sleep(*wait).await,
            result => return result,
        }
    }
    call().await
}

/// Whether the API server answered that it failed itself.
pub fn server_failed(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code >= 500)
}

/// An error with its causes, without those that the text before already repeats.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    // Names of the client library's own layers say nothing to a reader.
    let error = match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => {
            return format!("{} {}: {}", status.code, status.reason, status.message);
        }
        Some(kube::Error::Service(inner)) => &**inner as &(dyn std::error::Error + 'static),
        _ => error,
    };
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// What an API error means to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 404: the object, or its kind, is not there.
    NotFound,
    /// 409: it changed since it was read, or exists already.
    Conflict,
    /// 403: not allowed, or refused by an admission check.
    Forbidden(String),
    /// 429: refused for now; on evictions, by a disruption budget.
    TooMany(String),
    /// 422 and 400: will never be accepted as it is.
    Invalid(String),
    /// No answer, or an error on the other side.
    Unavailable(String),
}

impl Failure {
    /// Reads an error of the client.
    pub fn of(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Unavailable(chain(error)) };
        let text = status.message.clone();
        match status.code {
            404 => Self::NotFound,
            409 => Self::Conflict,
            403 => Self::Forbidden(text),
            429 => Self::TooMany(text),
            400 | 422 => Self::Invalid(text),
            code => Self::Unavailable(format!("{code} {}: {text}", status.reason)),
        }
    }
}

#[cfg(test)]
mod tests;
