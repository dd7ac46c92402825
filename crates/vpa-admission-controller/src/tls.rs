//! The HTTPS server.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use vpa_runtime::FlagError;

use crate::certificates::Certificates;
use crate::connections::{CONNECTIONS_MAX, Connections, Place};

/// Longest time of a handshake. On a network between an API server and a node it takes milliseconds.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Longest time from the first byte of a request's head to its last, and of silence between requests of a connection.
/// API servers keep connections for 90 s when idle.
const HEAD_MAX: Duration = Duration::from_secs(120);

/// Longest wait for requests under way when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// Longest time that a connection takes to leave, with the request that may be on its way in.
const LEAVE_MAX: Duration = Duration::from_secs(10);

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
            other => {
                return Err(FlagError::new(
                    "min-tls-version",
                    other,
                    "tls1_2 or tls1_3; older ones are not safe",
                ));
            }
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
                    let known = known.join(", ");
                    let allowed = format!("{known}; suites with CBC or without forward secrecy are not safe");
                    return Err(FlagError::new("tls-ciphers", name, allowed));
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
    let connections = Connections::new(CONNECTIONS_MAX, stop.clone());
    let mut refused = false;
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
        let Some(place) = connections.enter() else {
            if !std::mem::replace(&mut refused, true) {
                tracing::warn!(
                    connections = CONNECTIONS_MAX,
                    "all connections are at work; new ones are refused"
                );
            }
            continue;
        };
        refused = false;
        tokio::spawn(connection(stream, acceptor.clone(), router.clone(), place));
    }
    drop(listener);
    if !connections.wait_none(DRAIN_MAX).await {
        let connections = connections.count();
        tracing::warn!(connections, "requests were still under way when the server stopped");
    }
}

/// Serves one connection until its client ends it, its place is needed or the server stops.
async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, place: Place) {
    let stream = tokio::select! {
        () = place.ended() => return,
        stream = handshake(stream, acceptor) => stream,
    };
    let Some(stream) = stream else { return };
    let place = Arc::new(place);
    let service = service_fn({
        let place = place.clone();
        move |request| {
            let (router, place) = (router.clone(), place.clone());
            async move {
                let _under_way = place.request();
                router.oneshot(request).await
            }
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => Ok(ended),
        () = place.ended() => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(LEAVE_MAX, served).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_) => tracing::debug!("connection did not end in time"),
    }
}

/// Agrees on keys with a client; `None` where that fails or takes too long.
async fn handshake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    // Answers are small and awaited; without this the last packet of each may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        // A client that does not trust the certificate shows here, and a port scan as well.
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Source;

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
        for version in ["tls1_0", "tls1_1", "tls1_4", "TLS1_2", "1.2"] {
            let error = Requirements::new(version, "").unwrap_err().to_string();
            assert!(error.contains("min-tls-version") && error.contains("tls1_2 or tls1_3"), "{error}");
        }
        for suite in
            ["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-SHA", "a"]
        {
            assert!(Requirements::new("", suite).is_err(), "{suite}");
        }
    }

    /// Names of TLS 1.3 alone leave nothing for TLS 1.2, in Go as here; blanks count for nothing.
    #[test]
    fn suites_of_tls_1_3_are_always_there() {
        let only_13 = Requirements::new("tls1_2", " , :TLS_AES_128_GCM_SHA256,").unwrap();
        assert!(only_13.suites.iter().all(is_13) && only_13.suites.len() == 3);
        let certificates = Certificates::load(Source::SelfMade(vec!["localhost".to_owned()])).unwrap();
        assert!(only_13.server(certificates).is_ok());
    }
}
