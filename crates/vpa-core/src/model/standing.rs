//! What the pods of VPAs say to those who write statuses and read usage.

use jiff::Timestamp;

use super::aggregate::Aggregate;
use super::cluster::ClusterState;
use super::ids::{PodId, VpaId};
use super::vpa::VpaState;
use crate::target::Selector;

/// What the pods of a VPA say of the urgency of its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The highest value of a priority class; 0 where there are no pods.
    pub(crate) priority: i32,
    /// When the first of those that are there was created.
    pub(crate) first_pod: Option<Timestamp>,
}

impl ClusterState {
    pub(crate) fn standing(&self, id: &VpaId) -> Standing {
        let Some(namespace) = self.namespaces.get(&id.namespace) else { return Standing::default() };
        let groups = namespace.vpas.get(&id.name).into_iter().flat_map(|vpa| &vpa.groups);
        let pods = groups
            .filter_map(|group| namespace.groups.get(group))
            .flat_map(|group| group.pods.keys())
            .filter_map(|name| namespace.pods.get(name));
        let (mut priority, mut first_pod) = (None, None);
        for pod in pods {
            priority = priority.max(Some(pod.priority));
            first_pod = match (first_pod, pod.created) {
                (Some(first), Some(created)) => Some(created.min(first)),
                (known, other) => known.or(other),
            };
        }
        Standing { priority: priority.unwrap_or(0), first_pod }
    }

    /// The pods that VPAs select, each once, with the selector that finds it: that of the strongest VPA.
    pub fn selections(&self) -> impl Iterator<Item = (PodId, &Selector)> {
        self.namespaces.iter().flat_map(|(namespace, content)| {
            content.groups.values().flat_map(move |group| {
                let strongest = group.vpas.first().and_then(|name| content.vpas.get(name));
                let selector = strongest.and_then(VpaState::selector);
                selector.into_iter().flat_map(move |selector| {
                    group.pods.keys().map(move |pod| (PodId::new(namespace, pod), selector))
                })
            })
        })
    }

    /// Whether a container of this name is no part of the workload any more: the VPA has pods, and none of them has had it for
    /// the length of a memory interval, a day. Its history stays for its time, in case the name comes back.
    pub(crate) fn is_forsaken(
        &self,
        id: &VpaId,
        container: &str,
        history: &Aggregate,
        now: Timestamp,
    ) -> bool {
        let Some(namespace) = self.namespaces.get(&id.namespace) else { return false };
        let Some(vpa) = namespace.vpas.get(&id.name) else { return false };
        let mut groups = vpa.groups.iter().filter_map(|group| namespace.groups.get(group));
        let recent = history
            .last_sample
            .is_some_and(|last| now.duration_since(last) < self.settings().memory_interval);
        !recent
            && groups.any(|group| !group.pods.is_empty())
            && namespace.live(vpa, container).next().is_none()
    }

    /// Takes note that the status of a VPA was written.
    pub fn status_written(&mut self, id: &VpaId) {
        if let Some(vpa) = self.vpa_mut(id) {
            vpa.bounds_since = None;
        }
    }
}
