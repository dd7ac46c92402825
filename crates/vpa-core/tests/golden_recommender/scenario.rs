//! Whole lives of a VPA: samples, OOM kills, restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compact_str::CompactString;
use golden::{expect, expect_close, expect_json};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use vpa_api::checkpoint::VerticalPodAutoscalerCheckpointStatus;
use vpa_api::pod::Pod;
use vpa_api::vpa::VerticalPodAutoscalerStatus;
use vpa_api::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};
use vpa_core::model::oom::Oom;
use vpa_core::model::{ClusterState, ContainerId, Observation, ObservedPod, PodId, Target, VpaId};
use vpa_core::recommend::{Estimate, estimate, plan};
use vpa_core::target::Selector;

mod twin;

use crate::flags::{self, Flags, Parsed};
use crate::numbers::{CLOSE, compare_checkpoints};

#[derive(Clone, Deserialize)]
pub(crate) struct Case {
    flags: Flags,
    base: i64,
    selector: String,
    vpas: Vec<Value>,
    pods: Vec<PodCase>,
    containers: Vec<(usize, String)>,
    events: Vec<Vec<Value>>,
    rejected: BTreeMap<usize, String>,
    recommendations: Vec<Recommendation>,
    #[serde(default)]
    checkpoints: Vec<Checkpoints>,
    /// What is different on purpose; see the rules.
    #[serde(default)]
    deviations: Vec<String>,
}

#[derive(Clone, Deserialize)]
struct PodCase {
    name: String,
    labels: BTreeMap<String, String>,
    containers: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    target: (Option<i64>, Option<i64>),
    lower_bound: (Option<i64>, Option<i64>),
    upper_bound: (Option<i64>, Option<i64>),
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AggregateCase {
    samples: i64,
    first: Option<i64>,
    last: Option<i64>,
    cpu: [f64; 4],
    memory: [f64; 4],
    cpu_total: f64,
    memory_total: f64,
    cpu_ref: Option<i64>,
    memory_ref: Option<i64>,
}

type ContainerCase = (String, String, Option<i64>, i64, i64, Option<i64>, Option<i64>);

#[derive(Clone, Deserialize)]
struct Recommendation {
    t: i64,
    raw: BTreeMap<String, RawContainer>,
    aggregates: BTreeMap<String, AggregateCase>,
    containers: Vec<ContainerCase>,
    recommendation: Value,
    conditions: Value,
}

#[derive(Clone, Deserialize)]
struct Checkpoints {
    t: i64,
    checkpoints: Vec<CheckpointCase>,
}

#[derive(Clone, Deserialize)]
struct CheckpointCase {
    name: String,
    spec: Value,
    status: VerticalPodAutoscalerCheckpointStatus,
}

pub(crate) fn run(case: &Case) -> Result<(), String> {
    if twin::has_twin(case) {
        // CPU is as in the reference; memory as in a life in which what is handled differently does not occur.
        let own = complete(case, Compare::CpuOnly)?;
        let twin = complete(&twin::of(case)?, Compare::CpuOnly)?;
        return expect("as in the twin", &twin, &own);
    }
    let lenient = case.deviations.iter().any(|deviation| deviation == "own-minimum");
    complete(case, if lenient { Compare::ButMinima } else { Compare::All }).map(drop)
}

/// What is compared with the reference.
#[derive(Clone, Copy, PartialEq)]
enum Compare {
    All,
    /// All but amounts that are the pod's minimum in the reference: here they may be lower.
    ButMinima,
    /// CPU estimates.
    CpuOnly,
}

/// Goes through the events; returns what was recommended.
fn complete(case: &Case, compare: Compare) -> Result<Vec<Value>, String> {
    let mut run = Run::new(case, compare)?;
    for (n, event) in case.events.iter().enumerate() {
        run.event(n, event).map_err(|error| format!("event {n} {event:?}: {error}"))?;
    }
    if compare != Compare::CpuOnly {
        expect("rejected", &case.rejected, &run.rejected)?;
    }
    expect("recommendations", &case.recommendations.len(), &run.recommended)?;
    expect("checkpoints", &case.checkpoints.len(), &run.checkpointed)?;
    Ok(run.records)
}

struct Run<'a> {
    case: &'a Case,
    parsed: Parsed,
    state: ClusterState,
    vpa: Arc<VerticalPodAutoscaler>,
    target: Target,
    pods: BTreeMap<usize, String>,
    saved: BTreeMap<String, VerticalPodAutoscalerCheckpoint>,
    now: Timestamp,
    rejected: BTreeMap<usize, String>,
    recommended: usize,
    checkpointed: usize,
    compare: Compare,
    records: Vec<Value>,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case, compare: Compare) -> Result<Self, String> {
        let parsed = flags::parse(&case.flags)?;
        let selector = Selector::parse(&case.selector).map_err(|error| error.to_string())?;
        let mut run = Self {
            case,
            state: ClusterState::new(parsed.settings.clone()),
            parsed,
            vpa: Arc::new(vpa(&case.vpas[0])?),
            target: Target::Found(selector),
            pods: BTreeMap::new(),
            saved: BTreeMap::new(),
            now: second(case.base)?,
            rejected: BTreeMap::new(),
            recommended: 0,
            checkpointed: 0,
            compare,
            records: Vec::new(),
        };
        run.put_vpa()?;
        Ok(run)
    }

    fn apply(&mut self, observation: Observation<'_>) -> Result<(), String> {
        self.state.apply(observation, self.now).map_err(|error| error.to_string())
    }

    fn put_vpa(&mut self) -> Result<(), String> {
        self.apply(Observation::Vpa(self.vpa.clone(), self.target.clone()))
    }

    fn put_pod(&mut self, index: usize) -> Result<(), String> {
        let pod = pod(&self.case.pods[index], &self.pods[&index])?;
        self.apply(Observation::Pod(&ObservedPod::from(&pod)))
    }

    fn container(&self, index: usize) -> ContainerId {
        let (pod, container) = &self.case.containers[index];
        ContainerId::new("ns", &self.case.pods[*pod].name, container)
    }

    fn set_now(&mut self, t: i64) -> Result<Timestamp, String> {
        let time = second(self.case.base + t)?;
        self.now = self.now.max(time);
        Ok(time)
    }

    fn event(&mut self, n: usize, event: &[Value]) -> Result<(), String> {
        let int = |place: usize| event.get(place).and_then(Value::as_i64);
        let index = || int(1).and_then(|index| usize::try_from(index).ok()).ok_or("no index");
        let Some(kind) = event[0].as_str() else { return self.sample(n, event) };
        match kind {
            "pod" => {
                let index = index()?;
                self.pods.entry(index).or_insert_with(|| "Running".to_owned());
                self.put_pod(index)
            }
            "phase" => {
                let index = index()?;
                self.pods.insert(index, event[2].as_str().ok_or("no phase")?.to_owned());
                self.put_pod(index)
            }
            "gone" => {
                let index = index()?;
                self.pods.remove(&index);
                let id = PodId::new("ns", &self.case.pods[index].name);
                self.apply(Observation::PodGone(&id))
            }
            "oom" => self.oom(n, int(1).ok_or("no time")?, int(2), int(3).ok_or("no amount")?),
            "vpa" => {
                let mut next = vpa(&self.case.vpas[index()?])?;
                next.status.clone_from(&self.vpa.status);
                self.vpa = Arc::new(next);
                self.put_vpa()
            }
            "owner" => {
                let selector = Selector::parse(&self.case.selector).map_err(|error| error.to_string())?;
                self.target = match event[1].as_str() {
                    Some("same") => Target::Found(selector),
                    _ => Target::Failed("no owner".to_owned()),
                };
                self.put_vpa()
            }
            "gc" => {
                self.now = self.set_now(int(1).ok_or("no time")?)?;
                self.state.collect_garbage(self.now);
                Ok(())
            }
            "recommend" => self.recommend(int(1).ok_or("no time")?),
            "checkpoint" => self.checkpoint(int(1).ok_or("no time")?),
            "restart" => self.restart(),
            other => Err(format!("unknown event {other}")),
        }
    }

    fn sample(&mut self, n: usize, event: &[Value]) -> Result<(), String> {
        let time = self.set_now(event[0].as_i64().ok_or("no time")?)?;
        let container = self.container(event[1].as_u64().ok_or("no container")? as usize);
        let mut refused = String::new();
        if let Some(millicores) = event[2].as_i64()
            && self.apply(Observation::Cpu { container: &container, time, millicores }).is_err()
        {
            refused.push('c');
        }
        if let Some(bytes) = event[3].as_i64()
            && self.apply(Observation::Memory { container: &container, time, bytes }).is_err()
        {
            refused.push('m');
        }
        if !refused.is_empty() {
            self.rejected.insert(n, refused);
        }
        Ok(())
    }

    fn oom(&mut self, n: usize, t: i64, container: Option<i64>, bytes: i64) -> Result<(), String> {
        let time = self.set_now(t)?;
        let container = self.container(container.ok_or("no container")? as usize);
        let oom = Oom { container, time, requested_bytes: bytes, first_sight: false };
        if self.apply(Observation::Oom(&oom)).is_err() {
            self.rejected.insert(n, "oom".to_owned());
        }
        Ok(())
    }

    fn recommend(&mut self, t: i64) -> Result<(), String> {
        self.now = self.set_now(t)?;
        let want = self.case.recommendations.get(self.recommended).ok_or("no recommendation left")?;
        self.recommended += 1;
        expect("time", &want.t, &t)?;
        let plan = plan(&mut self.state, &self.parsed.config, self.now);
        let report = plan.report.vpas.first().ok_or("no report")?;
        let estimates: BTreeMap<_, _> =
            report.containers.iter().map(|c| (c.container.to_string(), c.estimate)).collect();
        if let Some(write) = plan.statuses.into_iter().next() {
            let mut next = (*self.vpa).clone();
            next.status = Some(write.status);
            self.vpa = Arc::new(next);
            self.put_vpa()?;
        }
        let status = self.vpa.status.clone().unwrap_or_default();
        self.records.push(json!({
            "estimates": format!("{estimates:?}"),
            "recommendation": status.recommendation,
            "conditions": conditions(&status),
        }));
        let containers = want.raw.len();
        for (name, want) in &want.raw {
            let got = estimates.get(name).ok_or("no estimate")?;
            self.compare_raw(name, want, got, containers)?;
        }
        if self.compare == Compare::CpuOnly {
            return Ok(());
        }
        self.compare_state(want)?;
        expect_json("conditions", &want.conditions, &conditions(&status))?;
        if self.compare == Compare::All {
            expect_json("recommendation", &want.recommendation, &status.recommendation)?;
        }
        Ok(())
    }

    fn compare_raw(
        &self,
        name: &str,
        want: &RawContainer,
        got: &Estimate,
        containers: usize,
    ) -> Result<(), String> {
        let share = estimate::pod_share(&self.parsed.config, containers);
        let lists = [
            ("target", want.target, got.target),
            ("lower bound", want.lower_bound, got.lower_bound),
            ("upper bound", want.upper_bound, got.upper_bound),
        ];
        for (list, want, got) in lists {
            let resources = [
                ("cpu", want.0, got.cpu_millicores, share.cpu_millicores),
                ("memory", want.1, got.memory_bytes, share.memory_bytes),
            ];
            for (resource, want, got, minimum) in resources {
                let skipped = self.compare == Compare::CpuOnly && resource == "memory";
                let lower = self.compare == Compare::ButMinima && want == minimum && got <= want;
                if !skipped && !lower {
                    expect(&format!("{name} raw {list} {resource}"), &want, &got)?;
                }
            }
        }
        Ok(())
    }

    fn compare_state(&mut self, want: &Recommendation) -> Result<(), String> {
        let id = VpaId::new("ns", "v");
        let merged = self.state.aggregates_of(&id, self.now);
        let vpa = self.state.vpa(&id).ok_or("no VPA")?;
        let merged = estimate::scaled_containers(vpa, merged);
        expect(
            "aggregates",
            &want.aggregates.keys().map(String::as_str).collect(),
            &merged.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        )?;
        for (name, want) in &want.aggregates {
            compare_aggregate(name, want, &merged[name.as_str()], self.case.base)?;
        }
        let mut live: Vec<ContainerCase> = Vec::new();
        let relative = |time: Option<Timestamp>| time.map(|time| time.as_second() - self.case.base);
        for (pod, state) in self.state.pods() {
            for (name, container) in &state.containers {
                live.push((
                    pod.name.to_string(),
                    name.to_string(),
                    relative(container.window_end),
                    container.memory_peak,
                    container.oom_peak,
                    relative(container.last_cpu),
                    relative(container.last_memory),
                ));
            }
        }
        let want_live: BTreeSet<_> = want.containers.iter().cloned().collect();
        expect("containers", &want_live, &live.into_iter().collect())
    }

    fn checkpoint(&mut self, t: i64) -> Result<(), String> {
        self.now = self.set_now(t)?;
        let want = self.case.checkpoints.get(self.checkpointed).ok_or("no checkpoint left")?;
        self.checkpointed += 1;
        expect("time", &want.t, &t)?;
        let id = VpaId::new("ns", "v");
        let containers: Vec<_> = self.state.aggregates_of(&id, self.now).into_keys().collect();
        let checkpoint = |container: &CompactString| self.state.checkpoint(&id, container, self.now);
        let got: Vec<_> = containers.iter().filter_map(checkpoint).collect();
        let names: Vec<_> = got.iter().filter_map(|object| object.metadata.name.clone()).collect();
        expect("names", &want.checkpoints.iter().map(|c| c.name.clone()).collect(), &names)?;
        for (want, object) in want.checkpoints.iter().zip(got) {
            if self.compare != Compare::CpuOnly {
                compare_checkpoint(want, &object)?;
            }
            // As the Go suite would have written it: without the annotation.
            let mut saved = object;
            saved.metadata.annotations = None;
            self.saved.insert(want.name.clone(), saved);
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        self.state = ClusterState::new(self.parsed.settings.clone());
        self.put_vpa()?;
        for checkpoint in self.saved.values() {
            let observation = Observation::Checkpoint(checkpoint);
            self.state.apply(observation, self.now).map_err(|error| error.to_string())?;
        }
        for index in self.pods.keys().copied().collect::<Vec<_>>() {
            self.put_pod(index)?;
        }
        Ok(())
    }
}

fn second(seconds: i64) -> Result<Timestamp, String> {
    Timestamp::from_second(seconds).map_err(|error| error.to_string())
}

fn vpa(spec: &Value) -> Result<VerticalPodAutoscaler, String> {
    let policies = spec.get("containerPolicies").cloned();
    let unknown = spec.as_object().is_none_or(|spec| spec.keys().any(|key| key != "containerPolicies"));
    expect("unknown part of a VPA", &false, &unknown)?;
    let object = json!({
        "apiVersion": "autoscaling.k8s.io/v1",
        "kind": "VerticalPodAutoscaler",
        "metadata": {"namespace": "ns", "name": "v"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "resourcePolicy": {"containerPolicies": policies},
        },
    });
    serde_json::from_value(object).map_err(|error| error.to_string())
}

pub(crate) fn pod_object(
    namespace: &str,
    name: &str,
    labels: &BTreeMap<String, String>,
    containers: &[String],
    init: &[String],
    phase: &str,
) -> Result<Pod, String> {
    let names = |list: &[String]| list.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    let object = json!({
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"containers": names(containers), "initContainers": names(init)},
        "status": {"phase": phase},
    });
    serde_json::from_value(object).map_err(|error| error.to_string())
}

fn pod(case: &PodCase, phase: &str) -> Result<Pod, String> {
    pod_object("ns", &case.name, &case.labels, &case.containers, &[], phase)
}

fn conditions(status: &VerticalPodAutoscalerStatus) -> Vec<[String; 4]> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let conditions = status.conditions.iter().flatten();
    conditions.map(|c| [c.type_.clone(), c.status.clone(), text(&c.reason), text(&c.message)]).collect()
}

fn compare_aggregate(
    name: &str,
    want: &AggregateCase,
    got: &vpa_core::model::Aggregate,
    base: i64,
) -> Result<(), String> {
    let relative = |time: Option<Timestamp>| time.map(|time| time.as_second() - base);
    expect(&format!("{name} samples"), &want.samples, &got.samples)?;
    expect(&format!("{name} first"), &want.first, &relative(got.first_sample))?;
    expect(&format!("{name} last"), &want.last, &relative(got.last_sample))?;
    let percentiles =
        |h: &vpa_core::model::histogram::DecayingHistogram| [0.5, 0.9, 0.95, 1.0].map(|p| h.percentile(p));
    expect(&format!("{name} cpu"), &want.cpu, &percentiles(&got.cpu))?;
    expect(&format!("{name} memory"), &want.memory, &percentiles(&got.memory))?;
    expect_close(&format!("{name} cpu total"), want.cpu_total, got.cpu.total(), CLOSE)?;
    expect_close(&format!("{name} memory total"), want.memory_total, got.memory.total(), CLOSE)?;
    let reference = |time: Option<Timestamp>| time.map(Timestamp::as_second);
    expect(&format!("{name} cpu reference"), &want.cpu_ref, &reference(got.cpu.reference()))?;
    expect(&format!("{name} memory reference"), &want.memory_ref, &reference(got.memory.reference()))
}

fn compare_checkpoint(want: &CheckpointCase, got: &VerticalPodAutoscalerCheckpoint) -> Result<(), String> {
    let name = &want.name;
    expect_json(&format!("{name} spec"), &want.spec, &got.spec)?;
    let (want, got) = (&want.status, got.status.clone().unwrap_or_default());
    expect(&format!("{name} version"), &want.version, &got.version)?;
    expect(&format!("{name} samples"), &want.total_samples_count, &got.total_samples_count)?;
    expect(&format!("{name} first"), &want.first_sample_start, &got.first_sample_start)?;
    expect(&format!("{name} last"), &want.last_sample_start, &got.last_sample_start)?;
    expect(&format!("{name} written"), &want.last_update_time, &got.last_update_time)?;
    compare_checkpoints(&format!("{name} cpu"), &want.cpu_histogram, &got.cpu_histogram)?;
    compare_checkpoints(&format!("{name} memory"), &want.memory_histogram, &got.memory_histogram)
}
