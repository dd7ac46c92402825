//! The kubelets of all nodes: pods start, get ready, are killed for memory, are resized and go.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::act::{Kind, Op, Write};
use super::amounts::{self, Amounts};
use super::usage::Usage;
use super::world::World;
use super::{NodeSpec, Simulator, Timings};
use step::{PodRun, Step, View};

mod node;
mod resize;
mod status;
mod step;

/// Annotation: the verdict on resizes of a pod. `accept`, `deferred`, `infeasible`, `in-progress` (accepted, never
/// ends) or `error`; without it the node's room decides.
pub const RESIZE: &str = "sim.vpa/resize";
/// Annotation: how long a pod takes to start, instead of [`Timings::start`].
pub const START_DELAY: &str = "sim.vpa/start-delay";
/// Annotation: how long a container runs before it is ready, instead of [`Timings::ready`].
pub const READY_AFTER: &str = "sim.vpa/ready-after";
/// Annotation: how long the containers of a job's pod run before they end well.
pub const RUN_FOR: &str = "sim.vpa/run-for";
/// Annotation: `direct` shows an OOM kill as Running → Running, without the Terminated state between.
pub const OOM: &str = "sim.vpa/oom";

/// Simulates the kubelet of every node.
#[derive(Debug)]
pub(super) struct Kubelet {
    nodes: Vec<NodeSpec>,
    timings: Timings,
    usage: Usage,
    heartbeats: node::Heartbeats,
    runs: HashMap<String, PodRun>,
}

impl Kubelet {
    pub(super) fn new(nodes: Vec<NodeSpec>, timings: Timings, usage: Usage) -> Self {
        Self { nodes, timings, usage, heartbeats: node::Heartbeats::default(), runs: HashMap::new() }
    }

    fn pod(&mut self, pod: &Pod, rooms: &Rooms, now: Timestamp) -> Option<Write> {
        let uid = pod.metadata.uid.clone()?;
        let node = pod.spec.as_ref()?.node_name.as_deref()?;
        let run = self.runs.entry(uid.clone()).or_insert_with(|| PodRun::new(now));
        let own = amounts::allocated(pod);
        let (capacity, free) = rooms.of(node);
        let view =
            View { pod, capacity, room: free.plus(own), usage: &self.usage, timings: &self.timings, now };
        match step::step(run, &view) {
            Step::Nothing => None,
            Step::Status(status) => {
                let status = serde_json::to_value(status).ok()?;
                Some(Write::status(Kind::Pod, &pod.metadata, &status))
            }
            Step::Delete => {
                Some(Write::new(Kind::Pod, &pod.metadata, Op::Delete { uid, grace_seconds: Some(0) }))
            }
        }
    }
}

impl Simulator for Kubelet {
    const NAME: &'static str = "kubelet";

    fn plan(&mut self, world: &World, now: Timestamp) -> Vec<Write> {
        let mut writes = self.heartbeats.plan(&self.nodes, world, now);
        let pods = world.pods.all();
        let mut rooms = Rooms::new(world, &pods);
        for pod in &pods {
            let before = writes.len();
            writes.extend(self.pod(pod, &rooms, now));
            if writes.len() > before {
                rooms.changed(pod, writes.last());
            }
        }
        let live: HashSet<&String> = pods.iter().filter_map(|pod| pod.metadata.uid.as_ref()).collect();
        self.runs.retain(|uid, _| live.contains(uid));
        writes
    }
}

/// Room on each node.
struct Rooms {
    nodes: BTreeMap<String, (Amounts, Amounts)>,
}

impl Rooms {
    fn new(world: &World, pods: &[Arc<Pod>]) -> Self {
        let mut nodes: BTreeMap<String, (Amounts, Amounts)> = BTreeMap::new();
        for node in world.nodes.all() {
            let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
            let amounts = amounts::of_list(allocatable);
            nodes.insert(node.metadata.name.clone().unwrap_or_default(), (amounts, amounts));
        }
        for pod in pods.iter().filter(|pod| !status::has_ended(pod)) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            if let Some((_, free)) = node.and_then(|node| nodes.get_mut(node)) {
                *free = free.minus(amounts::allocated(pod));
            }
        }
        Self { nodes }
    }

    /// Capacity and what is free of it.
    fn of(&self, node: &str) -> (Amounts, Amounts) {
        self.nodes.get(node).copied().unwrap_or_default()
    }

    /// A pod that was just given more takes it from those that are looked at after it in the same pass.
    fn changed(&mut self, pod: &Pod, write: Option<&Write>) {
        let Some(Write { op: Op::Status(patch), .. }) = write else { return };
        let mut after = pod.clone();
        after.status = serde_json::from_value(patch["status"].clone()).ok();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        if let Some((_, free)) = node.and_then(|node| self.nodes.get_mut(node)) {
            *free = free.plus(amounts::allocated(pod)).minus(amounts::allocated(&after));
        }
    }
}
