//! Pods, kubelets and an API server that the passes act on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use vpa_api::pod::Pod;
use vpa_api::{Quantity, ResourceList};
use vpa_core::update::{Action, NodeSource, Outcome, Refusal, Step};

use crate::cluster::{CONDITIONS, Cluster, NODES, PodSeed};
use crate::updater_world;

/// A pod as its node has it.
#[derive(Clone, Debug)]
pub(crate) struct SimPod {
    pub(crate) owner: usize,
    pub(crate) number: usize,
    pub(crate) seed: PodSeed,
    pub(crate) pending: bool,
    /// CPU that its spec requests, and that it runs with.
    pub(crate) spec_m: i64,
    pub(crate) running_m: i64,
    pub(crate) condition: Option<(&'static str, &'static str)>,
    pub(crate) restarts: i32,
}

impl SimPod {
    pub(crate) fn uid(&self) -> String {
        format!("uid-w{}-{}", self.owner, self.number)
    }

    pub(crate) fn object(&self) -> Arc<Pod> {
        let owner = format!("w{}", self.owner);
        let mut pod = updater_world::pod(&owner, self.number, self.pending, self.spec_m, self.condition);
        let object = Arc::make_mut(&mut pod);
        object.spec.node_name = Some(format!("n{}", self.seed.node));
        if self.seed.asks_for_restart {
            let policy = json!([{ "resourceName": "cpu", "restartPolicy": "RestartContainer" }]);
            object.spec.containers[0].resize_policy = serde_json::from_value(policy).unwrap();
        }
        let requests = json!({ "cpu": format!("{}m", self.running_m), "memory": "100Mi" });
        let status =
            json!([{ "name": "c", "restartCount": self.restarts, "resources": { "requests": requests } }]);
        object.status.container_statuses = serde_json::from_value(status).unwrap();
        pod
    }

    /// CPU that its node can give to pods, where that is known.
    pub(crate) fn allocatable_m(&self) -> Option<i64> {
        NODES[self.seed.node]
    }
}

/// The nodes of [`NODES`].
pub(crate) struct Nodes;

impl NodeSource for Nodes {
    fn allocatable(&self, node: &str) -> Option<ResourceList> {
        let cpu_m = NODES[node.trim_start_matches('n').parse::<usize>().ok()?]?;
        serde_json::from_value(json!({ "cpu": format!("{cpu_m}m"), "memory": "64Gi" })).ok()
    }
}

/// CPU that a step leaves the pod with, in thousandths.
pub(crate) fn cpu_after(step: &Step) -> i64 {
    let requests = step.after[0].requests.as_ref().unwrap();
    requests.get("cpu").map(Quantity::milli_value).unwrap()
}

pub(crate) fn evicts(step: &Step) -> bool {
    matches!(step.action, Action::Evict { .. })
}

/// All pods of a cluster, over time.
pub(crate) struct World {
    pub(crate) pods: BTreeMap<String, SimPod>,
    born: usize,
    webhook: bool,
    answers: Vec<u8>,
    kubelets: Vec<usize>,
    answered: usize,
    acted: usize,
}

impl World {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let mut pods = BTreeMap::new();
        for (owner, workload) in cluster.workloads.iter().enumerate() {
            for (number, seed) in workload.pods.iter().enumerate() {
                let condition = CONDITIONS[seed.condition];
                let pod = SimPod {
                    owner,
                    number,
                    pending: seed.pending,
                    // What is under way is to become 160m.
                    spec_m: if condition.is_some() { 160 } else { seed.cpu_m },
                    running_m: seed.cpu_m,
                    condition,
                    restarts: 0,
                    seed: seed.clone(),
                };
                pods.insert(pod.uid(), pod);
            }
        }
        Self {
            pods,
            born: 100,
            webhook: cluster.webhook,
            answers: cluster.answers.clone(),
            kubelets: cluster.kubelets.clone(),
            answered: 0,
            acted: 0,
        }
    }

    pub(crate) fn of(&self, step: &Step) -> &SimPod {
        &self.pods[step.pod.metadata.uid.as_deref().unwrap()]
    }

    /// The API server's answer to a step. One of ten is lost although the step is carried out.
    pub(crate) fn answer(&mut self, step: &Step) -> (Outcome, bool) {
        let refusal = |code, node_capacity| {
            let refusal = Refusal { code, node_capacity, message: "no".into(), ..Refusal::default() };
            Outcome::of_status(refusal, evicts(step))
        };
        let choice = self.answers[self.answered % self.answers.len()];
        self.answered += 1;
        match choice {
            _ if evicts(step) && self.of(step).seed.protected => (refusal(429, false), false),
            0 => (refusal(403, true), false),
            1 => (refusal(422, false), false),
            2 => (refusal(429, false), false),
            3 => (refusal(503, false), false),
            4 => (Outcome::Unknown("lost".into()), false),
            5 => (Outcome::Unknown("lost".into()), true),
            _ => (Outcome::Done, true),
        }
    }

    fn kubelet(&mut self) -> usize {
        self.acted += 1;
        self.kubelets[self.acted % self.kubelets.len()]
    }

    /// What the steps that were carried out, and the kubelets, have made of the pods by the next pass.
    pub(crate) fn go_on(&mut self, carried_out: &[Step], target_m: i64) {
        let untouched: Vec<String> = self
            .pods
            .keys()
            .filter(|uid| carried_out.iter().all(|step| step.pod.metadata.uid.as_ref() != Some(*uid)))
            .cloned()
            .collect();
        for step in carried_out {
            let uid = self.of(step).uid();
            if evicts(step) {
                self.replace(&uid, target_m);
            } else {
                let choice = self.kubelet();
                let pod = self.pods.get_mut(&uid).unwrap();
                pod.spec_m = cpu_after(step);
                match choice {
                    0..=4 => pod.apply(),
                    choice => pod.condition = CONDITIONS[choice - 2],
                }
            }
        }
        for uid in untouched {
            let choice = self.kubelet();
            let pod = self.pods.get_mut(&uid).unwrap();
            pod.pending &= choice < 5;
            match (pod.condition, choice) {
                (Some(_), 0) => pod.apply(),
                (Some(_), 1) => pod.condition = CONDITIONS[4],
                (Some(_), 2) => pod.condition = CONDITIONS[3],
                _ => {}
            }
        }
    }

    fn replace(&mut self, uid: &str, target_m: i64) {
        let mut pod = self.pods.remove(uid).unwrap();
        self.born += 1;
        let cpu_m = if self.webhook { target_m } else { pod.seed.cpu_m };
        pod.number = self.born;
        (pod.spec_m, pod.running_m) = (cpu_m, cpu_m);
        (pod.condition, pod.restarts, pod.pending) = (None, 0, false);
        self.pods.insert(pod.uid(), pod);
    }
}

impl SimPod {
    /// The kubelet carries the resize out.
    fn apply(&mut self) {
        self.running_m = self.spec_m;
        self.condition = None;
        self.restarts += i32::from(self.seed.restarts || self.seed.asks_for_restart);
    }
}
