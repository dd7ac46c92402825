//! The real control plane with what an admission controller finds: VPAs with recommendations, their Deployments and
//! ReplicaSets, all in one namespace.

use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use vpa_api::VerticalPodAutoscaler;

use super::review::NAMESPACE;
use crate::bench::fleet;
use crate::bench::pool::for_each;
use crate::bench::stage::plane;
use crate::control_plane::ControlPlane;
use crate::error::{Doing, OnFile, Result};
use crate::guard;
use crate::pki::{self, Authority};

/// The control plane, and the webhook's certificate. Dropping it ends everything.
pub(super) struct Stage {
    plane: ControlPlane,
    vpas: usize,
    logs: PathBuf,
    authority: String,
    certificates: tempfile::TempDir,
}

impl Stage {
    /// Starts a control plane without controllers, and makes a certificate that all webhooks serve.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) async fn start(logs: &Path) -> Result<Self> {
        let certificates =
            tempfile::Builder::new().prefix("vpa-e2e-").tempdir().on_file(std::env::temp_dir(), "use")?;
        guard::remove_at_end(certificates.path());
        let authority = Authority::new("bench-webhook")?;
        authority.server("vpa-webhook", &["127.0.0.1"])?.write(certificates.path(), "webhook")?;
        pki::write(&certificates.path().join("authority.crt"), authority.certificate())?;
        let plane = plane(logs).await?;
        let namespaces: Api<Namespace> = Api::all(plane.client());
        fleet::create(&namespaces, json!({ "metadata": { "name": NAMESPACE } })).await?;
        let authority = authority.certificate().to_owned();
        Ok(Self { plane, vpas: 0, logs: logs.to_owned(), authority, certificates })
    }

    /// An administrator's client.
    pub(super) fn client(&self) -> Client {
        self.plane.client()
    }

    /// An administrator's kubeconfig: both suites act with the same rights.
    pub(super) fn kubeconfig(&self) -> &Path {
        self.plane.kubeconfig()
    }

    /// Number of VPAs.
    pub(super) fn vpas(&self) -> usize {
        self.vpas
    }

    /// Folder for logs.
    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Certificate of the authority that signed the webhooks', in PEM.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Folder with `authority.crt`, `webhook.crt` and `webhook.key`.
    pub(super) fn certificates(&self) -> &Path {
        self.certificates.path()
    }

    /// Fails if a program of the control plane has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub(super) fn check_running(&mut self) -> Result<()> {
        self.plane.check_running()
    }

    /// Lets the number of VPAs grow.
    ///
    /// # Errors
    /// If the API server refuses something, or cannot be reached.
    pub(super) async fn grow(&mut self, vpas: usize) -> Result<()> {
        let client = self.client();
        for_each(self.vpas..vpas, |workload| create(&client, workload)).await?;
        self.vpas = vpas.max(self.vpas);
        Ok(())
    }
}

async fn create(client: &Client, workload: usize) -> Result<()> {
    let here = |mut object: Value| {
        object["metadata"]["namespace"] = NAMESPACE.into();
        object
    };
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let deployment = fleet::create(&deployments, here(fleet::deployment_object(workload))).await?;
    let replica_sets: Api<ReplicaSet> = Api::namespaced(client.clone(), NAMESPACE);
    let owner = fleet::owner("Deployment", &fleet::name(workload), deployment.metadata.uid);
    fleet::create(&replica_sets, here(fleet::replica_set_object(workload, &owner))).await?;
    let vpas: Api<VerticalPodAutoscaler> = Api::namespaced(client.clone(), NAMESPACE);
    let mut vpa = here(fleet::vpa_object(workload));
    vpa["spec"]["updatePolicy"]["updateMode"] = "Recreate".into();
    fleet::create(&vpas, vpa).await?;
    let name = fleet::name(workload);
    let status = Patch::Merge(json!({ "status": status(workload) }));
    let done = vpas.patch_status(&name, &PatchParams::default(), &status).await;
    done.doing(format!("write the status of VPA {NAMESPACE}/{name}")).map(drop)
}

/// What is recommended for a workload: CPU that tells it apart from its neighbours, and memory. Both are above what the
/// pods request.
pub(super) fn recommended(workload: usize) -> (String, String) {
    (format!("{}m", 200 + workload % 701), "262144k".to_owned())
}

/// The status as a recommender writes it.
fn status(workload: usize) -> Value {
    let (cpu, memory) = recommended(workload);
    let target = json!({ "cpu": cpu, "memory": memory });
    json!({
        "recommendation": { "containerRecommendations": [{
            "containerName": fleet::CONTAINER,
            "target": target,
            "lowerBound": { "cpu": "25m", "memory": "262144k" },
            "upperBound": { "cpu": "1388m", "memory": "1438074878" },
            "uncappedTarget": target,
        }]},
        "conditions": [{
            "type": "RecommendationProvided",
            "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    })
}
