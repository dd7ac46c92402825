//! OOM kills, read from pods and from eviction events.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use vpa_api::Quantity;
use vpa_api::names::resource::MEMORY;
use vpa_api::pod::{ContainerStateTerminated, ContainerStatus, Pod};

use super::ids::ContainerId;
use crate::policy::current_resources;

/// Containers of one eviction event that are looked at: more than a pod can have.
const MAX_OFFENDERS: usize = 1000;

/// A container was killed, or its pod evicted, for using too much memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Oom {
    /// The container.
    pub container: ContainerId,
    /// When.
    pub time: Timestamp,
    /// Its memory request at that time (from an event: its usage), in bytes; 0 where it had none.
    pub requested_bytes: i64,
    /// Whether the pod was seen for the first time, so that the kill may be part of its history already.
    pub first_sight: bool,
}

/// OOM kills that `new` shows and `old`, the same pod as seen before, does not.
///
/// A kill is told by the end of the killed run, so it is found however many states in between were missed: as the
/// state of a container, or as the last state of one that waits or runs again.
pub fn ooms_of_pod(old: Option<&Pod>, new: &Pod) -> Vec<Oom> {
    let mut ooms = Vec::new();
    let statuses = new.status.container_statuses.iter();
    for status in statuses {
        let before = old.and_then(|old| old.status.container_statuses.iter().find(|s| s.name == status.name));
        let current = status.state.terminated.as_ref();
        let last = status.last_state.terminated.as_ref();
        let fresh = |run: &&ContainerStateTerminated| is_oom(run) && !is_known(before, status, run);
        // In the current state the resources are those of the pod as it is now; a run before had those of the pod
        // as it was before.
        let now = current.filter(fresh).map(|run| (run, new));
        let earlier = || last.filter(fresh).map(|run| (run, old.unwrap_or(new)));
        let Some((run, pod)) = now.or_else(earlier) else { continue };
        let Some(time) = run.finished_at.as_ref() else { continue };
        let (requests, _) = current_resources(&status.name, pod);
        ooms.push(Oom {
            container: ContainerId::new(
                new.metadata.namespace.as_deref().unwrap_or(""),
                new.metadata.name.as_deref().unwrap_or(""),
                &status.name,
            ),
            time: time.0,
            requested_bytes: requests.and_then(|r| r.get(MEMORY)).map_or(0, Quantity::value_saturating),
            first_sight: old.is_none(),
        });
    }
    ooms
}

fn is_oom(run: &ContainerStateTerminated) -> bool {
    run.reason.as_deref() == Some("OOMKilled")
}

/// Whether a run that ended was seen to have ended before. A container that has not started again since then cannot
/// have ended again either, so a last state that comes up late is not a new kill.
fn is_known(before: Option<&ContainerStatus>, now: &ContainerStatus, run: &ContainerStateTerminated) -> bool {
    let Some(before) = before else { return false };
    let ended = [&before.state, &before.last_state];
    let same = ended.iter().any(|s| s.terminated.as_ref().is_some_and(|t| t.finished_at == run.finished_at));
    let restarted = now.restart_count > before.restart_count;
    let just_ended = now.state.terminated.as_ref() == Some(run) && before.state.terminated.is_none();
    same || !(restarted || just_ended)
}

/// OOM kills that an event of the kubelet tells of: an eviction for want of memory. Entries that cannot be read are
/// passed over.
pub fn ooms_of_event(event: &Event) -> Vec<Oom> {
    let is_eviction = event.reason.as_deref() == Some("Evicted");
    let is_pod = event.involved_object.kind.as_deref() == Some("Pod");
    let Some(time) = event.metadata.creation_timestamp.as_ref().filter(|_| is_eviction && is_pod) else {
        return Vec::new();
    };
    let annotation = |key: &str| -> Vec<&str> {
        let text = event.metadata.annotations.as_ref().and_then(|all| all.get(key));
        text.map(|text| text.split(',').take(MAX_OFFENDERS).collect()).unwrap_or_default()
    };
    let names = annotation("offending_containers");
    let usages = annotation("offending_containers_usage");
    let resources = annotation("starved_resource");
    if names.len() != usages.len() || names.len() != resources.len() {
        return Vec::new();
    }
    let namespace = event.involved_object.namespace.as_deref().unwrap_or("");
    let pod = event.involved_object.name.as_deref().unwrap_or("");
    let mut ooms = Vec::new();
    for ((name, usage), resource) in names.into_iter().zip(usages).zip(resources) {
        let Some(usage) = Quantity::parse(usage).ok().filter(|_| resource == MEMORY) else { continue };
        ooms.push(Oom {
            container: ContainerId::new(namespace, pod, name),
            time: time.0,
            requested_bytes: usage.value_saturating(),
            first_sight: true,
        });
    }
    ooms
}
