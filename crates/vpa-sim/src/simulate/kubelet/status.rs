//! Reading and writing the parts of a pod's status.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod,
    PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::simulate::usage::demand::hash;

/// A condition to be set; `reason` and `message` empty where there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition<'a> {
    pub(super) kind: &'a str,
    pub(super) holds: bool,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
    pub(super) generation: Option<i64>,
}

/// Sets a condition; its transition time changes with its status only.
pub(super) fn set_condition(status: &mut PodStatus, condition: &Condition<'_>, now: Timestamp) {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let conditions = status.conditions.get_or_insert_default();
    let word = if condition.holds { "True" } else { "False" };
    let known = conditions.iter_mut().find(|known| known.type_ == condition.kind);
    if let Some(known) = known {
        if known.status != word {
            known.last_transition_time = Some(second(now));
        }
        known.status = word.to_owned();
        known.reason = text(condition.reason);
        known.message = text(condition.message);
        known.observed_generation = condition.generation;
        return;
    }
    conditions.push(PodCondition {
        type_: condition.kind.to_owned(),
        status: word.to_owned(),
        reason: text(condition.reason),
        message: text(condition.message),
        observed_generation: condition.generation,
        last_transition_time: Some(second(now)),
        last_probe_time: None,
    });
}

/// Removes a condition.
pub(super) fn drop_condition(status: &mut PodStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|known| known.type_ != kind);
    }
}

/// The status of a container that runs since `now` with what its spec asks for.
pub(super) fn running(pod: &Pod, container: &Container, ready: bool, now: Timestamp) -> ContainerStatus {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let image = container.image.clone().unwrap_or_default();
    ContainerStatus {
        name: container.name.clone(),
        image_id: format!("sim://{image}"),
        image,
        container_id: Some(format!("sim://{:016x}", hash(&[uid, &container.name]))),
        ready,
        started: Some(true),
        state: Some(running_since(now)),
        resources: container.resources.clone(),
        allocated_resources: container.resources.as_ref().and_then(|resources| resources.requests.clone()),
        ..ContainerStatus::default()
    }
}

/// Starts a container again after a run that ended as `ended`.
pub(super) fn restart(status: &mut ContainerStatus, ended: ContainerStateTerminated, now: Timestamp) {
    status.restart_count = status.restart_count.saturating_add(1);
    status.last_state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
    status.state = Some(running_since(now));
    status.started = Some(true);
}

/// The end of a container's present run.
pub(super) fn end(
    status: &ContainerStatus,
    exit_code: i32,
    reason: &str,
    now: Timestamp,
) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code,
        reason: Some(reason.to_owned()),
        started_at: started(status).map(second),
        finished_at: Some(second(now)),
        container_id: status.container_id.clone(),
        ..ContainerStateTerminated::default()
    }
}

/// Since when a container runs; `None` if it does not.
pub(super) fn started(status: &ContainerStatus) -> Option<Timestamp> {
    status.state.as_ref()?.running.as_ref()?.started_at.as_ref().map(|time| time.0)
}

/// Whether a pod has ended by itself.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Value of an annotation.
pub(super) fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// A time as the API keeps it: in whole seconds.
pub(super) fn second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

fn running_since(now: Timestamp) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning { started_at: Some(second(now)) }),
        ..ContainerState::default()
    }
}
