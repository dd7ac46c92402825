//! The demonstration: a dozen workloads, the three programs as processes, and what becomes of it within two minutes.
//!
//! ```text
//! workloads ─ what runs: shapes, requests, update modes
//! observe ─── what happened to each pod; reasons: what the updater said about it
//! promises ── what has to happen, checked on what was observed
//! view ────── the live picture and the summary as lines; screen: where they go; svg: as a picture for documents
//! advise ──── instead of all that, recommendations for a cluster of one's own, in which nothing is changed
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use vpa_api::VerticalPodAutoscaler;
use vpa_sim::metrics_api::MetricsStore;
use vpa_sim::simulate::{NodeSpec, SimulationOptions};

use crate::bed;
use crate::cluster::Cluster;
use crate::error::{Doing, Error, OnFile, Result};
use crate::programs::{Program, Running};
use crate::runner::Backend;
use observe::Observer;
use promises::Promise;
use reasons::Reasons;
use screen::Screen;

pub mod advise;
pub mod observe;
pub mod paint;
pub mod promises;
pub mod reasons;
pub mod screen;
pub mod svg;
pub mod view;
pub mod workloads;

/// Time between two looks at the cluster.
const LOOK: Duration = Duration::from_millis(500);

/// Shortest show: below it nothing could be read.
const SHOW_MIN: Duration = Duration::from_secs(60);

/// When the demonstration scales a workload up, to show what new pods get.
const SCALE_UP: Duration = Duration::from_secs(35);

/// What to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cluster to do it on.
    pub backend: Backend,
    /// Longest show; it ends earlier once everything promised has happened.
    pub show_max: Duration,
    /// Folder for the logs of the programs.
    pub logs: PathBuf,
    /// Where to write a picture of it.
    pub svg: Option<PathBuf>,
}

/// Runs the demonstration; true if everything promised happened.
///
/// # Errors
/// If the cluster or a program cannot be started, or breaks.
pub async fn run(options: &Options) -> Result<bool> {
    let mut screen = Screen::new();
    screen.print(&["Starting a cluster, its workloads, and the three programs …".to_owned()]);
    let mut stage = Stage::set(options).await?;
    let outcome = stage.play(options, &mut screen).await;
    screen.leave();
    let shown = outcome.map_err(|error| with_logs(error, &options.logs))?;
    let mut promises = shown.promises;
    promises.push(stage.end().await);
    let left = promises::left_alone(&stage.observer, &stage.reasons);
    let mut lines = shown.picture;
    lines.push(String::new());
    lines.extend(view::summary(&stage.observer, &left, &promises));
    screen.print(&lines);
    if let Some(path) = &options.svg {
        std::fs::write(path, svg::render("make demo", &lines)).on_file(path, "write")?;
    }
    let broken = promises.iter().filter(|promise| !promise.kept).count();
    let verdict = match broken {
        0 => format!("\n {}", paint::Colour::Green.paint("Everything that was promised happened.")),
        _ => format!(
            "\n {} Logs: {}",
            paint::Colour::Red.paint(&format!("{} broken.", paint::count(broken, "promise"))),
            options.logs.display()
        ),
    };
    screen.print(&[verdict]);
    Ok(broken == 0)
}

fn with_logs(error: Error, logs: &Path) -> Error {
    Error::expectation(format!("{error}\nLogs: {}", logs.display()))
}

/// Everything that runs.
struct Stage {
    cluster: Cluster,
    usage: MetricsStore,
    programs: Vec<(Program, Running)>,
    observer: Observer,
    reasons: Reasons,
}

/// What was shown last.
struct Shown {
    picture: Vec<String>,
    promises: Vec<Promise>,
}

impl Stage {
    async fn set(options: &Options) -> Result<Self> {
        // A log of an earlier run would tell of pods that are no more.
        match std::fs::remove_dir_all(&options.logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).on_file(&options.logs, "empty");
            }
            _ => {}
        }
        let usage = MetricsStore::default();
        let simulation = SimulationOptions {
            nodes: NodeSpec::several(3, 8000, 32 << 30),
            time_scale: workloads::TIME_SCALE,
            metrics: usage.clone(),
            ..SimulationOptions::default()
        };
        let parts = bed::start(options.backend, simulation, options.logs.join("control-plane")).await?;
        let cluster = Cluster::new(parts, "demo", options.logs.clone()).await?;
        let admission = cluster.start_admission().await?;
        for workload in &workloads::ALL {
            for object in workload.objects(cluster.namespace(), options.backend) {
                cluster.create(object).await?;
            }
        }
        let recommender = start(&cluster, Program::Recommender, RECOMMENDER).await?;
        let updater = start(&cluster, Program::Updater, UPDATER).await?;
        let programs = vec![
            (Program::Recommender, recommender),
            (Program::Updater, updater),
            (Program::AdmissionController, admission),
        ];
        let reasons = Reasons::new(&options.logs.join("updater.log"));
        Ok(Self { cluster, usage, programs, observer: Observer::default(), reasons })
    }

    async fn play(&mut self, options: &Options, screen: &mut Screen) -> Result<Shown> {
        let started = Instant::now();
        let mut scaled = false;
        loop {
            let now = started.elapsed();
            self.look(now).await?;
            if !scaled && now >= SCALE_UP {
                scaled = true;
                self.scale_up(now).await?;
            }
            let promises = promises::check(&self.observer, &self.reasons, now);
            let cluster = cluster_text(options.backend);
            let picture = || view::live(&self.observer, &self.reasons, now, options.show_max, cluster);
            screen.show(now, picture, || view::short(&self.observer, now));
            let all_kept = promises.iter().all(|promise| promise.kept);
            if now >= options.show_max || all_kept && now >= SHOW_MIN {
                return Ok(Shown { picture: picture(), promises });
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = tokio::signal::ctrl_c() => return Err(Error::expectation("interrupted")),
            }
        }
    }

    async fn look(&mut self, now: Duration) -> Result<()> {
        for (_, program) in &mut self.programs {
            program.process().check_running()?;
        }
        let pods = self.cluster.api::<Pod>().list(&ListParams::default()).await.doing("list pods")?;
        let vpas = self.cluster.api::<VerticalPodAutoscaler>().list(&ListParams::default()).await;
        self.observer.look(&pods.items, &vpas.doing("list VPAs")?.items, &self.usage, now);
        self.reasons.follow();
        Ok(())
    }

    async fn scale_up(&mut self, now: Duration) -> Result<()> {
        let api: Api<k8s_openapi::api::apps::v1::Deployment> = self.cluster.api();
        let patch = Patch::Merge(json!({ "spec": { "replicas": 3 } }));
        api.patch("billing-api", &PatchParams::default(), &patch)
            .await
            .doing("scale Deployment billing-api")?;
        self.observer.note(now, "billing-api is scaled up by one pod, by hand");
        Ok(())
    }

    /// Ends the programs, which is promised to go well.
    async fn end(&mut self) -> Promise {
        let mut failed = Vec::new();
        for (program, running) in &mut self.programs {
            if let Err(error) = running.stop().await {
                failed.push(format!("{}: {error}", program.component()));
            }
        }
        let found = if failed.is_empty() { "exit code 0".to_owned() } else { failed.join("; ") };
        let text = "All three programs ended in order when asked to".to_owned();
        Promise { text, kept: failed.is_empty(), found }
    }
}

async fn start(cluster: &Cluster, program: Program, flags: &[&str]) -> Result<Running> {
    let launch = flags.iter().fold(cluster.program(program), |launch, flag| launch.arg(*flag));
    let mut running = launch.start().await?;
    running.ready().await?;
    Ok(running)
}

/// The defaults of the recommender, as much faster as the workloads' time is: its day is their day.
const RECOMMENDER: &[&str] = &[
    "--recommender-interval=1s",
    "--cpu-histogram-decay-half-life=90s",
    "--memory-histogram-decay-half-life=90s",
    "--memory-aggregation-interval=90s",
];

/// Those of the updater: a pod within its bounds is left alone for 15 s instead of 12 h.
const UPDATER: &[&str] = &[
    "--updater-interval=2s",
    "--in-recommendation-bounds-eviction-lifetime-threshold=15s",
    "--log-format=json",
];

fn cluster_text(backend: Backend) -> &'static str {
    match backend {
        Backend::Sim => "embedded cluster",
        Backend::Real => "real control plane, simulated nodes",
    }
}
