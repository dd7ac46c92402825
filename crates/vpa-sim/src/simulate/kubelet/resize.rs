//! In-place resizes, as a kubelet carries them out: judged by the node's room, allocated, then put into effect.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus, ResourceRequirements};

use super::RESIZE;
use super::status::{self, Condition, drop_condition, set_condition};
use super::step::{PodRun, View};
use crate::simulate::amounts::{self, same_resources};

const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";

/// Exit code of a process ended by SIGTERM: a container that its resize policy restarts ends that way.
const TERMINATED: i32 = 143;

/// A resize that was accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Underway {
    generation: Option<i64>,
    since: Timestamp,
}

/// What becomes of a resize.
#[derive(Debug, PartialEq)]
enum Verdict {
    Accept,
    /// Accepted, but kept from ending.
    Hold,
    Deferred(String),
    Infeasible(String),
    Error(String),
}

/// Goes on with a pod's resize, if there is one. True if it is not over.
pub(super) fn go_on(run: &mut PodRun, view: &View<'_>, next: &mut PodStatus) -> bool {
    let pod = view.pod;
    if next.phase.as_deref() != Some("Running") || changes(pod, next).is_empty() {
        run.resizing = None;
        drop_condition(next, PENDING);
        drop_condition(next, IN_PROGRESS);
        return false;
    }
    let generation = pod.metadata.generation;
    let verdict = judge(view, next);
    let (kind, reason, message) = match &verdict {
        Verdict::Deferred(message) => (PENDING, "Deferred", message.as_str()),
        Verdict::Infeasible(message) => (PENDING, "Infeasible", message.as_str()),
        Verdict::Error(message) => (IN_PROGRESS, "Error", message.as_str()),
        Verdict::Accept | Verdict::Hold => (IN_PROGRESS, "", ""),
    };
    drop_condition(next, if kind == PENDING { IN_PROGRESS } else { PENDING });
    set_condition(next, &Condition { kind, holds: true, reason, message, generation }, view.now);
    if !matches!(verdict, Verdict::Accept | Verdict::Hold) {
        run.resizing = None;
        return true;
    }
    allocate(pod, next);
    let begun = run.resizing.filter(|underway| underway.generation == generation);
    let underway = *run.resizing.insert(begun.unwrap_or(Underway { generation, since: view.now }));
    let takes = SignedDuration::try_from(view.timings.resize).unwrap_or(SignedDuration::MAX);
    if verdict == Verdict::Accept && view.now >= underway.since + takes {
        put_into_effect(view, next);
        run.resizing = None;
        drop_condition(next, IN_PROGRESS);
        return false;
    }
    true
}

/// Containers whose resources in the spec differ from those on the node.
fn changes<'a>(pod: &'a Pod, status: &PodStatus) -> Vec<&'a Container> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let differs = |container: &&Container| {
        find(status, &container.name).is_some_and(|known| {
            known.resources.is_some()
                && !same_resources(container.resources.as_ref(), known.resources.as_ref())
        })
    };
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    sidecars.chain(&spec.containers).filter(differs).collect()
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let mut all =
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    all.find(|known| known.name == name)
}

fn find_mut<'a>(status: &'a mut PodStatus, name: &str) -> Option<&'a mut ContainerStatus> {
    let PodStatus { container_statuses, init_container_statuses, .. } = status;
    let mut all = container_statuses.iter_mut().flatten().chain(init_container_statuses.iter_mut().flatten());
    all.find(|known| known.name == name)
}

fn judge(view: &View<'_>, status: &PodStatus) -> Verdict {
    match status::annotation(view.pod, RESIZE) {
        Some("accept") => return Verdict::Accept,
        Some("in-progress") => return Verdict::Hold,
        Some("deferred") => {
            return Verdict::Deferred("Node didn't have enough resource: scripted".to_owned());
        }
        Some("infeasible") => {
            return Verdict::Infeasible("Node didn't have enough capacity: scripted".to_owned());
        }
        Some("error") => return Verdict::Error("resize failed: scripted".to_owned()),
        _ => {}
    }
    let wanted = view.pod.spec.as_ref().map(amounts::of_spec).unwrap_or_default();
    let lacking = |have: amounts::Amounts| {
        let cpu = (wanted.cpu_millis > have.cpu_millis)
            .then(|| format!("cpu, requested: {}, available: {}", wanted.cpu_millis, have.cpu_millis));
        let memory = (wanted.memory_bytes > have.memory_bytes)
            .then(|| format!("memory, requested: {}, available: {}", wanted.memory_bytes, have.memory_bytes));
        cpu.or(memory).unwrap_or_default()
    };
    if !wanted.fits(view.capacity) {
        return Verdict::Infeasible(format!("Node didn't have enough capacity: {}", lacking(view.capacity)));
    }
    if !wanted.fits(view.room) {
        return Verdict::Deferred(format!("Node didn't have enough resource: {}", lacking(view.room)));
    }
    changes(view.pod, status)
        .into_iter()
        .find_map(|container| below_usage(view, status, container))
        .unwrap_or(Verdict::Accept)
}

/// A memory limit is not lowered below what is in use: that would kill the container.
fn below_usage(view: &View<'_>, status: &PodStatus, container: &Container) -> Option<Verdict> {
    let limit = |resources: Option<&ResourceRequirements>| {
        amounts::memory_bytes(resources.and_then(|resources| resources.limits.as_ref()))
    };
    let known = find(status, &container.name)?;
    let (old, new) = (limit(known.resources.as_ref()), limit(container.resources.as_ref()));
    if new == 0 || old != 0 && new >= old || restarts(container, known) {
        return None;
    }
    let used = view.usage.demand(view.pod, &container.name, status::started(known)?, view.now).memory_bytes;
    (used > new).then(|| {
        Verdict::Error(format!(
            "attempting to set container memory limit ({new}) below current usage ({used})"
        ))
    })
}

fn restarts(container: &Container, known: &ContainerStatus) -> bool {
    let changed = |resource: &str| {
        let only = |resources: Option<&ResourceRequirements>| {
            let mut resources = resources.cloned().unwrap_or_default();
            for list in [&mut resources.requests, &mut resources.limits].into_iter().flatten() {
                list.retain(|name, _| name == resource);
            }
            resources
        };
        !same_resources(Some(&only(container.resources.as_ref())), Some(&only(known.resources.as_ref())))
    };
    let policies = container.resize_policy.iter().flatten();
    policies
        .into_iter()
        .any(|policy| policy.restart_policy == "RestartContainer" && changed(&policy.resource_name))
}

fn allocate(pod: &Pod, next: &mut PodStatus) {
    for container in changes(pod, next) {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.clone());
        if let Some(known) = find_mut(next, &container.name) {
            known.allocated_resources = requests;
        }
    }
}

fn put_into_effect(view: &View<'_>, next: &mut PodStatus) {
    for container in changes(view.pod, next) {
        let Some(known) = find_mut(next, &container.name) else { continue };
        let restart = restarts(container, known) && status::started(known).is_some();
        known.resources = container.resources.clone();
        if restart {
            let ended = status::end(known, TERMINATED, "Error", view.now);
            status::restart(known, ended, view.now);
        }
    }
}
