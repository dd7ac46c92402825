//! The same answers for a real API server: an aggregated API on loopback.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{MetricsStore, PREFIX};

/// Connections served at once; an API server opens a few and keeps them.
const CONNECTIONS_MAX: usize = 64;

/// Time for a TLS handshake, all of it on loopback.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why the metrics API cannot be served or registered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate or key is no PEM.
    #[error("certificate or key of the metrics API: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The certificate and key do not go together.
    #[error("TLS of the metrics API: {0}")]
    Tls(#[from] rustls::Error),
    /// An object of the registration was refused.
    #[error("cannot create {kind} {name}: {source}")]
    Register {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: &'static str,
        /// The API server's answer.
        source: Box<kube::Error>,
    },
}

/// Serves `store` over TLS on `listener` until `stop`. The caller of an aggregated API authenticates itself with a
/// client certificate; it is not asked for here, since the listener is to be on loopback and tells nothing secret.
///
/// # Errors
/// [`ServeError`] if certificate and key (PEM) cannot be used.
pub fn serve(
    listener: TcpListener,
    certificate: &str,
    key: &str,
    store: MetricsStore,
    stop: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, ServeError> {
    let chain = CertificateDer::pem_reader_iter(Cursor::new(certificate)).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_reader(Cursor::new(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), store, stop)))
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, store: MetricsStore, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let slot = slots.clone().acquire_owned().await;
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (tls, store, stop) = (tls.clone(), store.clone(), stop.clone());
        match accepted {
            Ok((stream, _)) => tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = connection(stream, tls, store) => {}
                }
                drop(slot);
            }),
            Err(error) => {
                tracing::warn!(%error, "metrics API cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, store: MetricsStore) {
    let stream = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "metrics API: TLS handshake failed"),
        Err(_) => return tracing::debug!("metrics API: TLS handshake timed out"),
    };
    let service = service_fn(move |request| {
        let response = answer(&store, &request);
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "metrics API: connection ended");
    }
}

fn answer(store: &MetricsStore, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, path) if path.starts_with(PREFIX) => {
            let reply = store.respond(path, request.uri().query());
            (StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), reply.body)
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, json!({ "kind": "Status", "code": 404 }))
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, json!({ "kind": "Status", "code": 405 })),
    };
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// Has the API server pass requests for `metrics.k8s.io` on to `localhost:port`, whose certificate is signed by
/// `authority` (PEM) for the name `metrics.kube-system.svc`.
///
/// # Errors
/// [`ServeError::Register`] if an object is refused.
pub async fn register(client: &Client, port: u16, authority: &str) -> Result<(), ServeError> {
    // A Service without addresses of its own: the API server then dials the external name itself.
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "metrics", "namespace": "kube-system" },
        "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port, "protocol": "TCP" }] },
    });
    let bundle = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, authority);
    let api_service = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": { "name": "v1beta1.metrics.k8s.io" },
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": bundle,
            "service": { "name": "metrics", "namespace": "kube-system", "port": port },
        },
    });
    let core = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service"));
    apply(Api::namespaced_with(client.clone(), "kube-system", &core), "Service", "metrics", &service).await?;
    let gvk = GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService");
    let api = Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk));
    apply(api, "APIService", "v1beta1.metrics.k8s.io", &api_service).await
}

async fn apply(
    api: Api<DynamicObject>,
    kind: &'static str,
    name: &'static str,
    object: &Value,
) -> Result<(), ServeError> {
    let params = PatchParams::apply("vpa-sim").force();
    let applied = api.patch(name, &params, &Patch::Apply(object)).await;
    applied.map(drop).map_err(|source| ServeError::Register { kind, name, source: Box::new(source) })
}
