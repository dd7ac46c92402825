//! The HTTPS server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use vpa_runtime::FlagError;

use crate::certificates::Certificates;

/// Longest time of a handshake. On a network between an API server and a node it takes milliseconds.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Longest time from the first byte of a request's head to its last, and of silence between requests of a connection.
/// API servers keep connections for 90 s when idle.
const HEAD_MAX: Duration = Duration::from_secs(120);

/// Connections at once. Each API server keeps a few dozen; beyond this new ones are refused, so that a flood cannot
/// take the memory of those that matter.
const CONNECTIONS_MAX: usize = 1024;

/// Longest wait for requests under way when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// Pause after the listener failed (out of file descriptors, mostly), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients have to offer.
#[derive(Clone, Debug)]
pub struct Requirements {
    versions: Vec<&'static SupportedProtocolVersion>,
    suites: Vec<SupportedCipherSuite>,
}

impl Requirements {
    /// Reads `--min-tls-version` and `--tls-ciphers`.
    ///
    /// # Errors
    /// A version or suite that is not known, or a suite that is not safe and so not there.
    pub fn new(min_version: &str, ciphers: &str) -> Result<Self, FlagError> {
        let versions: Vec<&'static SupportedProtocolVersion> = match min_version {
            "" | "tls1_2" => vec![&TLS13, &TLS12],
            "tls1_3" => vec![&TLS13],
            other => return Err(FlagError::new("min-tls-version", other, "tls1_2 or tls1_3")),
        };
        let all = ring::ALL_CIPHER_SUITES;
        let names: Vec<&str> =
            ciphers.split([',', ':']).map(str::trim).filter(|name| !name.is_empty()).collect();
        // The suites of TLS 1.3 cannot be chosen from, in Go as here.
        let mut suites: Vec<SupportedCipherSuite> = all.iter().copied().filter(is_13).collect();
        if names.is_empty() {
            suites.extend(all.iter().copied().filter(|suite| !is_13(suite)));
        }
        for name in names {
            match all.iter().find(|suite| iana_name(suite) == name) {
                Some(suite) if is_13(suite) => {}
                Some(suite) => suites.push(*suite),
                None => {
                    let known: Vec<String> =
                        all.iter().filter(|suite| !is_13(suite)).map(iana_name).collect();
                    return Err(FlagError::new("tls-ciphers", name, known.join(", ")));
                }
            }
        }
        Ok(Self { versions, suites })
    }

    /// Settings of a server with this certificate.
    ///
    /// # Errors
    /// The requirements leave no suite for a version.
    pub fn server(&self, certificates: Certificates) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = CryptoProvider { cipher_suites: self.suites.clone(), ..ring::default_provider() };
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&self.versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        Ok(Arc::new(config))
    }
}

fn is_13(suite: &SupportedCipherSuite) -> bool {
    suite.version() == &TLS13
}

/// Name as Go and IANA write it.
fn iana_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

/// Serves until `stop`, then finishes the requests under way.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(config);
    let graceful = Arc::new(GracefulShutdown::new());
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            tracing::warn!(connections = CONNECTIONS_MAX, "too many connections; a new one is refused");
            continue;
        }
        let slot = Slot::take(&connections);
        let handshake = handshake(stream, acceptor.clone(), stop.clone());
        tokio::spawn(connection(handshake, router.clone(), graceful.clone(), slot));
    }
    drop(listener);
    let Some(graceful) = wait_sole(graceful, &connections).await else { return };
    if tokio::time::timeout(DRAIN_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the server stopped");
    }
}

/// Takes the watcher back once no handshake holds it any more; connections hold only what it hands out.
async fn wait_sole(
    mut graceful: Arc<GracefulShutdown>,
    connections: &AtomicUsize,
) -> Option<GracefulShutdown> {
    let deadline = tokio::time::Instant::now() + HANDSHAKE_MAX;
    loop {
        match Arc::try_unwrap(graceful) {
            Ok(graceful) => return Some(graceful),
            Err(shared) => graceful = shared,
        }
        if tokio::time::Instant::now() >= deadline {
            let connections = connections.load(Ordering::Relaxed);
            tracing::warn!(connections, "handshakes were still under way when the server stopped");
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Counts a connection for as long as it lives.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Agrees on keys with a client; `None` where that fails, takes too long or the server stops first.
async fn handshake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    stop: CancellationToken,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    // Answers are small and awaited; without this the last packet of each may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let accepted = tokio::select! {
        () = stop.cancelled() => return None,
        accepted = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)) => accepted,
    };
    match accepted {
        Ok(Ok(stream)) => return Some(stream),
        // A client that does not trust the certificate shows here, and a port scan as well.
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
    None
}

async fn connection(
    handshake: impl Future<Output = Option<tokio_rustls::server::TlsStream<TcpStream>>>,
    router: Router,
    graceful: Arc<GracefulShutdown>,
    _slot: Slot,
) {
    let Some(stream) = handshake.await else { return };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let watched = graceful.watch(served);
    drop(graceful);
    if let Err(error) = watched.await {
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_chosen_by_name() {
        let all = Requirements::new("tls1_2", "").unwrap();
        assert_eq!(all.versions.len(), 2);
        let one =
            Requirements::new("", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:TLS_AES_128_GCM_SHA256").unwrap();
        let tls12: Vec<String> = one.suites.iter().filter(|suite| !is_13(suite)).map(iana_name).collect();
        assert_eq!(tls12, ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
        assert_eq!(Requirements::new("tls1_3", "").unwrap().versions, [&TLS13]);
    }

    #[test]
    fn what_is_not_safe_is_refused_with_what_is() {
        let error = Requirements::new("", "TLS_RSA_WITH_AES_128_CBC_SHA").unwrap_err().to_string();
        assert!(error.contains("TLS_RSA_WITH_AES_128_CBC_SHA"), "{error}");
        assert!(error.contains("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), "{error}");
        assert!(Requirements::new("tls1_1", "").unwrap_err().to_string().contains("min-tls-version"));
    }
}
