//! A cluster that an updater with a memory looks at, pass after pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use vpa_api::pod::Pod;
use vpa_api::{ResourceList, VerticalPodAutoscaler};
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::update::{
    Action, Config, Heartbeat, Next, NodeSource, Outcome, Pass, PassReport, Reason, Snapshot, Step,
    UpdaterMemory, Verdict,
};

use super::{Everything, pod, vpa};

/// What nodes can give to pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes(pub(crate) BTreeMap<String, ResourceList>);

impl NodeSource for Nodes {
    fn allocatable(&self, node: &str) -> Option<ResourceList> {
        self.0.get(node).cloned()
    }
}

/// The same limits in every namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits(pub(crate) Arc<LimitRanges>);

impl LimitRangeSource for Limits {
    fn limit_ranges(&self, _: &str) -> Arc<LimitRanges> {
        Arc::clone(&self.0)
    }
}

/// A cluster, and an updater that remembers.
pub(crate) struct World {
    pub(crate) vpas: Vec<Arc<VerticalPodAutoscaler>>,
    pub(crate) pods: Vec<Arc<Pod>>,
    pub(crate) config: Config,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) nodes: Nodes,
    pub(crate) limits: Limits,
    /// How long each step takes.
    pub(crate) step_takes: SignedDuration,
    pub(crate) now: Timestamp,
    memory: Option<UpdaterMemory>,
    born: usize,
}

impl World {
    /// The VPA `w` and these pods.
    pub(crate) fn new(mode: &str, cpu_m: i64, pods: Vec<Arc<Pod>>) -> Self {
        Self::of(vec![vpa("w", mode, cpu_m)], pods)
    }

    pub(crate) fn of(vpas: Vec<Arc<VerticalPodAutoscaler>>, pods: Vec<Arc<Pod>>) -> Self {
        let config = Config::default();
        Self {
            vpas,
            pods,
            memory: Some(UpdaterMemory::new(&config).unwrap()),
            config,
            heartbeat: Heartbeat::NotUsed,
            nodes: Nodes::default(),
            limits: Limits::default(),
            step_takes: SignedDuration::ZERO,
            now: "2026-08-15T12:00:00Z".parse().unwrap(),
            born: 100,
        }
    }

    /// Starts the updater with other settings.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self.memory = Some(UpdaterMemory::new(&self.config).unwrap());
        self
    }

    /// One pass; `answer` says what becomes of each step. Time goes on by `minutes` after it.
    pub(crate) fn pass(
        &mut self,
        minutes: i64,
        mut answer: impl FnMut(&Step) -> Outcome,
    ) -> (Vec<Step>, PassReport) {
        let mut replicas: BTreeMap<String, i32> = BTreeMap::new();
        for pod in &self.pods {
            *replicas.entry(owner(pod).to_owned()).or_default() += 1;
        }
        let snapshot = Snapshot {
            vpas: self.vpas.clone(),
            pods: self.pods.clone(),
            controllers: &Everything(replicas),
            limit_ranges: &self.limits,
            nodes: Arc::new(self.nodes.clone()),
            heartbeat: self.heartbeat.clone(),
        };
        let mut pass = Pass::new(&snapshot, self.config.clone(), self.memory.take().unwrap(), self.now);
        let mut steps = Vec::new();
        loop {
            match pass.next(self.now) {
                Next::Step(step) => {
                    self.now = self.now.checked_add(self.step_takes).unwrap();
                    pass.on_outcome(step.id, answer(&step), self.now);
                    steps.push(*step);
                }
                Next::Wait { until } => self.now = until.expect("no step is under way"),
                Next::Done => break,
            }
        }
        let (report, memory) = pass.finish(self.now);
        self.memory = Some(memory);
        self.now = self.now.checked_add(SignedDuration::from_mins(minutes)).unwrap();
        (steps, report)
    }

    /// One pass all of whose steps are carried out, by the API server as by the kubelet.
    pub(crate) fn pass_done(&mut self, minutes: i64) -> (Vec<Step>, PassReport) {
        let (steps, report) = self.pass(minutes, done);
        self.carry_out(&steps);
        (steps, report)
    }

    /// Resized pods have what was asked for, evicted ones come back with what admission gives.
    pub(crate) fn carry_out(&mut self, steps: &[Step]) {
        for step in steps {
            let index = self.pods.iter().position(|pod| pod.metadata.uid == step.pod.metadata.uid).unwrap();
            let pod = Arc::make_mut(&mut self.pods[index]);
            for (container, after) in pod.spec.containers.iter_mut().zip(&step.after) {
                container.resources = after.clone();
            }
            if matches!(step.action, Action::Evict { .. }) {
                self.born += 1;
                pod.metadata.name = Some(format!("{}-{}", owner(pod), self.born));
                pod.metadata.uid = Some(format!("uid-{}-{}", owner(pod), self.born));
                pod.status.conditions.clear();
                pod.status.container_statuses.clear();
            }
        }
    }
}

fn owner(pod: &Pod) -> &str {
    &pod.metadata.owner_references.as_ref().unwrap()[0].name
}

pub(crate) fn done(_: &Step) -> Outcome {
    Outcome::Done
}

/// Pods of the owner `w`.
pub(crate) fn pods(count: usize, cpu_m: i64) -> Vec<Arc<Pod>> {
    pods_of("w", count, cpu_m)
}

pub(crate) fn pods_of(owner: &str, count: usize, cpu_m: i64) -> Vec<Arc<Pod>> {
    (0..count).map(|number| pod(owner, number, false, cpu_m, None)).collect()
}

/// The pods with a change to each.
pub(crate) fn changed(pods: Vec<Arc<Pod>>, change: impl Fn(&mut Pod)) -> Vec<Arc<Pod>> {
    let one = |mut pod: Arc<Pod>| {
        change(Arc::make_mut(&mut pod));
        pod
    };
    pods.into_iter().map(one).collect()
}

/// A change that gives each container this policy for a resource.
pub(crate) fn resize_policy(resource: &'static str, policy: &'static str) -> impl Fn(&mut Pod) {
    move |pod| {
        let policy = json!([{ "resourceName": resource, "restartPolicy": policy }]);
        pod.spec.containers[0].resize_policy = serde_json::from_value(policy).unwrap();
    }
}

/// What became of the pods, in a word each.
pub(crate) fn words(report: &PassReport) -> Vec<&'static str> {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Left(reason) => reason.code(),
        Verdict::Evicted(_) => "evicted",
        Verdict::Resized | Verdict::BoostEnded { .. } => "resized",
    };
    report.pods().map(|(_, pod)| word(&pod.verdict)).collect()
}

/// Why the first of the pods that were left alone was.
pub(crate) fn reason(report: &PassReport) -> &Reason {
    let mut verdicts = report.pods().map(|(_, pod)| &pod.verdict);
    verdicts
        .find_map(|verdict| if let Verdict::Left(reason) = verdict { Some(reason) } else { None })
        .unwrap()
}

/// Events of a kind in a report.
pub(crate) fn events(report: &PassReport, kind: &str) -> usize {
    report.events.iter().filter(|event| event.reason == kind).count()
}

/// CPU that the pod's container requests after a step.
pub(crate) fn cpu_after(step: &Step) -> String {
    step.after[0].requests.as_ref().unwrap()["cpu"].to_string()
}

/// For each step the VPA, in order.
pub(crate) fn turns(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.vpa.metadata.name.as_deref().unwrap()).collect()
}
