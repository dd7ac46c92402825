//! Conditions and statuses over several cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use golden::{expect, expect_json};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use vpa_api::vpa::{VerticalPodAutoscalerCondition, VerticalPodAutoscalerSpec};
use vpa_api::{ResourceList, VerticalPodAutoscaler};
use vpa_core::model::usage::amounts;
use vpa_core::model::{
    ClusterState, ContainerId, Observation, ObservedPod, PodId, Target, VpaId, checkpoint_name,
};
use vpa_core::recommend::{conditions_after_load, plan};
use vpa_core::target::Selector;

mod kept;

use crate::flags::{self, Flags};
use crate::scenario::pod_object;

#[derive(Clone, Deserialize)]
pub(crate) struct Case {
    flags: Flags,
    vpa: VerticalPodAutoscaler,
    steps: Vec<Step>,
    /// What is different on purpose; see the rules.
    #[serde(default)]
    deviations: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    spec: Option<VerticalPodAutoscalerSpec>,
    selector: SelectorCase,
    owner: String,
    pods: Vec<PodCase>,
    usage: Vec<(String, String, i64, String, String)>,
    watched: bool,
    after_load: Value,
    status: Option<Value>,
    patched: bool,
    checkpoints_written: Vec<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct SelectorCase {
    labels: Option<String>,
    error: Option<String>,
    none: bool,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodCase {
    name: String,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    containers: Vec<String>,
    #[serde(default)]
    init_containers: Vec<String>,
}

/// When the first step happens: after all times in the cases.
const START_SECOND: i64 = 1_800_000_000;

pub(crate) fn run(case: &Case) -> Result<(), String> {
    if !case.deviations.is_empty() {
        return kept::run(case);
    }
    let mut cycles = Cycles::new(case)?;
    for (n, step) in case.steps.iter().enumerate() {
        let what = |part: &str| format!("step {n} {part}");
        let cycle = cycles.step(step)?;
        expect(&what("watched"), &step.watched, &cycle.watched)?;
        if cycle.watched {
            expect_json(&what("after load"), &step.after_load, &show(&cycle.loaded, cycles.now))?;
        }
        expect(&what("patched"), &step.patched, &cycle.patched)?;
        expect(&what("checkpoints"), &step.checkpoints_written, &cycle.checkpoints)?;
        if let Some(want) = &step.status {
            expect_json(&what("status"), want, &cycles.status()?)?;
        }
    }
    Ok(())
}

/// What a cycle came to.
struct Cycle {
    watched: bool,
    /// Conditions once the target was looked up.
    loaded: Vec<VerticalPodAutoscalerCondition>,
    patched: bool,
    checkpoints: Vec<String>,
}

/// Cycles of a recommender with one VPA.
struct Cycles {
    parsed: flags::Parsed,
    state: ClusterState,
    vpa: VerticalPodAutoscaler,
    now: Timestamp,
    pods: BTreeSet<String>,
}

impl Cycles {
    fn new(case: &Case) -> Result<Self, String> {
        let parsed = flags::parse(&case.flags)?;
        Ok(Self {
            state: ClusterState::new(parsed.settings.clone()),
            parsed,
            vpa: case.vpa.clone(),
            now: Timestamp::from_second(START_SECOND).map_err(|error| error.to_string())?,
            pods: BTreeSet::new(),
        })
    }

    fn step(&mut self, step: &Step) -> Result<Cycle, String> {
        self.now += SignedDuration::from_mins(1);
        let now = self.now;
        let id = VpaId::of_vpa(&self.vpa);
        if let Some(spec) = &step.spec {
            self.vpa.spec = spec.clone();
            self.vpa.metadata.generation = self.vpa.metadata.generation.map(|generation| generation + 1);
        }
        let watched = self.parsed.scope.serves(&self.vpa);
        let mut loaded = Vec::new();
        if watched {
            apply(&mut self.state, Observation::Vpa(Arc::new(self.vpa.clone()), target(step)?), now)?;
            loaded = conditions_after_load(self.state.vpa(&id).ok_or("no VPA")?, now).into_list();
        }
        put_pods(&mut self.state, &self.vpa, step, &mut self.pods, now)?;
        let plan = plan(&mut self.state, &self.parsed.config, now);
        let patched = !plan.statuses.is_empty();
        if let Some(write) = plan.statuses.into_iter().next() {
            self.vpa.status = Some(write.status);
        }
        // The reference writes all that are due; here only those that say something new are, so nothing is said to have
        // been written.
        let mut checkpoints: Vec<_> =
            plan.checkpoint_writes.iter().map(|write| checkpoint_name(&id.name, &write.container)).collect();
        checkpoints.sort();
        Ok(Cycle { watched, loaded, patched, checkpoints })
    }

    /// The status as the cases show it.
    fn status(&self) -> Result<Value, String> {
        let status = self.vpa.status.clone().unwrap_or_default();
        let mut shown = serde_json::to_value(&status).map_err(|error| error.to_string())?;
        shown["conditions"] = Value::Array(show(status.conditions.as_deref().unwrap_or(&[]), self.now));
        Ok(shown)
    }
}

fn apply(state: &mut ClusterState, observation: Observation<'_>, now: Timestamp) -> Result<(), String> {
    state.apply(observation, now).map_err(|error| error.to_string())
}

fn put_pods(
    state: &mut ClusterState,
    vpa: &VerticalPodAutoscaler,
    step: &Step,
    known: &mut BTreeSet<String>,
    now: Timestamp,
) -> Result<(), String> {
    let namespace = vpa.metadata.namespace.as_deref().unwrap_or("");
    let names: BTreeSet<_> = step.pods.iter().map(|pod| pod.name.clone()).collect();
    for pod in &step.pods {
        let phase = pod.phase.as_deref().unwrap_or("Running");
        let object =
            pod_object(namespace, &pod.name, &pod.labels, &pod.containers, &pod.init_containers, phase)?;
        apply(state, Observation::Pod(&ObservedPod::from(&object)), now)?;
    }
    for (pod, container, second, cpu, memory) in &step.usage {
        let container = ContainerId::new(namespace, pod, container);
        let time = Timestamp::from_second(*second).map_err(|error| error.to_string())?;
        let usage: ResourceList = serde_json::from_value(json!({"cpu": cpu, "memory": memory}))
            .map_err(|error| error.to_string())?;
        let amounts = amounts(&usage);
        // Samples of unknown and init containers are refused, which shows in the result.
        if let Some(millicores) = amounts.cpu_millicores {
            let _ = state.apply(Observation::Cpu { container: &container, time, millicores }, now);
        }
        if let Some(bytes) = amounts.memory_bytes {
            let _ = state.apply(Observation::Memory { container: &container, time, bytes }, now);
        }
    }
    for name in known.difference(&names) {
        apply(state, Observation::PodGone(&PodId::new(namespace, name)), now)?;
    }
    *known = names;
    Ok(())
}

/// What the answers of a step amount to. The messages are the reference's own, except for their first words, which
/// come from what is tested.
fn target(step: &Step) -> Result<Target, String> {
    let selector = match &step.selector {
        SelectorCase { labels: Some(labels), .. } => labels,
        SelectorCase { error: Some(error), .. } => {
            let message = format!("Cannot read targetRef. Reason: {error}");
            let gone = error.ends_with("does not exist");
            return Ok(if gone { Target::Gone(message) } else { Target::Unsupported(message) });
        }
        SelectorCase { .. } => return Ok(Target::Unsupported("Cannot read targetRef".to_owned())),
    };
    let selector = Selector::parse(selector).map_err(|error| error.to_string())?;
    let message = || {
        step.after_load.as_array().and_then(|conditions| {
            let unsupported = conditions.iter().find(|condition| condition["type"] == "ConfigUnsupported");
            unsupported.and_then(|condition| condition["message"].as_str()).map(str::to_owned)
        })
    };
    Ok(match step.owner.as_str() {
        "same" => Target::Found(selector),
        "parent" | "none" => Target::Unsupported(message().ok_or("no message")?),
        _ => Target::Failed(message().ok_or("no message")?),
    })
}

/// Conditions with the transition time in the words of the cases.
fn show(conditions: &[VerticalPodAutoscalerCondition], now: Timestamp) -> Vec<Value> {
    conditions
        .iter()
        .map(|condition| {
            let mut value = serde_json::to_value(condition).unwrap_or_default();
            let time = condition.last_transition_time.as_ref().map(|time| time.0.as_second());
            value["lastTransitionTime"] = match time {
                None => Value::Null,
                Some(second) if second == now.as_second() => json!("now"),
                Some(second) if second >= START_SECOND => json!("earlier"),
                Some(_) => value["lastTransitionTime"].clone(),
            };
            value
        })
        .collect()
}
