//! A fleet larger than an API server and etcd on the same machine could hold, on the embedded cluster.
//!
//! The recommender is a process of its own, so that its memory is its own.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use vpa_sim::metrics_api::MetricsStore;
use vpa_sim::{ApiServer, Options};

use super::fleet::{Fleet, Make, PODS_PER_VPA};
use super::os::Usage;
use super::progress::Progress;
use super::subject::Subject;
use super::usage::{Wander, samples};
use crate::error::{Error, OnFile, Result};
use crate::guard;
use crate::kubeconfig;

/// Longest time until all is recommended and checkpointed.
const COMPLETE_MAX: Duration = Duration::from_secs(30 * 60);

/// Changes kept of each kind, for each VPA: no watch of a cycle that writes everything is to fall behind.
const HISTORY_PER_VPA: usize = 3;

/// What was found.
#[derive(Clone, Debug)]
pub struct Figures {
    /// From the first reading of usage to the last first recommendation and checkpoint.
    pub cycle: Duration,
    /// Of the recommender, by then.
    pub recommender: Usage,
    /// Memory of the embedded cluster, with the usage and this program, in bytes.
    pub cluster: u64,
}

/// Runs one cycle for so many VPAs.
///
/// # Errors
/// If something ends by itself, or does not come to an end.
pub async fn run(subject: &Subject, vpas: usize, logs: &Path) -> Result<Figures> {
    let fleet = Fleet { vpas };
    let failed = |error: vpa_sim::ServerError| Error::expectation(format!("the embedded cluster: {error}"));
    let metrics = MetricsStore::default();
    let history_max = (vpas * HISTORY_PER_VPA).max(Options::default().history_max);
    let options = Options { metrics: metrics.clone(), history_max, ..Options::default() };
    let server = ApiServer::start(options).await.map_err(failed)?;
    let dir = tempfile::Builder::new().prefix("vpa-e2e-").tempdir().on_file(std::env::temp_dir(), "use")?;
    guard::remove_at_end(dir.path());
    let kubeconfig = kubeconfig::path(dir.path(), "admin");
    server.write_kubeconfig(&kubeconfig).map_err(failed)?;
    let client = kubeconfig::client(&kubeconfig).await?;
    for crd in crate::chart::crds()? {
        crate::chart::create(&client, &crd).await?;
    }
    fleet.create(&client, 0, Make::default()).await?;
    let now = Timestamp::now();
    let amounts = Wander::new(fleet.pods(), PODS_PER_VPA).step(now);
    metrics.replace(samples(&fleet, &amounts, now, Duration::from_secs(15)));
    let progress = Progress::follow(&client);
    let mut readings = metrics.readings();
    let log = logs.join(format!("{}-{vpas}.log", subject.name()));
    let mut process = subject.start(&kubeconfig, None, &log)?.process;
    let began = loop {
        tokio::select! {
            changed = readings.changed() => {
                changed.map_err(|error| Error::expectation(error.to_string()))?;
                break Instant::now();
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => process.check_running()?,
        }
    };
    let mut complete = std::pin::pin!(progress.complete(vpas));
    loop {
        tokio::select! {
            () = &mut complete => break,
            () = tokio::time::sleep(Duration::from_secs(1)) => process.check_running()?,
        }
        if began.elapsed() > COMPLETE_MAX {
            let (recommended, checkpointed) = (progress.recommended().count, progress.checkpointed().count);
            let last = format!("{recommended} recommendations, {checkpointed} checkpoints");
            let what = format!("{vpas} VPAs on the embedded cluster");
            return Err(Error::Timeout { what, waited: COMPLETE_MAX, last });
        }
    }
    let figures = Figures {
        cycle: began.elapsed(),
        recommender: Usage::of(process.id())?,
        cluster: Usage::of_self()?.resident,
    };
    process.kill();
    server.shutdown().await;
    Ok(figures)
}
