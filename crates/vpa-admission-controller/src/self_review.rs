//! A review that the program sends to itself, as the API server would: over TLS, to its own listener, trusting what
//! API servers trust. While it is not answered as it should be, the webhook does not work, whatever else looks well.
//!
//! The review is about the deletion of a VPA. API servers never ask about one (the webhook configuration names creations
//! and updates only), it is always allowed, it runs through the reading, the decision and the answer like any other,
//! and it counts neither among the pods nor as a failure. A mark by which the program would know its own review (a
//! header, say) would be one that everybody can set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificates::Served;
use crate::certificates::x509::{self, Trust};

/// Longest time from the first packet to the last byte of the answer. It takes a few milliseconds; API servers that wait
/// for this long are close to giving up.
pub const REVIEW_MAX: Duration = Duration::from_secs(5);

/// Longest answer that is read; a plain one has about a hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What is wrong with the webhook.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// There is nothing to call it by.
    #[error("the certificate names no host (subjectAltName), so API servers cannot trust it")]
    NoHost,
    /// Its host is neither a name nor an address.
    #[error("the webhook's host {0:?} is neither a name nor an address")]
    Host(String),
    /// Nobody listens.
    #[error("the webhook cannot be reached at {address}: {source}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its certificate is not trusted.
    #[error("API servers cannot trust the webhook as {host}: {source}")]
    Tls {
        /// The name by which they call it.
        host: String,
        /// What the TLS library said.
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("a review to the webhook itself failed: {0}")]
    Http(String),
    /// The answer is not the one that there is to that review.
    #[error("a review to the webhook itself was answered with {0}")]
    Answer(String),
    /// There was no answer.
    #[error("a review to the webhook itself was not answered within {0:?}")]
    Timeout(Duration),
}

/// Whom to call, and by which trust.
#[derive(Clone, Debug)]
pub struct SelfReview {
    listener: SocketAddr,
    path: String,
    /// None where nobody here knows it: then a name that the certificate has.
    host: Option<String>,
    namespace: String,
}

impl SelfReview {
    /// Reviews to the listener at this address, which API servers know as `host`. `namespace` is this program's.
    pub fn new(listener: SocketAddr, host: Option<String>, namespace: &str) -> Self {
        Self { listener, path: "/".to_owned(), host, namespace: namespace.to_owned() }
    }

    /// Sends a review. `bundle` is what API servers trust, in PEM; where it is empty, they are taken to trust the
    /// certificate that is served, since nobody here knows better. At most [`REVIEW_MAX`], and at most `patience`.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn send(&self, served: &Served, bundle: &[u8], patience: Duration) -> Result<(), Broken> {
        let patience = patience.min(REVIEW_MAX);
        tokio::time::timeout(patience, self.exchange(served, bundle))
            .await
            .unwrap_or(Err(Broken::Timeout(patience)))
    }

    async fn exchange(&self, served: &Served, bundle: &[u8]) -> Result<(), Broken> {
        let host = match &self.host {
            Some(host) => host.clone(),
            None => own_host(served).ok_or(Broken::NoHost)?,
        };
        let name = ServerName::try_from(host.clone()).map_err(|_| Broken::Host(host.clone()))?;
        let mut anchors = x509::split(bundle).unwrap_or_default();
        if anchors.is_empty() {
            anchors.extend(served.leaf().cloned());
        }
        let stream = self.connect().await?;
        let stream = TlsConnector::from(Arc::new(client(Trust::new(anchors))?))
            .connect(name, stream)
            .await
            .map_err(|source| Broken::Tls { host: host.clone(), source })?;
        let uid = uid();
        let body = ask(TokioIo::new(stream), self.request(&host, &uid)?).await?;
        check(&body, &uid)
    }

    /// A connection of its own each time, as one that is kept would not tell whether others can still be made.
    async fn connect(&self) -> Result<TcpStream, Broken> {
        let mut last = None;
        for address in addresses(self.listener) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(source) => last = Some(Broken::Connect { address, source }),
            }
        }
        Err(last.unwrap_or(Broken::NoHost))
    }

    fn request(&self, host: &str, uid: &str) -> Result<http::Request<Full<Bytes>>, Broken> {
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        http::Request::post(format!("{}?timeout={}s", self.path, REVIEW_MAX.as_secs()))
            .header(http::header::HOST, host)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(review(uid, &self.namespace).to_string())))
            .map_err(|error| Broken::Http(error.to_string()))
    }
}

/// Where to reach a listener from within the same host.
fn addresses(listener: SocketAddr) -> Vec<SocketAddr> {
    let at = |address: IpAddr| SocketAddr::new(address, listener.port());
    match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![at(Ipv4Addr::LOCALHOST.into())],
        // It listens to IPv4 as well, and in some containers that is all that loopback has.
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![at(Ipv6Addr::LOCALHOST.into()), at(Ipv4Addr::LOCALHOST.into())]
        }
        _ => vec![listener],
    }
}

/// A host that the certificate is for.
fn own_host(served: &Served) -> Option<String> {
    let names = x509::facts(served.leaf()?).ok()?.names;
    // A name with a star stands for any label there.
    names.first().map(|name| name.replacen("*.", "webhook.", 1))
}

pub(crate) fn client(trust: Trust) -> Result<ClientConfig, Broken> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Broken::Http(error.to_string()))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(trust)).with_no_client_auth())
}

async fn ask(
    stream: TokioIo<tokio_rustls::client::TlsStream<TcpStream>>,
    request: http::Request<Full<Bytes>>,
) -> Result<Bytes, Broken> {
    let failed = |error: hyper::Error| Broken::Http(error.to_string());
    let (mut sender, connection) = http1::handshake(stream).await.map_err(failed)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| Broken::Http(error.to_string()))?;
        if status != http::StatusCode::OK {
            return Err(Broken::Answer(format!("HTTP status {status}")));
        }
        Ok(body.to_bytes())
    };
    let mut exchange = std::pin::pin!(exchange);
    // Both in this task, so that a timeout ends both.
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(error)),
        },
    }
}

fn review(uid: &str, namespace: &str) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": uid,
            "kind": { "group": vpa_api::names::GROUP, "version": "v1", "kind": "VerticalPodAutoscaler" },
            "requestKind": { "group": vpa_api::names::GROUP, "version": "v1", "kind": "VerticalPodAutoscaler" },
            "resource": { "group": vpa_api::names::GROUP, "version": "v1", "resource": "verticalpodautoscalers" },
            "namespace": namespace,
            "name": "self-review",
            "operation": "DELETE",
            "dryRun": true,
        },
    })
}

fn check(body: &[u8], uid: &str) -> Result<(), Broken> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|error| Broken::Answer(format!("no JSON: {error}")))?;
    let response = &answer["response"];
    if response["uid"] != uid {
        return Err(Broken::Answer(format!("the uid of another review: {}", response["uid"])));
    }
    if response["allowed"] != true {
        return Err(Broken::Answer(format!("a refusal: {}", response["status"]["message"])));
    }
    Ok(())
}

/// A uid that no review had before.
fn uid() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = || RandomState::new().hash_one(std::process::id());
    format!("self-review-{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests;
