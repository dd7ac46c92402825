//! Steps of a pass, their outcomes, and the events they leave behind.

use std::sync::Arc;

use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::{Pod, ResourceRequirements};

use super::in_place::FallbackReason;
use super::patch::PatchOp;
use super::reason::Reason;
use super::restarts::UnexpectedRestart;

/// One thing to do.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which step of the pass it is; goes back with its outcome.
    pub id: StepId,
    /// The VPA on whose behalf.
    pub vpa: Arc<VerticalPodAutoscaler>,
    /// The pod, as the snapshot has it.
    pub pod: Arc<Pod>,
    /// What to do.
    pub action: Action,
    /// Requests and limits that the pod's main containers, or those of its replacement, get; in the order of the spec.
    pub after: Vec<ResourceRequirements>,
}

/// Number of a step within its pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub(super) u64);

/// What to do with a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send the resize, then the annotations.
    Resize {
        /// JSON patch for the `resize` subresource.
        resize: Vec<PatchOp>,
        /// JSON patch for the pod.
        annotate: Vec<PatchOp>,
    },
    /// As [`Action::Resize`], to end a startup boost. `resize` is empty where only the annotation is left to go.
    Unboost {
        /// JSON patch for the `resize` subresource.
        resize: Vec<PatchOp>,
        /// JSON patch for the pod.
        annotate: Vec<PatchOp>,
    },
    /// Evict the pod.
    Evict {
        /// The resize that did not get through, where there was one.
        fallback: Option<FallbackReason>,
    },
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The API server took it.
    Done,
    /// The API server refused it for good: the same call would be refused again.
    Refused(Refusal),
    /// A PodDisruptionBudget does not allow the eviction at present.
    Blocked(String),
    /// It did not get through for a reason that passes, and did nothing.
    Transient(String),
    /// It may or may not have been carried out (time-out, lost connection).
    Unknown(String),
    /// It was not sent, since this process does not lead any more.
    NotLeader,
    /// It was not sent, since this process is shutting down.
    ShuttingDown,
}

/// An answer with which the API server refuses a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// `reason` of the Status object.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// A cause of the Status is that the node can never take the resize.
    pub node_capacity: bool,
}

impl Outcome {
    /// Sorts an error answer of the API server.
    ///
    /// An overloaded or failing server, a conflict and a missing pod pass: the pod is looked at again in the next pass.
    /// 429 to an eviction is the refusal of a PodDisruptionBudget, which passes too. A server that failed or gave up on
    /// the way may have carried the call out.
    pub fn of_status(refusal: Refusal, eviction: bool) -> Self {
        match refusal.code {
            429 if eviction => Self::Blocked(refusal.message),
            500 | 502 | 504 => Self::Unknown(refusal.message),
            404 | 409 | 429 | 500.. => Self::Transient(refusal.message),
            _ => Self::Refused(refusal),
        }
    }
}

/// Reason of the event about a pod that was evicted.
const EVICTED_BY_VPA: &str = "EvictedByVPA";
/// Reason of the event about the VPA for which a pod was evicted.
const EVICTED_POD: &str = "EvictedPod";

/// An event to be written about a pod or VPA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub on: EventTarget,
    /// Whether it is a warning.
    pub warning: bool,
    /// One word for machines.
    pub reason: &'static str,
    /// Text for people.
    pub message: String,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTarget {
    /// A pod.
    Pod(ObjectRef),
    /// A VPA.
    Vpa(ObjectRef),
}

/// Names an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Version of the object that was looked at.
    pub resource_version: String,
}

impl ObjectRef {
    fn of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

impl Event {
    /// Whether it cannot come up again: a pod is evicted once.
    pub fn is_final(&self) -> bool {
        matches!(self.reason, EVICTED_POD | EVICTED_BY_VPA)
    }

    /// A pod was evicted.
    pub fn evicted_pod(pod: &Pod) -> Self {
        Self {
            on: EventTarget::Pod(ObjectRef::of(&pod.metadata)),
            warning: false,
            reason: EVICTED_BY_VPA,
            message: "Pod was evicted by VPA Updater to apply resource recommendation.".to_owned(),
        }
    }

    /// A VPA had a pod evicted.
    pub fn evicted_by_vpa(vpa: &VerticalPodAutoscaler, pod: &Pod) -> Self {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Self {
            on: EventTarget::Vpa(ObjectRef::of(&vpa.metadata)),
            warning: false,
            reason: EVICTED_POD,
            message: format!("VPA Updater evicted Pod {name} to apply resource recommendation."),
        }
    }

    /// A pod was resized.
    pub fn resized(pod: &Pod) -> Self {
        Self {
            on: EventTarget::Pod(ObjectRef::of(&pod.metadata)),
            warning: false,
            reason: "InPlaceResizedByVPA",
            message: "Pod was resized in place by VPA Updater.".to_owned(),
        }
    }

    /// A resize is known to be infeasible.
    pub fn resize_skipped(pod: &Pod) -> Self {
        Self {
            on: EventTarget::Pod(ObjectRef::of(&pod.metadata)),
            warning: false,
            reason: "InPlaceResizeSkipped",
            message: "Previously recorded in-place update was infeasible, current recommendation is not lower than previous, skipping resize".to_owned(),
        }
    }

    /// Containers of a pod restarted on a resize that should have left them running.
    pub fn restarted_on_resize(vpa: &VerticalPodAutoscaler, restart: &UnexpectedRestart) -> Self {
        let (pod, containers) = (&restart.pod, restart.containers.join(", "));
        Self {
            on: EventTarget::Vpa(ObjectRef::of(&vpa.metadata)),
            warning: true,
            reason: "RestartedOnResize",
            message: format!(
                "Pod {pod} restarted on a resize although its resize policy does not ask for it (containers {containers}); resizes of this VPA count as disruptions from now on"
            ),
        }
    }

    /// No pod of a VPA gets forward, for the same reason.
    pub fn updates_blocked(vpa: &VerticalPodAutoscaler, pods: usize, reason: &Reason) -> Self {
        let subject = if pods == 1 { "Its pod is".to_owned() } else { format!("All of its {pods} pods are") };
        Self {
            on: EventTarget::Vpa(ObjectRef::of(&vpa.metadata)),
            warning: true,
            reason: "UpdatesBlocked",
            message: format!("{subject} left alone although an update is due: {reason}"),
        }
    }

    /// Evictions of a VPA are stopped for the sake of a pod that came back unchanged.
    pub fn evictions_stopped(vpa: &VerticalPodAutoscaler, pod: &str) -> Self {
        Self {
            on: EventTarget::Vpa(ObjectRef::of(&vpa.metadata)),
            warning: true,
            reason: "EvictionsStopped",
            message: format!(
                "Pod {pod} came back with the resources of the evicted pod, so evictions are stopped; check the admission webhook"
            ),
        }
    }
}
