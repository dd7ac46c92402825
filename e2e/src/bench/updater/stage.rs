//! The real control plane with what an updater finds: VPAs with recommendations, their pods and kubelets, and the
//! admission controller's heartbeat.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinHandle;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::names::lease::ADMISSION_CONTROLLER;

use super::kubelet;
use crate::bench::fleet::{self, Fleet, Make, PODS_PER_VPA, REQUESTS};
use crate::bench::pool::for_each;
use crate::bench::stage::plane;
use crate::control_plane::ControlPlane;
use crate::error::{Doing, Result};
use crate::workload::recommendation;

/// What a pod requests that is due: far below what is recommended.
const DUE: (&str, &str) = ("50m", "64Mi");

/// Where both updaters look for the heartbeat by default.
const LEASE_NAMESPACE: &str = "kube-system";

/// Default of the admission controllers' `--status-lease-update-interval`.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The control plane. Dropping it ends everything.
pub(super) struct Stage {
    // In the order of the end: clients of the API server before it.
    tasks: [JoinHandle<()>; 2],
    plane: ControlPlane,
    fleet: Fleet,
    logs: PathBuf,
}

impl Stage {
    /// Starts a control plane without controllers: nothing comes in the place of evicted pods.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) async fn start(logs: &Path) -> Result<Self> {
        let plane = plane(logs).await?;
        let tasks = [tokio::spawn(keep_alive(plane.client())), tokio::spawn(kubelet::run(plane.client()))];
        Ok(Self { tasks, plane, fleet: Fleet { vpas: 0 }, logs: logs.to_owned() })
    }

    /// An administrator's client.
    pub(super) fn client(&self) -> Client {
        self.plane.client()
    }

    /// An administrator's kubeconfig: both suites act with the same rights.
    pub(super) fn kubeconfig(&self) -> &Path {
        self.plane.kubeconfig()
    }

    /// What is there.
    pub(super) fn fleet(&self) -> Fleet {
        self.fleet
    }

    /// Folder for logs.
    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Fails if a program of the control plane has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub(super) fn check_running(&mut self) -> Result<()> {
        self.plane.check_running()
    }

    /// Lets the fleet grow to `vpas`, the new ones in this update mode and with a recommendation of what pods request.
    /// With `due`, the first pod of each requests far less.
    ///
    /// # Errors
    /// If the API server refuses something, or cannot be reached.
    pub(super) async fn grow(&mut self, vpas: usize, mode: &'static str, due: bool) -> Result<()> {
        let (client, present) = (self.client(), self.fleet.vpas);
        let fleet = Fleet { vpas: vpas.max(present) };
        let first = if due { DUE } else { REQUESTS };
        fleet.create(&client, present, Make { mode, first, resizable: true }).await?;
        for_each(present..fleet.vpas, |workload| recommend(&client, fleet, workload)).await?;
        self.fleet = fleet;
        // Not left to the task alone, so that its failure is told.
        beat(&client).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn recommend(client: &Client, fleet: Fleet, workload: usize) -> Result<()> {
    let (namespace, name) = (fleet.namespace_of_pod(workload * PODS_PER_VPA), fleet::name(workload));
    let vpas: Api<VerticalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
    let status = Patch::Merge(json!({ "status": recommendation(REQUESTS.0, REQUESTS.1) }));
    let done = vpas.patch_status(&name, &PatchParams::default(), &status).await;
    done.doing(format!("write the status of VPA {namespace}/{name}")).map(drop)
}

/// Renews the lease until the task is ended.
async fn keep_alive(client: Client) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        // The first may come before its namespace is there; the next one is soon enough.
        let _ = beat(&client).await;
    }
}

async fn beat(client: &Client) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": ADMISSION_CONTROLLER, "namespace": LEASE_NAMESPACE },
        "spec": {
            "holderIdentity": "bench",
            "leaseDurationSeconds": 60,
            "renewTime": MicroTime(Timestamp::now()),
        },
    });
    let params = PatchParams::apply("bench").force();
    let done = leases.patch(ADMISSION_CONTROLLER, &params, &Patch::Apply(lease)).await;
    done.doing(format!("renew lease {LEASE_NAMESPACE}/{ADMISSION_CONTROLLER}")).map(drop)
}
