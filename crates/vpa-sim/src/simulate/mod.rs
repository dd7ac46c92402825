//! What moves in a cluster: workload controllers, scheduler, kubelets, and programs that use CPU and memory.
//!
//! Everything here acts through the Kubernetes API alone, so it makes the embedded API server a cluster and a real
//! kube-apiserver one as well. Each simulator is a [`Simulator`]: it looks at the [`world::World`] (kept by watches)
//! and plans writes, a loop carries them out, and the next look starts from what came of them.
//!
//! What a pod does is said by its annotations, in the template of its workload or on the pod while it runs:
//! [`usage::USAGE`], [`usage::CPU`] and [`usage::MEMORY`] for what it uses, [`kubelet::RESIZE`] for the verdict on
//! resizes, and [`kubelet::START_DELAY`], [`kubelet::READY_AFTER`], [`kubelet::RUN_FOR`] and [`kubelet::OOM`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::metrics_api::MetricsStore;
use act::{Write, perform};
use amounts::Amounts;
use usage::{Usage, UsageClock};
use world::{Wake, World};

mod act;
pub mod amounts;
mod cache;
mod controllers;
pub mod kubelet;
mod sampler;
mod scheduler;
pub mod usage;
mod world;

/// Time in which events are gathered before a look: a burst of them leads to one pass.
const GATHER: Duration = Duration::from_millis(20);

/// A node to be simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// What pods may request on it together.
    pub allocatable: Amounts,
}

impl NodeSpec {
    /// `count` equal nodes `node-1`, `node-2`, ….
    pub fn several(count: usize, cpu_millis: i64, memory_bytes: i64) -> Vec<Self> {
        let allocatable = Amounts { cpu_millis, memory_bytes };
        (1..=count).map(|number| Self { name: format!("node-{number}"), allocatable }).collect()
    }
}

/// How long things take, in real time.
#[derive(Clone, Debug)]
pub struct Timings {
    /// From binding to running.
    pub start: Duration,
    /// From running to ready.
    pub ready: Duration,
    /// From deletion to gone, at most the pod's own grace period.
    pub stop: Duration,
    /// From an accepted resize to its effect.
    pub resize: Duration,
    /// From a killed container to its next start.
    pub restart: Duration,
    /// Between two looks at what changes by time alone.
    pub tick: Duration,
    /// Between two samples of the metrics API.
    pub sample: Duration,
}

impl Default for Timings {
    /// Fast enough for scenarios, slow enough for every state to be seen by a watcher.
    fn default() -> Self {
        Self {
            start: Duration::from_millis(300),
            ready: Duration::ZERO,
            stop: Duration::from_millis(300),
            resize: Duration::from_millis(500),
            restart: Duration::from_secs(1),
            tick: Duration::from_millis(250),
            sample: Duration::from_secs(1),
        }
    }
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct SimulationOptions {
    /// Workload controllers and disruption budgets; off where a kube-controller-manager runs.
    pub controllers: bool,
    /// Binding of pods to nodes.
    pub scheduler: bool,
    /// Nodes and what happens on them.
    pub kubelet: bool,
    /// Nodes to be created.
    pub nodes: Vec<NodeSpec>,
    /// How long things take.
    pub timings: Timings,
    /// Simulated seconds in a real one, for usage and cron schedules.
    pub time_scale: f64,
    /// Decides the jitter of usage.
    pub seed: u64,
    /// Where usage is put for the metrics API.
    pub metrics: MetricsStore,
}

impl Default for SimulationOptions {
    /// Everything, on three nodes of 8 cores and 32 GiB, in real time.
    fn default() -> Self {
        Self {
            controllers: true,
            scheduler: true,
            kubelet: true,
            nodes: NodeSpec::several(3, 8000, 32 << 30),
            timings: Timings::default(),
            time_scale: 1.0,
            seed: 1,
            metrics: MetricsStore::default(),
        }
    }
}

/// A part of the cluster that is simulated.
trait Simulator: Send + 'static {
    /// Name in the log.
    const NAME: &'static str;

    /// What to write, from what is there. It is asked again after what it wrote has been carried out, and when
    /// something changed; so each look may simply want everything that is not yet as it should be.
    fn plan(&mut self, world: &World, now: Timestamp) -> Vec<Write>;
}

/// A running simulation. Dropping it stops it.
#[derive(Debug)]
pub struct Simulation {
    usage: Usage,
    metrics: MetricsStore,
    tasks: TaskTracker,
    stop: CancellationToken,
    _guard: DropGuard,
}

impl Simulation {
    /// Starts simulating with `client`, which needs the rights of an administrator.
    pub fn start(client: Client, options: SimulationOptions) -> Self {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let wake = Wake::new();
        let world = Arc::new(World::default());
        world.watch(&client, options.controllers, &wake, &tasks, &stop);
        let clock = UsageClock { epoch: Timestamp::now(), scale: options.time_scale };
        let usage = Usage::new(clock, options.seed);
        let runner = Runner {
            client,
            world,
            wake,
            stop: stop.clone(),
            tick: options.timings.tick,
            controllers: options.controllers,
        };
        if options.controllers {
            tasks.spawn(runner.clone().run(controllers::Controllers::new(clock)));
        }
        if options.scheduler {
            tasks.spawn(runner.clone().run(scheduler::Scheduler));
        }
        if options.kubelet {
            let kubelet = kubelet::Kubelet::new(options.nodes, options.timings.clone(), usage.clone());
            tasks.spawn(runner.clone().run(kubelet));
        }
        let sampler = sampler::Sampler::new(usage.clone(), options.metrics.clone(), options.timings.sample);
        tasks.spawn(Runner { tick: options.timings.sample, ..runner }.run(sampler));
        tasks.close();
        Self { usage, metrics: options.metrics, tasks, _guard: stop.clone().drop_guard(), stop }
    }

    /// Handle to what containers use.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Handle to the samples of the metrics API.
    pub fn metrics(&self) -> &MetricsStore {
        &self.metrics
    }

    /// Stops and waits until nothing is written any more.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// What every simulator's loop needs.
#[derive(Clone)]
struct Runner {
    client: Client,
    world: Arc<World>,
    wake: Wake,
    stop: CancellationToken,
    tick: Duration,
    controllers: bool,
}

impl Runner {
    async fn run<S: Simulator>(self, mut simulator: S) {
        let mut changed = self.wake.subscribe();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = changed.changed() => {}
                () = tokio::time::sleep(self.tick) => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(GATHER) => {}
            }
            changed.borrow_and_update();
            if !self.world.synced(self.controllers) {
                continue;
            }
            let writes = simulator.plan(&self.world, Timestamp::now());
            if writes.is_empty() {
                continue;
            }
            tracing::trace!(simulator = S::NAME, writes = writes.len(), "pass");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = perform(&self.client, &self.world, writes) => {}
            }
            self.wake.all();
        }
    }
}
