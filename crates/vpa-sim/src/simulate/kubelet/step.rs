//! What a kubelet does next with one pod: a function of the pod, the node's room, the use and the time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodIP, PodStatus};

use super::resize;
use super::status::{self, Condition, annotation, second, set_condition};
use super::{OOM, READY_AFTER, RUN_FOR, START_DELAY};
use crate::simulate::Timings;
use crate::simulate::amounts::{self, Amounts};
use crate::simulate::usage::Usage;
use crate::simulate::usage::demand::hash;
use crate::simulate::usage::profile::seconds;

/// Exit code of a process killed by SIGKILL, as the kernel's memory killer does.
const KILLED: i32 = 137;

/// What is remembered of a pod besides its status, whose times have whole seconds only.
#[derive(Debug)]
pub(super) struct PodRun {
    seen: Timestamp,
    stopping: Option<Timestamp>,
    /// Containers that were killed, and when.
    killed: BTreeMap<String, Timestamp>,
    pub(super) resizing: Option<resize::Underway>,
    /// Resource version at which nothing was left to be done but to watch the memory.
    quiet: Option<String>,
}

impl PodRun {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { seen: now, stopping: None, killed: BTreeMap::new(), resizing: None, quiet: None }
    }
}

/// What a step looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) pod: &'a Pod,
    /// Allocatable amounts of the node.
    pub(super) capacity: Amounts,
    /// What the pod could have: the node's free amounts and its own.
    pub(super) room: Amounts,
    pub(super) usage: &'a Usage,
    pub(super) timings: &'a Timings,
    pub(super) now: Timestamp,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    Status(Box<PodStatus>),
    /// Remove the pod for good.
    Delete,
}

pub(super) fn step(run: &mut PodRun, view: &View<'_>) -> Step {
    let pod = view.pod;
    if pod.metadata.deletion_timestamp.is_some() {
        return stop(run, view);
    }
    if status::has_ended(pod) {
        return Step::Nothing;
    }
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    if statuses.is_none_or(Vec::is_empty) {
        let due = view.now >= run.seen + delay(pod, START_DELAY, view.timings.start);
        return if due { Step::Status(Box::new(start(view))) } else { Step::Nothing };
    }
    if run.quiet.is_some() && run.quiet == pod.metadata.resource_version && !any_over_limit(view) {
        return Step::Nothing;
    }
    go_on(run, view)
}

fn stop(run: &mut PodRun, view: &View<'_>) -> Step {
    let since = *run.stopping.get_or_insert(view.now);
    let grace = view.pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let grace = SignedDuration::from_secs(grace).min(signed(view.timings.stop));
    if view.now >= since + grace { Step::Delete } else { Step::Nothing }
}

fn start(view: &View<'_>) -> PodStatus {
    let pod = view.pod;
    let mut next = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let ready = delay(pod, READY_AFTER, view.timings.ready) <= SignedDuration::ZERO;
    next.phase = Some("Running".to_owned());
    next.start_time = next.start_time.or_else(|| Some(second(view.now)));
    // Addresses matter to nobody here; they only have to be there and to differ.
    let bits = hash(&[pod.metadata.uid.as_deref().unwrap_or_default()]);
    let ip = format!("10.{}.{}.{}", bits & 0x7f, (bits >> 8) & 0xff, ((bits >> 16) & 0xff).clamp(1, 254));
    next.pod_ips = Some(vec![PodIP { ip: ip.clone() }]);
    next.pod_ip = Some(ip);
    let statuses = |containers: &[Container]| {
        containers
            .iter()
            .map(|container| status::running(pod, container, ready, view.now))
            .collect::<Vec<_>>()
    };
    next.container_statuses = Some(statuses(&spec.containers));
    let mut first = statuses(spec.init_containers.as_deref().unwrap_or_default());
    for (status, container) in first.iter_mut().zip(spec.init_containers.iter().flatten()) {
        if container.restart_policy.as_deref() != Some("Always") {
            let ended = status::end(status, 0, "Completed", view.now);
            status.state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
            (status.ready, status.started) = (true, Some(false));
        }
    }
    next.init_container_statuses = (!first.is_empty()).then_some(first);
    conditions(&mut next, view);
    next
}

fn go_on(run: &mut PodRun, view: &View<'_>) -> Step {
    let pod = view.pod;
    let Some(old) = pod.status.as_ref() else { return Step::Nothing };
    let mut next = old.clone();
    let mut unsettled = false;
    let mut statuses = next.container_statuses.take().unwrap_or_default();
    for status in &mut statuses {
        unsettled |= container(run, view, status);
    }
    next.container_statuses = Some(statuses);
    for status in next.init_container_statuses.iter_mut().flatten() {
        if status::started(status).is_some()
            || status.state.as_ref().is_some_and(|state| state.running.is_some())
        {
            unsettled |= container(run, view, status);
        }
    }
    unsettled |= resize::go_on(run, view, &mut next);
    phase(&mut next, pod);
    conditions(&mut next, view);
    if &next == old {
        run.quiet = if unsettled { None } else { pod.metadata.resource_version.clone() };
        return Step::Nothing;
    }
    Step::Status(Box::new(next))
}

/// One container's next state. True if something is to come by time alone.
fn container(run: &mut PodRun, view: &View<'_>, status: &mut ContainerStatus) -> bool {
    let (pod, now) = (view.pod, view.now);
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    if let Some(ended) = status.state.as_ref().and_then(|state| state.terminated.clone()) {
        let again = policy == "Always" || policy == "OnFailure" && ended.exit_code != 0;
        let since =
            run.killed.get(&status.name).copied().or_else(|| ended.finished_at.as_ref().map(|time| time.0));
        if again && since.is_none_or(|since| now >= since + signed(view.timings.restart)) {
            run.killed.remove(&status.name);
            status::restart(status, ended, now);
            status.ready = delay(pod, READY_AFTER, view.timings.ready) <= SignedDuration::ZERO;
        }
        return again;
    }
    let Some(started) = status::started(status) else { return false };
    if over_limit(view, status, started) {
        let ended = status::end(status, KILLED, "OOMKilled", now);
        if annotation(pod, OOM) == Some("direct") && policy != "Never" {
            status::restart(status, ended, now);
        } else {
            run.killed.insert(status.name.clone(), now);
            status.state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
            (status.ready, status.started) = (false, Some(false));
        }
        return true;
    }
    let run_for = annotation(pod, RUN_FOR).filter(|_| policy != "Always");
    if let Some(run_for) = run_for.and_then(|text| seconds(RUN_FOR, text).ok()) {
        if now.duration_since(started).as_secs_f64() >= run_for {
            let ended = status::end(status, 0, "Completed", now);
            status.state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
            (status.ready, status.started) = (false, Some(false));
        }
        return true;
    }
    if !status.ready {
        status.ready = now >= started + delay(pod, READY_AFTER, view.timings.ready);
        return !status.ready;
    }
    false
}

/// Whether a running container wants more memory than its limit on the node allows.
fn over_limit(view: &View<'_>, status: &ContainerStatus, started: Timestamp) -> bool {
    let limits = status.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let limit = amounts::memory_bytes(limits);
    limit > 0 && view.usage.demand(view.pod, &status.name, started, view.now).memory_bytes > limit
}

fn any_over_limit(view: &View<'_>) -> bool {
    let status = view.pod.status.as_ref();
    let statuses = status.into_iter().flat_map(|status| {
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten())
    });
    statuses.into_iter().any(|status| status::started(status).is_some_and(|at| over_limit(view, status, at)))
}

/// A pod whose containers have all ended and will not start again has ended too.
fn phase(next: &mut PodStatus, pod: &Pod) {
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    let codes: Option<Vec<i32>> = next
        .container_statuses
        .iter()
        .flatten()
        .map(|status| status.state.as_ref()?.terminated.as_ref().map(|ended| ended.exit_code))
        .collect();
    if let Some(codes) = codes.filter(|codes| !codes.is_empty()) {
        let well = codes.iter().all(|code| *code == 0);
        if well && policy != "Always" {
            next.phase = Some("Succeeded".to_owned());
        } else if policy == "Never" {
            next.phase = Some("Failed".to_owned());
        }
    }
}

fn conditions(next: &mut PodStatus, view: &View<'_>) {
    let generation = view.pod.metadata.generation;
    let ended = matches!(next.phase.as_deref(), Some("Succeeded" | "Failed"));
    let ready = !ended && next.container_statuses.iter().flatten().all(|status| status.ready);
    let reason = match (ready, next.phase.as_deref()) {
        (true, _) => "",
        (_, Some("Succeeded")) => "PodCompleted",
        _ => "ContainersNotReady",
    };
    for (kind, holds, reason) in [
        ("PodScheduled", true, ""),
        ("Initialized", true, ""),
        ("ContainersReady", ready, reason),
        ("Ready", ready, reason),
    ] {
        set_condition(next, &Condition { kind, holds, reason, message: "", generation }, view.now);
    }
    next.observed_generation = generation;
}

fn delay(pod: &Pod, name: &str, default: Duration) -> SignedDuration {
    let given = annotation(pod, name).and_then(|text| seconds(name, text).ok());
    given.and_then(|given| SignedDuration::try_from_secs_f64(given).ok()).unwrap_or_else(|| signed(default))
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
