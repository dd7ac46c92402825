//! Garbage collection: forgetting what is too old to tell anything.

use compact_str::CompactString;
use jiff::{SignedDuration, Timestamp};

use super::cluster::ClusterState;
use super::namespace::{GroupId, Namespace};
use super::settings::Settings;
use super::vpa::Target;

/// Label sets without pods and VPA of which a namespace keeps the histories, in case a VPA comes. Those of one workload
/// are folded into one, so this is more workloads than a namespace sees in a week, unless it runs one-off pods with labels
/// of their own, of which nobody will want the history.
const IDLE_MAX: usize = 1000;

/// Time between two collections.
const INTERVAL: SignedDuration = SignedDuration::from_hours(1);

impl ClusterState {
    /// Forgets aggregates, at most once an hour. Returns how many, `None` where it was not time.
    ///
    /// An aggregate goes when its last CPU sample is older than its history is long. One without CPU samples goes that
    /// long after it was made, or at once when no pod contributes to it. A pod contributes while it is neither
    /// succeeded nor failed, or while the target of the VPA that selects it is there.
    pub fn collect_garbage(&mut self, now: Timestamp) -> Option<usize> {
        if self.last_collection.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            return None;
        }
        self.last_collection = Some(now);
        let settings = self.settings().clone();
        let removed = self.namespaces.values_mut().map(|namespace| collect(namespace, &settings, now)).sum();
        let names: Vec<_> = self.namespaces.keys().cloned().collect();
        for name in names {
            self.drop_namespace_if_empty(&name);
        }
        Some(removed)
    }
}

fn collect(namespace: &mut Namespace, settings: &Settings, now: Timestamp) -> usize {
    namespace.fold();
    let mut obsolete = Vec::new();
    for (id, group) in &namespace.groups {
        for (container, aggregate) in &group.aggregates {
            let history = namespace.settings_for(settings, *id, container).history();
            let useless = aggregate.is_empty() && !has_contributor(namespace, *id, container);
            if useless || aggregate.is_expired(history, now) {
                obsolete.push((*id, container.clone()));
            }
        }
    }
    obsolete.extend(beyond_bound(namespace));
    for (id, container) in &obsolete {
        if let Some(group) = namespace.groups.get_mut(id) {
            group.aggregates.remove(container);
        }
        namespace.drop_group_if_unused(*id);
    }
    for vpa in namespace.vpas.values_mut() {
        let policies = vpa.object.clone();
        vpa.history.retain(|container, history| {
            let policy = crate::policy::container_policy(container, policies.spec.resource_policy.as_ref());
            let history_length = settings.for_container(policy).history();
            let last = history.aggregate.last_sample.or(history.until);
            // Without any time there is nothing to judge by.
            last.is_none_or(|last| now.duration_since(last) < history_length)
        });
    }
    obsolete.len()
}

/// Histories of label sets without pods that no VPA selects, beyond the number that is kept: those with the oldest last
/// sample.
fn beyond_bound(namespace: &Namespace) -> Vec<(GroupId, CompactString)> {
    let idle = namespace.groups.iter().filter(|(_, group)| group.pods.is_empty() && group.vpas.is_empty());
    let mut idle: Vec<_> = idle
        .map(|(id, group)| (group.aggregates.values().filter_map(|a| a.last_sample).max(), *id, group))
        .collect();
    if idle.len() <= IDLE_MAX {
        return Vec::new();
    }
    idle.sort_by_key(|(last, id, _)| (std::cmp::Reverse(*last), *id));
    let beyond = idle[IDLE_MAX..].iter();
    beyond
        .flat_map(|(_, id, group)| group.aggregates.keys().map(|container| (*id, container.clone())))
        .collect()
}

fn has_contributor(namespace: &Namespace, id: GroupId, container: &str) -> bool {
    let Some(group) = namespace.groups.get(&id) else { return false };
    let target_there = group
        .vpas
        .iter()
        .filter_map(|vpa| namespace.vpas.get(vpa))
        .any(|vpa| matches!(vpa.target, Target::Found(_)));
    group
        .pods
        .keys()
        .filter_map(|pod| namespace.pods.get(pod))
        .any(|pod| pod.containers.contains_key(container) && (pod.active || target_there))
}
