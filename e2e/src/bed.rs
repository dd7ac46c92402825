//! Clusters for scenarios: the real one is shared by all of them, an embedded one is each scenario's own.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::chart;
use crate::cluster::{Cluster, Parts};
use crate::control_plane::{ControlPlane, Options};
use crate::error::{Error, OnFile, Result};
use crate::guard;
use crate::kubeconfig::{self, Endpoint};
use crate::runner::{Backend, Host};
use crate::tools::Tools;

/// Makes the clusters and keeps the shared one.
#[derive(Default)]
pub struct Clusters {
    logs: PathBuf,
    tools: OnceCell<Tools>,
    shared: OnceCell<Arc<Shared>>,
}

/// The real control plane with its simulators.
struct Shared {
    plane: ControlPlane,
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
            let tools = self.tools().await?;
            let options = Options { controllers: true, logs: self.logs.join("control-plane") };
            let plane = ControlPlane::start(&tools, &options).await?;
            for crd in chart::crds()? {
                chart::apply(&plane.client(), &crd, false).await?;
            }
            Ok(Arc::new(Shared { plane }))
        });
        shared.await.cloned()
    }

    async fn parts(&self, backend: Backend) -> Result<Parts> {
        match backend {
            Backend::Sim => {
                let parts = embedded_parts().await?;
                for crd in chart::crds()? {
                    chart::create(&parts.client, &crd).await?;
                }
                Ok(parts)
            }
            Backend::Real => {
                let shared = self.shared().await?;
                Ok(plane_parts(&shared.plane, shared.clone()))
            }
        }
    }

    /// A cluster without CRDs and simulators.
    async fn bare_parts(&self, backend: Backend, logs: PathBuf) -> Result<Parts> {
        match backend {
            Backend::Sim => embedded_parts().await,
            Backend::Real => {
                let options = Options { controllers: false, logs };
                let plane = Arc::new(ControlPlane::start(&self.tools().await?, &options).await?);
                Ok(plane_parts(&plane, plane.clone()))
            }
        }
    }
}

/// An embedded cluster of one scenario's own.
async fn embedded_parts() -> Result<Parts> {
    let failed = |error: vpa_sim::ServerError| Error::expectation(format!("the embedded cluster: {error}"));
    let server = vpa_sim::ApiServer::start(vpa_sim::Options::default()).await.map_err(failed)?;
    let dir = tempfile::Builder::new().prefix("vpa-e2e-").tempdir().on_file(std::env::temp_dir(), "use")?;
    guard::remove_at_end(dir.path());
    let kubeconfig = kubeconfig::path(dir.path(), "admin");
    server.write_kubeconfig(&kubeconfig).map_err(failed)?;
    Ok(Parts {
        backend: Backend::Sim,
        client: kubeconfig::client(&kubeconfig).await?,
        kubeconfig,
        endpoint: Endpoint { url: server.url(), authority: None },
        alive: Arc::new((server, dir)),
    })
}

fn plane_parts(plane: &ControlPlane, alive: Arc<dyn Send + Sync>) -> Parts {
    Parts {
        backend: Backend::Real,
        client: plane.client(),
        kubeconfig: plane.kubeconfig().to_owned(),
        endpoint: plane.endpoint().clone(),
        alive,
    }
}

/// What a scenario is given: its name, its backend, and clusters on demand.
pub struct Bed {
    clusters: Arc<Clusters>,
    backend: Backend,
    name: &'static str,
    logs: PathBuf,
}

impl Bed {
    /// Backend that it runs on.
    pub fn backend(&self) -> Backend {
        self.backend
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
        Cluster::new(self.clusters.parts(self.backend).await?, self.name, self.logs.clone()).await
    }

    /// Like [`Bed::cluster`], for one of several cases of a scenario: the namespaces carry the case's name too.
    ///
    /// # Errors
    /// If it cannot be started or set up.
    pub async fn cluster_called(&self, case: &str) -> Result<Cluster> {
        let name = format!("{}-{}", self.name, case.to_lowercase());
        Cluster::new(self.clusters.parts(self.backend).await?, &name, self.logs.join(case)).await
    }

    /// A cluster of the scenario's own, with nothing in it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn bare_cluster(&self) -> Result<Cluster> {
        Cluster::bare(
            self.clusters.bare_parts(self.backend, self.logs.clone()).await?,
            self.name,
            self.logs.clone(),
        )
    }
}

/// The host of the runner; the clusters are shared by all beds.
pub struct Beds(pub Arc<Clusters>);

impl Host for Beds {
    type Context = Bed;

    async fn context(&self, backend: Backend, name: &'static str, logs: PathBuf) -> Result<Bed> {
        Ok(Bed { clusters: self.0.clone(), backend, name, logs })
    }
}
