//! A webhook on a real socket, and a client that says exactly what it is told.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use vpa_admission_controller::certificates::{Certificates, Source};
use vpa_admission_controller::metrics::WebhookMetrics;
use vpa_admission_controller::tls::{self, Requirements};
use vpa_admission_controller::webhook::{View, Views, Webhook};
use vpa_api::VerticalPodAutoscaler;
use vpa_core::admit::{Config, Gates};
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::target::{Controller, ControllerKey, ControllerSource, Lookup, Selector, VpaIndex, VpaSource};

/// A cluster with one StatefulSet and its VPA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known;

impl ControllerSource for Known {
    fn get(&self, key: &ControllerKey) -> Lookup {
        Lookup::Found(Arc::new(Controller {
            key: key.clone(),
            uid: None,
            owner: None,
            selector: Ok(Selector::All([].into())),
            replicas: None,
            containers: None,
        }))
    }
}

impl LimitRangeSource for Known {
    fn limit_ranges(&self, _: &str) -> Arc<LimitRanges> {
        Arc::default()
    }
}

impl Views for Known {
    fn view(&self) -> View {
        let vpa = json!({
            "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler",
            "metadata": { "name": "web", "namespace": "ns" },
            "spec": { "targetRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web" } },
            "status": { "recommendation": { "containerRecommendations": [
                { "containerName": "main", "target": { "cpu": "250m" } },
            ] } },
        });
        View {
            vpas: Arc::new(VpaIndex::new([Arc::new(serde_json::from_value(vpa).unwrap())])),
            controllers: Arc::new(*self),
            limit_ranges: Arc::new(*self),
            surroundings: None,
        }
    }

    fn resolve<'a>(&'a self, _: &'a ControllerKey) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

/// A cluster whose VPAs cannot be looked up without a crash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crashing;

impl VpaSource for Crashing {
    fn any_in(&self, _: &str) -> bool {
        true
    }

    #[allow(clippy::panic, reason = "what is tested is that it does not matter")]
    fn targeting(&self, _: &str, _: &str, _: &str) -> Vec<Arc<VerticalPodAutoscaler>> {
        panic!("a mistake in the code")
    }
}

impl Views for Crashing {
    fn view(&self) -> View {
        View { vpas: Arc::new(*self), ..Known.view() }
    }

    fn resolve<'a>(&'a self, _: &'a ControllerKey) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

/// A webhook that serves until `stop`.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) registry: prometheus::Registry,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

/// Serves a webhook that decides against `views`, with these certificates.
pub(crate) async fn serve(views: impl Views, certificates: &Certificates) -> Serving {
    let config = Requirements::new("", "").unwrap().server(certificates.clone()).unwrap();
    let registry = prometheus::Registry::new();
    let metrics = WebhookMetrics::new(&registry).unwrap();
    let gates = Gates { in_place: true, per_vpa_config: true, cpu_startup_boost: true };
    let settings = Config { gates, max_allowed_cpu_boost: None };
    let webhook = Arc::new(Webhook::new(Arc::new(views), settings, metrics));
    tokio::spawn(webhook.load().measure());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let task = tokio::spawn(tls::serve(listener, config, webhook.router(), stop.clone()));
    Serving { address, registry, stop, task }
}

/// A webhook that serves; it stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    authority: Vec<u8>,
    registry: prometheus::Registry,
    _stop: DropGuard,
}

/// Starts a webhook that decides against `views`, with a certificate of its own for `localhost`.
pub(crate) async fn start(views: impl Views) -> Server {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(file("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let (certificate, key, authority) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
    let certificates = Certificates::load(Source::Files { certificate, key, authority }).unwrap();
    let Serving { address, registry, stop, task: _ } = serve(views, &certificates).await;
    Server { address, authority: made.cert.pem().into_bytes(), registry, _stop: stop.drop_guard() }
}

impl Server {
    /// Requests that were not reviewed for this reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        let page = vpa_runtime::metrics::render(&self.registry).unwrap();
        let name = format!("vpa_admission_controller_requests_refused_total{{reason=\"{reason}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default()
    }
}

/// A connection to a server that is called `host`, by one who trusts `bundle` alone.
pub(crate) async fn connect(
    address: SocketAddr,
    host: &str,
    bundle: &[u8],
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())
}

/// A client that trusts one server.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    authority: Vec<u8>,
}

impl Client {
    pub(crate) fn of(server: &Server) -> Self {
        Self { address: server.address, authority: server.authority.clone() }
    }

    pub(crate) async fn connect(&self) -> Result<TlsStream<TcpStream>, String> {
        connect(self.address, "localhost", &self.authority).await
    }

    /// Sends a text as it is on a connection of its own and reads to the end.
    pub(crate) async fn exchange(&self, text: &str) -> Result<String, String> {
        let mut stream = self.connect().await?;
        // A server may answer and end before it has read all.
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.flush().await;
        Ok(read(&mut stream).await)
    }
}

/// Everything up to the end of a connection. Some servers close without a TLS goodbye; what was answered counts.
pub(crate) async fn read(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// One answer with a length, on a connection that stays.
pub(crate) async fn read_one(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    while !complete(&answer) {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection ended");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// A review of a new pod of the StatefulSet.
pub(crate) fn review(uid: &str) -> String {
    json!({ "request": {
        "uid": uid, "operation": "CREATE", "namespace": "ns", "name": "web-0",
        "resource": { "version": "v1", "resource": "pods" }, "requestKind": { "kind": "Pod" },
        "object": {
            "metadata": { "name": "web-0", "namespace": "ns", "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "w", "controller": true },
            ] },
            "spec": { "containers": [{ "name": "main" }] },
        },
    } })
    .to_string()
}
