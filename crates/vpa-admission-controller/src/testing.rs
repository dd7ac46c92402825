//! For tests: an embedded API server, and a webhook that decides against an empty cluster.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use vpa_core::admit::{Config, Gates};
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::target::{ControllerKey, ControllerSource, Lookup, VpaIndex};
use vpa_runtime::flags::KubeFlags;
use vpa_runtime::{Cluster, Component, Shell};
use vpa_sim::{ApiServer, Fault, FaultAction, Options, Running};

use crate::certificates::Certificates;
use crate::metrics::WebhookMetrics;
use crate::tls::{self, Requirements};
use crate::webhook::{View, Views, Webhook};

pub(crate) const COMPONENT: Component =
    Component { name: "vpa-test", about: "A test.", default_address: ":0", lease_name: None };

/// Namespace of the program.
pub(crate) const NAMESPACE: &str = "kube-system";

/// A cluster of one test's own.
pub(crate) struct Sim {
    /// The API server.
    pub(crate) server: Running,
    /// The way to it.
    pub(crate) cluster: Cluster,
    _files: tempfile::TempDir,
}

impl Sim {
    pub(crate) async fn start() -> Self {
        let server = ApiServer::start(Options::default()).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("kubeconfig");
        server.write_kubeconfig(&path).unwrap();
        let (shell, _) = Shell::new(&COMPONENT).unwrap();
        let kube = KubeFlags { kubeconfig: Some(path), kube_api_qps: 0.0, kube_api_burst: 1.0 };
        let cluster = shell.connect(&kube).await.unwrap();
        Self { server, cluster, _files: files }
    }

    /// Has requests refused until [`Running::clear_faults`].
    pub(crate) fn refuse(&self, verb: &str, resource: &str, code: u16) {
        let action =
            FaultAction::Refuse { code, reason: String::new(), message: "refused by the test".into() };
        let (verb, resource) = (verb.to_owned(), resource.to_owned());
        let (subresource, namespace, name, user_agent) = Default::default();
        let fault = Fault { verb, resource, subresource, namespace, name, user_agent, times: None, action };
        assert!(self.server.add_fault(fault));
    }
}

struct Empty;

impl ControllerSource for Empty {
    fn get(&self, _: &ControllerKey) -> Lookup {
        Lookup::NotFound
    }
}

impl LimitRangeSource for Empty {
    fn limit_ranges(&self, _: &str) -> Arc<LimitRanges> {
        Arc::default()
    }
}

impl Views for Empty {
    fn view(&self) -> View {
        View {
            vpas: Arc::new(VpaIndex::default()),
            controllers: Arc::new(Self),
            limit_ranges: Arc::new(Self),
            surroundings: None,
        }
    }

    fn resolve<'a>(&'a self, _: &'a ControllerKey) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

/// Serves a webhook with this certificate for as long as the test lasts.
pub(crate) async fn serve(certificates: &Certificates) -> SocketAddr {
    let config = Requirements::new("", "").unwrap().server(certificates.clone()).unwrap();
    let gates = Gates { in_place: true, per_vpa_config: true, cpu_startup_boost: true };
    let settings = Config { gates, max_allowed_cpu_boost: None };
    let metrics = WebhookMetrics::new(&prometheus::Registry::new()).unwrap();
    let router = Arc::new(Webhook::new(Arc::new(Empty), settings, metrics)).router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(tls::serve(listener, config, router, CancellationToken::new()));
    address
}
