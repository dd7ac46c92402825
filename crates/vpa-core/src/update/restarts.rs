//! What resizes did to the containers: some restart although their policy says that they need not.

use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};
use vpa_api::pod::{ContainerStatus, Pod};

use super::in_place::ResizePhase;
use super::memory::uid;

/// How long a resize is watched. A kubelet carries one out within seconds of taking it, and one that it defers for
/// longer is seen by its conditions until then.
const WATCHED_FOR: SignedDuration = SignedDuration::from_mins(5);

/// Resizes whose effect on the containers is still to be seen, and VPAs with unwanted restarts.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// By pod UID.
    watched: HashMap<String, Watched>,
    /// Restarts that no policy asked for, by `namespace/name` of the VPA.
    by_vpa: HashMap<String, usize>,
}

#[derive(Debug)]
struct Watched {
    vpa: String,
    /// When the resize was last seen under way.
    last: Timestamp,
    /// Containers that need not restart, and how often they had until then.
    containers: Vec<(String, i32)>,
}

/// Containers of one pod that restarted on a resize although their policy says that they need not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnexpectedRestart {
    /// `namespace/name` of the VPA.
    pub vpa: String,
    /// `namespace/name` of the pod.
    pub pod: String,
    /// The containers.
    pub containers: Vec<String>,
}

impl Restarts {
    /// Watches a pod that was just resized.
    pub(super) fn watch(&mut self, vpa: &str, pod: &Pod, now: Timestamp) {
        let containers = pod.spec.containers.iter();
        let containers = containers.filter(|c| !c.resize_policy.iter().any(asks_for_restart));
        let containers: Vec<(String, i32)> = containers
            .filter_map(|container| {
                let status = status(pod, &container.name)?;
                Some((container.name.clone(), status.restart_count))
            })
            .collect();
        if !containers.is_empty() {
            self.watched.insert(uid(pod), Watched { vpa: vpa.to_owned(), last: now, containers });
        }
    }

    /// Looks at a pod again. A container that ran out of memory restarted for that reason and does not count.
    pub(super) fn observe(&mut self, pod: &Pod, now: Timestamp) -> Option<UnexpectedRestart> {
        let watched = self.watched.get_mut(&uid(pod))?;
        if ResizePhase::of(pod) != ResizePhase::None {
            watched.last = now;
        }
        let restarted: Vec<String> = watched
            .containers
            .iter()
            .filter(|(name, before)| {
                status(pod, name)
                    .is_some_and(|status| status.restart_count > *before && !ran_out_of_memory(status))
            })
            .map(|(name, _)| name.clone())
            .collect();
        if restarted.is_empty() {
            return None;
        }
        let watched = self.watched.remove(&uid(pod))?;
        *self.by_vpa.entry(watched.vpa.clone()).or_default() += restarted.len();
        let pod = super::group::pod_name(pod);
        Some(UnexpectedRestart { vpa: watched.vpa, pod, containers: restarted })
    }

    /// Whether resizes of this VPA's pods are known to restart containers.
    pub(super) fn disruptive(&self, vpa: &str) -> bool {
        self.by_vpa.contains_key(vpa)
    }

    /// Ends watches of pods that are gone, and of resizes that are over.
    pub(super) fn retain_pods(&mut self, now: Timestamp, lives: impl Fn(&str) -> bool) {
        self.watched.retain(|uid, watched| lives(uid) && now.duration_since(watched.last) < WATCHED_FOR);
    }

    /// Whether no VPA is known to have any.
    pub(super) fn is_empty(&self) -> bool {
        self.by_vpa.is_empty()
    }

    /// Forgets VPAs that are gone.
    pub(super) fn retain_vpas(&mut self, exists: impl Fn(&str) -> bool) {
        self.by_vpa.retain(|vpa, _| exists(vpa));
    }
}

fn asks_for_restart(policy: &vpa_api::pod::ContainerResizePolicy) -> bool {
    policy.restart_policy == "RestartContainer"
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    pod.status.container_statuses.iter().find(|status| status.name == container)
}

fn ran_out_of_memory(status: &ContainerStatus) -> bool {
    let end = status.last_state.terminated.as_ref().or(status.state.terminated.as_ref());
    end.is_some_and(|end| end.reason.as_deref() == Some("OOMKilled"))
}
