//! OOM kills, read from pods and from eviction events.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use vpa_api::Quantity;
use vpa_api::names::resource::MEMORY;

use super::ids::ContainerId;
use super::pod::{EndedRun, ObservedPod, ObservedStatus};

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
pub fn ooms_of_pod(old: Option<&ObservedPod>, new: &ObservedPod) -> Vec<Oom> {
    let mut ooms = Vec::new();
    for status in &new.statuses {
        let before = old.and_then(|old| old.statuses.iter().find(|s| s.container == status.container));
        let fresh = |run: &&EndedRun| run.oom_killed && !is_known(before, status, run);
        // In the current state the resources are those of the pod as it is now; a run before had those of the pod
        // as it was before.
        let now = status.current.as_deref().filter(fresh).map(|run| (run, new));
        let earlier = || status.last.as_deref().filter(fresh).map(|run| (run, old.unwrap_or(new)));
        let Some((run, pod)) = now.or_else(earlier) else { continue };
        let Some(time) = run.ended else { continue };
        ooms.push(Oom {
            container: ContainerId { pod: new.id.clone(), container: status.container.clone() },
            time,
            requested_bytes: pod.container(&status.container).map_or(0, |container| container.memory_request),
            first_sight: old.is_none(),
        });
    }
    ooms
}

/// Whether a run that ended was seen to have ended before. A container that has not started again since then cannot
/// have ended again either, so a last state that comes up late is not a new kill.
fn is_known(before: Option<&ObservedStatus>, now: &ObservedStatus, run: &EndedRun) -> bool {
    let Some(before) = before else { return false };
    let ended = [&before.current, &before.last];
    let same = ended.iter().any(|other| other.as_ref().is_some_and(|other| other.ended == run.ended));
    let restarted = now.restarts > before.restarts;
    let just_ended = now.current.as_deref() == Some(run) && before.current.is_none();
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
