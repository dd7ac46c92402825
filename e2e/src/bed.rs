//! Clusters for scenarios: the real one is shared by all of them, an embedded one is each scenario's own.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};
use vpa_sim::metrics_api::{self, MetricsStore};
use vpa_sim::simulate::{NodeSpec, Simulation, SimulationOptions};
use vpa_sim::{Fault, FaultAction};

use crate::chart;
use crate::cluster::{Cluster, Parts, SOON};
use crate::control_plane::{ControlPlane, Options};
use crate::error::{Doing, Error, OnFile, Result};
use crate::guard;
use crate::kubeconfig::{self, Endpoint};
use crate::pki::Authority;
use crate::programs::Program;
use crate::runner::{Backend, Host, Setting};
use crate::tools::Tools;
use crate::wait::{Seen, wait_for};

/// Of so many requests of a kind one fails in [`Setting::Faulty`].
const FAULT_EVERY: u32 = 5;

/// Makes the clusters and keeps the shared one.
#[derive(Default)]
pub struct Clusters {
    logs: PathBuf,
    tools: OnceCell<Tools>,
    shared: OnceCell<Arc<Shared>>,
}

/// The real control plane with its simulators.
struct Shared {
    // The simulators end before the API server that they talk to.
    simulation: Arc<Simulation>,
    _metrics: DropGuard,
    plane: ControlPlane,
}

impl Shared {
    async fn start(tools: &Tools, options: &Options, simulation: SimulationOptions) -> Result<Self> {
        let plane = ControlPlane::start(tools, options).await?;
        let client = plane.client();
        for crd in chart::crds()? {
            chart::apply(&client, &crd, false).await?;
        }
        let metrics = serve_metrics(&client, simulation.metrics.clone()).await?;
        // kube-controller-manager runs the controllers.
        let simulation = SimulationOptions { controllers: false, ..simulation };
        let simulation = Arc::new(Simulation::start(client, simulation));
        Ok(Self { simulation, _metrics: metrics, plane })
    }

    fn parts(self: &Arc<Self>) -> Parts {
        plane_parts(&self.plane, Some(self.simulation.clone()), self.clone())
    }
}

/// A cluster of one's own, with CRDs, in which `simulation` runs. `logs` is where a real control plane keeps its logs.
///
/// # Errors
/// If it cannot be started, or the tools of a real control plane are not to be had.
pub async fn start(backend: Backend, simulation: SimulationOptions, logs: PathBuf) -> Result<Parts> {
    match backend {
        Backend::Sim => embedded(simulation, Vec::new()).await,
        Backend::Real => {
            let tools = Clusters::default().tools().await?;
            let options = Options { controllers: true, logs };
            Ok(Arc::new(Shared::start(&tools, &options, simulation).await?).parts())
        }
    }
}

/// An embedded cluster of one's own, with CRDs, in which requests meet with `faults`.
async fn embedded(simulation: SimulationOptions, faults: Vec<Fault>) -> Result<Parts> {
    let parts = embedded_parts(Some(simulation), faults).await?;
    for crd in chart::crds()? {
        chart::create(&parts.client, &crd).await?;
    }
    Ok(parts)
}

/// Of each kind of request of the updater one in five fails, the first to begin with, and with each way of a server in
/// trouble in turn. Nothing is spared, neither leases nor watches nor the questions of its start, since a server that is
/// overloaded spares nothing. Kinds are told apart because there are few writes among many reads, and it is the writes that
/// a scenario is about: one that evicts or resizes meets with a failure of it.
fn updater_faults() -> Vec<Fault> {
    // Each begins with the code one further on. So a patch meets with 500 first, the only one of them after which the client
    // does not repeat it, and an eviction with 429, which reads like the refusal of a disruption budget and puts it off.
    let kinds = [
        ("patch", "pods", ""),
        ("get", "", ""),
        ("create", "pods", "eviction"),
        ("create", "selfsubjectaccessreviews", ""),
        ("list", "", ""),
        ("watch", "", ""),
        ("create", "events", ""),
        ("patch", "events", ""),
        ("update", "leases", ""),
    ];
    let codes =
        [(500, "InternalError"), (503, "ServiceUnavailable"), (429, "TooManyRequests"), (504, "Timeout")];
    let mut faults = Vec::new();
    for (first, (verb, resource, subresource)) in kinds.into_iter().enumerate() {
        for (turn, (code, reason)) in (0..).zip(codes.into_iter().cycle().skip(first).take(codes.len())) {
            let message = "the scenario wants it so".to_owned();
            let refuse = FaultAction::Refuse { code, reason: reason.to_owned(), message };
            faults.push(Fault {
                verb: verb.to_owned(),
                resource: resource.to_owned(),
                subresource: subresource.to_owned(),
                namespace: String::new(),
                name: String::new(),
                user_agent: Program::Updater.file_name(),
                times: None,
                action: FaultAction::Nth {
                    of: FAULT_EVERY * codes.len() as u32,
                    at: FAULT_EVERY * turn,
                    action: Box::new(refuse),
                },
            });
        }
    }
    faults
}

fn simulation() -> SimulationOptions {
    SimulationOptions { nodes: large_nodes(), ..SimulationOptions::default() }
}

/// Nodes on which nothing is ever short: scenarios run side by side, and what is short they script.
fn large_nodes() -> Vec<NodeSpec> {
    NodeSpec::several(3, 64_000, 256 << 30)
}

/// Serves the metrics API to a real API server, until the guard is dropped.
pub(crate) async fn serve_metrics(client: &kube::Client, store: MetricsStore) -> Result<DropGuard> {
    let failed = |error: &dyn std::fmt::Display| Error::expectation(format!("the metrics API: {error}"));
    let authority = Authority::new("e2e-metrics")?;
    let pair = authority.server("metrics", &["metrics.kube-system.svc", "localhost"])?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| failed(&error))?;
    let port = listener.local_addr().map_err(|error| failed(&error))?.port();
    let stop = CancellationToken::new();
    metrics_api::serve(listener, &pair.certificate, &pair.key, store, stop.clone())
        .map_err(|error| failed(&error))?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    wait_for("the namespace kube-system", SOON, || async {
        let found = namespaces.get_opt("kube-system").await.doing("get namespace kube-system")?;
        Ok(if found.is_some() { Seen::Done(()) } else { Seen::Not("it is not there".to_owned()) })
    })
    .await?;
    metrics_api::register(client, port, authority.certificate()).await.map_err(|error| failed(&error))?;
    Ok(stop.drop_guard())
}

impl Clusters {
    /// Nothing is started before a scenario asks for it. `logs` is where the shared control plane keeps its logs.
    pub fn new(logs: PathBuf) -> Self {
        Self { logs, ..Self::default() }
    }

    /// The programs of the real control plane; built if need be.
    ///
    /// # Errors
    /// If they are not to be had.
    pub async fn tools(&self) -> Result<Tools> {
        let located = self.tools.get_or_try_init(|| async {
            let located = tokio::task::spawn_blocking(Tools::locate).await;
            located.map_err(|error| Error::expectation(error.to_string()))?.map_err(Error::from)
        });
        located.await.cloned()
    }

    async fn shared(&self) -> Result<Arc<Shared>> {
        let shared = self.shared.get_or_try_init(|| async {
            let options = Options { controllers: true, logs: self.logs.join("control-plane") };
            Ok(Arc::new(Shared::start(&self.tools().await?, &options, simulation()).await?))
        });
        shared.await.cloned()
    }

    async fn parts(&self, setting: Setting) -> Result<Parts> {
        match setting {
            Setting::Sim => embedded(simulation(), Vec::new()).await,
            Setting::Faulty => embedded(simulation(), updater_faults()).await,
            Setting::Real => Ok(self.shared().await?.parts()),
        }
    }

    /// A cluster without CRDs and simulators.
    async fn bare_parts(&self, setting: Setting, logs: PathBuf) -> Result<Parts> {
        match setting {
            Setting::Sim => embedded_parts(None, Vec::new()).await,
            Setting::Faulty => embedded_parts(None, updater_faults()).await,
            Setting::Real => {
                let options = Options { controllers: false, logs };
                let plane = Arc::new(ControlPlane::start(&self.tools().await?, &options).await?);
                Ok(plane_parts(&plane, None, plane.clone()))
            }
        }
    }
}

/// An embedded cluster of one scenario's own.
async fn embedded_parts(simulation: Option<SimulationOptions>, faults: Vec<Fault>) -> Result<Parts> {
    let failed = |error: vpa_sim::ServerError| Error::expectation(format!("the embedded cluster: {error}"));
    let metrics = simulation.as_ref().map(|simulation| simulation.metrics.clone()).unwrap_or_default();
    let options = vpa_sim::Options { metrics, ..vpa_sim::Options::default() };
    let server = vpa_sim::ApiServer::start(options).await.map_err(failed)?;
    if !faults.into_iter().all(|fault| server.add_fault(fault)) {
        return Err(Error::expectation("the embedded cluster takes no more faults"));
    }
    let dir = tempfile::Builder::new().prefix("vpa-e2e-").tempdir().on_file(std::env::temp_dir(), "use")?;
    guard::remove_at_end(dir.path());
    let kubeconfig = kubeconfig::path(dir.path(), "admin");
    server.write_kubeconfig(&kubeconfig).map_err(failed)?;
    let client = kubeconfig::client(&kubeconfig).await?;
    let simulation = simulation.map(|options| Arc::new(Simulation::start(client.clone(), options)));
    Ok(Parts {
        backend: Backend::Sim,
        client,
        kubeconfig,
        endpoint: Endpoint { url: server.url(), authority: None },
        simulation,
        alive: Arc::new((server, dir)),
    })
}

fn plane_parts(
    plane: &ControlPlane,
    simulation: Option<Arc<Simulation>>,
    alive: Arc<dyn Send + Sync>,
) -> Parts {
    Parts {
        backend: Backend::Real,
        client: plane.client(),
        kubeconfig: plane.kubeconfig().to_owned(),
        endpoint: plane.endpoint().clone(),
        simulation,
        alive,
    }
}

/// What a scenario is given: its name, its setting, and clusters on demand.
pub struct Bed {
    clusters: Arc<Clusters>,
    setting: Setting,
    name: &'static str,
    logs: PathBuf,
}

impl Bed {
    /// Where it runs.
    pub fn setting(&self) -> Setting {
        self.setting
    }

    /// Folder of the scenario's logs.
    pub fn logs(&self) -> &std::path::Path {
        &self.logs
    }

    /// The programs of the real control plane.
    ///
    /// # Errors
    /// If they are not to be had.
    pub async fn tools(&self) -> Result<Tools> {
        self.clusters.tools().await
    }

    /// A cluster with CRDs, simulators, and the scenario's namespaces and service accounts.
    ///
    /// # Errors
    /// If it cannot be started or set up.
    pub async fn cluster(&self) -> Result<Cluster> {
        Cluster::new(self.clusters.parts(self.setting).await?, self.name, self.logs.clone()).await
    }

    /// Like [`Bed::cluster`], for one of several cases of a scenario: the namespaces carry the case's name too.
    ///
    /// # Errors
    /// If it cannot be started or set up.
    pub async fn cluster_called(&self, case: &str) -> Result<Cluster> {
        let name = format!("{}-{}", self.name, case.to_lowercase());
        Cluster::new(self.clusters.parts(self.setting).await?, &name, self.logs.join(case)).await
    }

    /// A cluster of the scenario's own, with nothing in it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn bare_cluster(&self) -> Result<Cluster> {
        Cluster::bare(
            self.clusters.bare_parts(self.setting, self.logs.clone()).await?,
            self.name,
            self.logs.clone(),
        )
    }
}

/// The host of the runner; the clusters are shared by all beds.
pub struct Beds(pub Arc<Clusters>);

impl Host for Beds {
    type Context = Bed;

    async fn context(&self, setting: Setting, name: &'static str, logs: PathBuf) -> Result<Bed> {
        Ok(Bed { clusters: self.0.clone(), setting, name, logs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_of_request_one_in_five_fails_with_each_code() {
        let faults = updater_faults();
        let of_kind = |verb: &str, resource: &str| -> Vec<(u32, u16)> {
            let of_kind = faults.iter().filter(|fault| fault.verb == verb && fault.resource == resource);
            let turn = |fault: &Fault| match &fault.action {
                FaultAction::Nth { of: 20, at, action } => match action.as_ref() {
                    FaultAction::Refuse { code, .. } => (*at, *code),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            };
            of_kind.map(turn).collect()
        };
        assert_eq!(of_kind("patch", "pods"), [(0, 500), (5, 503), (10, 429), (15, 504)]);
        assert_eq!(of_kind("create", "pods"), [(0, 429), (5, 504), (10, 500), (15, 503)]);
        assert_eq!(of_kind("update", "leases"), [(0, 500), (5, 503), (10, 429), (15, 504)]);
    }
}
