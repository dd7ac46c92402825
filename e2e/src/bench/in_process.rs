//! The model and the plan alone, without any API: how much of a cycle is computing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_core::model::{ClusterState, ContainerId, Observation, ObservedPod, Settings, Target, VpaId};
use vpa_core::recommend::{Config, CyclePlan, plan};
use vpa_core::target::Selector;

use super::fleet::{self, CONTAINER, Fleet, PODS_PER_VPA};
use super::os::Usage;
use super::usage::Wander;
use crate::error::{Error, Result};

/// Cycles after the first, of which the median counts.
const CYCLES: usize = 5;

/// Time between two cycles.
const INTERVAL: SignedDuration = SignedDuration::from_mins(1);

/// What was found; handed from the process that measured to the one that reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// The first cycle, in which everything is to be written.
    pub first: Duration,
    /// The median of those after it.
    pub later: Duration,
    /// Statuses and checkpoints that the first one wanted written.
    pub first_writes: usize,
    /// The same of the last one.
    pub later_writes: usize,
    /// The most memory that the process ever had, in bytes; its own alone, so it has to be a process of its own.
    pub peak: u64,
}

/// Runs it for so many VPAs.
///
/// # Errors
/// If an object is not what the model takes, or `/proc` cannot be read.
pub fn run(vpas: usize) -> Result<Figures> {
    let fleet = Fleet { vpas };
    let mut now = Timestamp::now();
    let mut model = Model::new(fleet, now)?;
    let mut wander = Wander::new(fleet.pods(), PODS_PER_VPA);
    let (mut first_writes, mut later_writes) = (0, 0);
    let mut times = Vec::with_capacity(CYCLES + 1);
    for cycle in 0..=CYCLES {
        let amounts = wander.step(now);
        let began = Instant::now();
        let plan = model.cycle(&amounts, now);
        times.push(began.elapsed());
        let writes = plan.statuses.len() + plan.checkpoint_writes.len();
        if cycle == 0 {
            first_writes = writes;
        }
        later_writes = writes;
        model.write(plan, now);
        now += INTERVAL;
    }
    let first = times.remove(0);
    times.sort();
    let peak = Usage::of_self()?.peak;
    Ok(Figures { first, later: times[times.len() / 2], first_writes, later_writes, peak })
}

/// The model of a fleet.
pub(super) struct Model {
    /// What it holds.
    pub(super) state: ClusterState,
    config: Config,
    vpas: BTreeMap<VpaId, (Arc<VerticalPodAutoscaler>, Selector)>,
    containers: Vec<ContainerId>,
}

impl Model {
    pub(super) fn new(fleet: Fleet, now: Timestamp) -> Result<Self> {
        let mut state = ClusterState::new(Settings::default());
        let mut vpas = BTreeMap::new();
        for workload in 0..fleet.vpas {
            let mut vpa: VerticalPodAutoscaler = object(fleet::vpa_object(workload))?;
            vpa.metadata.uid = Some(workload.to_string());
            vpa.metadata.generation = Some(1);
            let labels = BTreeMap::from([("app".to_owned(), fleet::name(workload))]);
            let selector = Selector::from_label_map(Some(&labels));
            let selector = selector.map_err(|error| Error::expectation(error.to_string()))?;
            let vpa = Arc::new(vpa);
            let id = VpaId::of_vpa(&vpa);
            take(&mut state, Observation::Vpa(vpa.clone(), Target::Found(selector.clone())), now)?;
            vpas.insert(id, (vpa, selector));
        }
        let mut containers = Vec::with_capacity(fleet.pods());
        for pod in 0..fleet.pods() {
            let (namespace, name) = (fleet.namespace_of_pod(pod), fleet.pod_name(pod));
            let object: Pod = object(json!({
                "metadata": { "name": name, "namespace": namespace, "labels": fleet.labels_of_pod(pod) },
                "spec": { "containers": [{ "name": CONTAINER }] },
                "status": { "phase": "Running" },
            }))?;
            take(&mut state, Observation::Pod(&ObservedPod::from(&object)), now)?;
            containers.push(ContainerId::new(&namespace, &name, CONTAINER));
        }
        Ok(Self { state, config: Config::default(), vpas, containers })
    }

    /// What the program does in each cycle, but for what the API is asked.
    fn cycle(&mut self, amounts: &[(i64, i64)], now: Timestamp) -> CyclePlan {
        for (vpa, selector) in self.vpas.values() {
            // Always taken, as are the pods.
            let _ = self.state.apply(Observation::Vpa(vpa.clone(), Target::Found(selector.clone())), now);
        }
        self.take_usage(amounts, now);
        plan(&mut self.state, &self.config, now)
    }

    /// Usage of all pods.
    pub(super) fn take_usage(&mut self, amounts: &[(i64, i64)], now: Timestamp) {
        for (container, &(millicores, bytes)) in self.containers.iter().zip(amounts) {
            let _ = self.state.apply(Observation::Cpu { container, time: now, millicores }, now);
            let _ = self.state.apply(Observation::Memory { container, time: now, bytes }, now);
        }
    }

    /// Takes all of a plan as written, as if the watch had shown it.
    fn write(&mut self, plan: CyclePlan, now: Timestamp) {
        for write in plan.statuses {
            if let Some((vpa, _)) = self.vpas.get_mut(&write.vpa) {
                let mut object = VerticalPodAutoscaler::clone(vpa);
                object.status = Some(write.status);
                *vpa = Arc::new(object);
            }
        }
        for write in plan.checkpoint_writes {
            self.state.checkpoint_written(&write.vpa, &write.container, write.content, now);
        }
        self.state.take_quality();
    }
}

fn take(state: &mut ClusterState, observation: Observation<'_>, now: Timestamp) -> Result<()> {
    state.apply(observation, now).map_err(|error| Error::expectation(error.to_string()))
}

fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<K> {
    serde_json::from_value(value).map_err(|error| Error::expectation(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_written_at_first_and_every_usage_counts() {
        let figures = run(20).unwrap();
        assert_eq!(figures.first_writes, 40);
        assert!(figures.peak > 0);
        let fleet = Fleet { vpas: 3 };
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut model = Model::new(fleet, now).unwrap();
        let plan = model.cycle(&[(100, 1 << 30); 6], now);
        assert_eq!((plan.report.pods, plan.statuses.len(), plan.checkpoint_writes.len()), (6, 3, 3));
    }
}
