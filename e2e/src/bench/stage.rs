//! The real control plane with its fleet, on which one recommender after the other is measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;
use vpa_api::VerticalPodAutoscaler;
use vpa_sim::metrics_api::MetricsStore;

use super::fleet::{Fleet, Make, PODS_PER_VPA};
use super::past;
use super::usage::{self, Wander};
use crate::bed;
use crate::chart;
use crate::control_plane::{ControlPlane, Options};
use crate::error::{Error, Result};
use crate::tools::Tools;
use crate::wait::{Seen, wait_for};

/// Parts of a cycle after which there is new usage: metrics-server reads every 15 s, and a cycle takes 1 min.
const READINGS_PER_CYCLE: u32 = 4;

/// Longest time until the API server serves a kind that it was told of; a second or two.
const SERVED_MAX: Duration = Duration::from_secs(60);

/// The control plane. Dropping it ends everything.
pub struct Stage {
    // In the order of the end: clients of the API server before it.
    usage: Option<JoinHandle<()>>,
    metrics: MetricsStore,
    _metrics_api: DropGuard,
    plane: ControlPlane,
    fleet: Fleet,
    logs: PathBuf,
}

impl Stage {
    /// Starts a control plane without controllers: nothing changes but what the recommender changes.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start(logs: &Path) -> Result<Self> {
        let plane = plane(logs).await?;
        let client = plane.client();
        let metrics = MetricsStore::default();
        let served = bed::serve_metrics(&client, metrics.clone()).await?;
        Ok(Self {
            usage: None,
            metrics,
            _metrics_api: served,
            plane,
            fleet: Fleet { vpas: 0 },
            logs: logs.to_owned(),
        })
    }

    /// An administrator's client.
    pub fn client(&self) -> Client {
        self.plane.client()
    }

    /// An administrator's kubeconfig: both suites act with the same rights.
    pub fn kubeconfig(&self) -> &Path {
        self.plane.kubeconfig()
    }

    /// The metrics API's store.
    pub fn metrics(&self) -> &MetricsStore {
        &self.metrics
    }

    /// What is there.
    pub fn fleet(&self) -> Fleet {
        self.fleet
    }

    /// Folder for logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Fails if a program of the control plane has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        self.plane.check_running()
    }

    /// Lets the fleet grow to `vpas`, as no recommender has seen it yet or with a past of eight days in checkpoints, with
    /// usage that begins anew and moves on with each quarter of `cycle`.
    ///
    /// # Errors
    /// If the API server refuses an object.
    pub async fn set(&mut self, vpas: usize, past: bool, cycle: Duration) -> Result<()> {
        let (client, present) = (self.client(), self.fleet.vpas);
        if let Some(usage) = self.usage.take() {
            usage.abort();
        }
        if present > 0 {
            self.fleet.reset(&client).await?;
        }
        self.fleet = Fleet { vpas: vpas.max(present) };
        self.fleet.create(&client, present, Make::default()).await?;
        if past {
            past::create(self.fleet, &client).await?;
        }
        self.usage = Some(tokio::spawn(wander(self.fleet, self.metrics.clone(), cycle / READINGS_PER_CYCLE)));
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(usage) = &self.usage {
            usage.abort();
        }
    }
}

/// A control plane that knows VPAs and has no controllers.
///
/// # Errors
/// If it cannot be started.
pub(super) async fn plane(logs: &Path) -> Result<ControlPlane> {
    let tools = tokio::task::spawn_blocking(Tools::locate).await;
    let tools = tools.map_err(|error| Error::expectation(error.to_string()))??;
    let options = Options { controllers: false, logs: logs.join("control-plane") };
    let plane = ControlPlane::start(&tools, &options).await?;
    for crd in chart::crds()? {
        chart::apply(&plane.client(), &crd, false).await?;
    }
    let vpas: Api<VerticalPodAutoscaler> = Api::all(plane.client());
    wait_for("VPAs to be served", SERVED_MAX, || async {
        match vpas.list(&ListParams::default().limit(1)).await {
            Ok(_) => Ok(Seen::Done(())),
            Err(error) => Ok(Seen::Not(error.to_string())),
        }
    })
    .await?;
    Ok(plane)
}

/// Keeps usage moving.
async fn wander(fleet: Fleet, metrics: MetricsStore, every: Duration) {
    let mut walks = Wander::new(fleet.pods(), PODS_PER_VPA);
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let now = Timestamp::now();
        let amounts = walks.step(now);
        metrics.replace(usage::samples(&fleet, &amounts, now, every));
    }
}
