//! Cases of whole passes.

use std::collections::BTreeMap;
use std::sync::Arc;

use golden::expect_json;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use vpa_api::VerticalPodAutoscaler;
use vpa_api::limit_range::LimitRange;
use vpa_api::pod::Pod;
use vpa_core::update::{
    Action, Config, Heartbeat, Next, NoNodes, Pass, PassReport, Reason, Snapshot, Tally, UpdaterMemory,
    Verdict, VpaReport, pod_name,
};

use crate::inputs::{
    Flags, Gates, Limits, answer, arcs, call, config, controllers, expect_timers, resize_calls, show_event,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Case {
    #[serde(default)]
    flags: Flags,
    #[serde(default)]
    feature_gates: Gates,
    /// The settings are refused at the start.
    #[serde(default)]
    refused: bool,
    loops: Vec<Loop>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Loop {
    now: Timestamp,
    #[serde(deserialize_with = "arcs")]
    vpas: Vec<Arc<VerticalPodAutoscaler>>,
    #[serde(deserialize_with = "arcs")]
    pods: Vec<Arc<Pod>>,
    controllers: Vec<Value>,
    #[serde(default)]
    limit_ranges: Vec<LimitRange>,
    #[serde(default)]
    api_errors: BTreeMap<String, Value>,
    want: Want,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Want {
    actions: Value,
    controlled: Value,
    infeasible_attempts: Value,
    last_in_place_attempts: BTreeMap<String, Timestamp>,
    metrics: BTreeMap<String, f64>,
}

pub(crate) fn check(case: &Case) -> Result<(), String> {
    let config = config(&case.flags, &case.feature_gates);
    golden::expect("refused", &case.refused, &config.validate().is_err())?;
    if case.refused {
        return Ok(());
    }
    let mut memory = UpdaterMemory::new(&config).map_err(|error| error.to_string())?;
    let mut metrics = Metrics::default();
    for (number, one) in case.loops.iter().enumerate() {
        let (actions, report, left) = run(one, &config, memory);
        memory = left;
        metrics.add(&report);
        let what = |part: &str| format!("loop {number}, {part}");
        expect_json(&what("controlled"), &one.want.controlled, &controlled(&report))?;
        expect_json(&what("actions"), &one.want.actions, &actions)?;
        expect_json(&what("infeasible"), &one.want.infeasible_attempts, &infeasible(&one.pods, &memory))?;
        expect_json(&what("metrics"), &json!(one.want.metrics), &metrics.show())?;
        expect_timers(&one.want.last_in_place_attempts, &one.pods, &memory)
            .map_err(|error| format!("loop {number}, {error}"))?;
        no_pod_without_verdict(&report)?;
    }
    Ok(())
}

/// Runs a pass against an API that answers at once, on a clock that only the rate limit moves.
fn run(one: &Loop, config: &Config, memory: UpdaterMemory) -> (Value, PassReport, UpdaterMemory) {
    let (controllers, limits) = (controllers(&one.controllers), Limits::new(&one.limit_ranges));
    let snapshot = Snapshot {
        vpas: one.vpas.clone(),
        pods: one.pods.clone(),
        controllers: &controllers,
        limit_ranges: &limits,
        nodes: Arc::new(NoNodes),
        heartbeat: Heartbeat::NotUsed,
    };
    let mut now = one.now;
    let mut pass = Pass::new(&snapshot, config.clone(), memory, now);
    let mut actions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let of_vpa = |vpa: &VerticalPodAutoscaler| {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", part(&vpa.metadata.namespace), part(&vpa.metadata.name))
    };
    let mut current = String::new();
    loop {
        let next = pass.next(now);
        // Events that came up while looking for the next step belong to the VPA that controls the pod.
        for event in pass.take_events() {
            let shown = show_event(&event);
            let vpa = owner_of(&shown, &one.pods, &one.want.controlled).unwrap_or_else(|| current.clone());
            actions.entry(vpa).or_default().push(at(shown, one.now, now));
        }
        match next {
            Next::Done => break,
            Next::Wait { until } => now = until.expect("no step is under way"),
            Next::Step(step) => {
                current = of_vpa(&step.vpa);
                let (log, outcome) = match &step.action {
                    Action::Evict { .. } => {
                        let outcome = answer(&one.api_errors, "evict", &step.pod);
                        let failed = outcome != vpa_core::update::Outcome::Done;
                        (vec![call("evict", &step.pod, None, failed)], outcome)
                    }
                    Action::Resize { resize, annotate } | Action::Unboost { resize, annotate } => {
                        resize_calls(&step.pod, resize, annotate, &one.api_errors)
                    }
                };
                pass.on_outcome(step.id, outcome, now);
                let events = pass.take_events();
                let log =
                    log.into_iter().chain(events.iter().map(show_event)).map(|entry| at(entry, one.now, now));
                actions.entry(current.clone()).or_default().extend(log);
            }
        }
    }
    let (report, memory) = pass.finish(now);
    (json!(actions), report, memory)
}

fn at(mut entry: Value, start: Timestamp, now: Timestamp) -> Value {
    let ms = now.duration_since(start).as_millis();
    if ms > 0 {
        entry["atMs"] = json!(ms as i64);
    }
    entry
}

fn owner_of(event: &Value, pods: &[Arc<Pod>], controlled: &Value) -> Option<String> {
    let on = event["on"].as_str()?;
    let pod = pods.iter().map(|pod| pod_name(pod)).find(|name| on == format!("Pod {name}"))?;
    let holds = |list: &Value| list.as_array().is_some_and(|list| list.contains(&json!(pod)));
    controlled.as_object()?.iter().find(|(_, list)| holds(list)).map(|(vpa, _)| vpa.clone())
}

fn controlled(report: &PassReport) -> Value {
    let pods = |vpa: &VpaReport| vpa.pods.iter().map(|pod| pod.pod()).collect::<Vec<_>>();
    report.vpas.iter().map(|vpa| (format!("{}/{}", vpa.namespace, vpa.name), json!(pods(vpa)))).collect()
}

fn infeasible(pods: &[Arc<Pod>], memory: &UpdaterMemory) -> Value {
    let remembered = |pod: &Arc<Pod>| {
        let targets = memory.infeasible(pod)?;
        Some((pod.metadata.uid.clone()?, json!({ "containerRecommendations": targets })))
    };
    pods.iter().filter_map(remembered).collect()
}

fn no_pod_without_verdict(report: &PassReport) -> Result<(), String> {
    let lost =
        report.pods().find(|(_, pod)| pod.verdict == Verdict::Left(Reason::PassOver) && report.complete);
    lost.map_or(Ok(()), |(_, pod)| Err(format!("pod {} has no verdict", pod.pod())))
}

/// The reference's metrics, from the reports.
#[derive(Default)]
struct Metrics {
    counters: BTreeMap<String, f64>,
    gauges: BTreeMap<String, f64>,
}

impl Metrics {
    fn add(&mut self, report: &PassReport) {
        self.gauges.clear();
        for vpa in &report.vpas {
            self.add_vpa(vpa);
        }
    }

    fn add_vpa(&mut self, vpa: &VpaReport) {
        let size = vpa.pods.len().checked_ilog2().unwrap_or(0);
        let log2 = format!("vpa_size_log2=\"{size}\"");
        let mode = format!("update_mode=\"{}\",{log2}", vpa.mode);
        let name = format!("vpa_name=\"{}\",vpa_namespace=\"{}\"", vpa.name, vpa.namespace);
        let Tally { evictable, in_place_updatable, evicted, resized, infeasible_skipped, .. } = &vpa.tally;
        let mut counter = |metric: &str, labels: String, count: usize| {
            *self.counters.entry(format!("vpa_updater_{metric}{{{labels}}}")).or_default() += count as f64;
        };
        counter("evicted_pods_total", format!("update_mode=\"{}\",{name},{log2}", vpa.mode), *evicted);
        counter("in_place_updated_pods_total", format!("{name},{log2}"), *resized);
        if *infeasible_skipped > 0 {
            counter("in_place_infeasible_skip_pods_total", format!("{name},{log2}"), *infeasible_skipped);
        }
        for (reason, count) in &vpa.tally.failed_evictions {
            let labels = format!("reason=\"{reason}\",update_mode=\"{}\",{name},{log2}", vpa.mode);
            counter("failed_eviction_attempts_total", labels, *count);
        }
        for (reason, count) in &vpa.tally.failed_resizes {
            let labels = format!("reason=\"{reason}\",{name},{log2}");
            counter("failed_in_place_update_attempts_total", labels, *count);
        }
        let mut gauge = |metric: &str, labels: &str, count: usize| {
            if count > 0 {
                *self.gauges.entry(format!("vpa_updater_{metric}{{{labels}}}")).or_default() += count as f64;
            }
        };
        gauge("controlled_pods_total", &mode, vpa.pods.len());
        gauge("evictable_pods_total", &mode, evictable.unwrap_or(0));
        gauge("vpas_with_evictable_pods_total", &mode, usize::from(evictable.unwrap_or(0) > 0));
        gauge("vpas_with_evicted_pods_total", &mode, usize::from(*evicted > 0));
        gauge("in_place_updatable_pods_total", &log2, in_place_updatable.unwrap_or(0));
        gauge(
            "vpas_with_in_place_updatable_pods_total",
            &log2,
            usize::from(in_place_updatable.unwrap_or(0) > 0),
        );
        let updated = *resized > 0 && vpa.handled && vpa.mode != "Off" && vpa.mode != "Initial";
        gauge("vpas_with_in_place_updated_pods_total", &log2, usize::from(updated));
    }

    fn show(&self) -> Value {
        json!(self.counters.iter().chain(&self.gauges).collect::<BTreeMap<_, _>>())
    }
}
