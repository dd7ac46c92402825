//! Disruption budgets: how many pods of one owner may be disrupted in one pass.

use std::fmt;
use std::sync::Arc;

use vpa_api::pod::Pod;

use super::in_place::ResizePhase;

/// Owner of a group of pods: the controller that recreates them, such as a ReplicaSet (not its Deployment).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// Namespace of owner and pods.
    pub namespace: String,
    /// Kind of the owner; empty for pods without one.
    pub kind: String,
    /// Name of the owner; empty for pods without one.
    pub name: String,
    /// API version of the owner, as the pods give it.
    pub api_version: String,
}

impl GroupKey {
    /// The group of a pod, by the owner reference that is marked as its controller.
    pub fn of(pod: &Pod) -> Self {
        GroupRef::of(pod).into()
    }
}

/// A [`GroupKey`] that borrows its texts: tens of thousands are looked up in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupRef<'a> {
    namespace: &'a str,
    kind: &'a str,
    name: &'a str,
    api_version: &'a str,
}

impl<'a> GroupRef<'a> {
    pub(super) fn of(pod: &'a Pod) -> Self {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        match owners.iter().find(|owner| owner.controller == Some(true)) {
            Some(owner) => {
                Self { namespace, kind: &owner.kind, name: &owner.name, api_version: &owner.api_version }
            }
            None => Self { namespace, kind: "", name: "", api_version: "" },
        }
    }
}

impl<'a> From<&'a GroupKey> for GroupRef<'a> {
    fn from(key: &'a GroupKey) -> Self {
        let GroupKey { namespace, kind, name, api_version } = key;
        Self { namespace, kind, name, api_version }
    }
}

impl From<GroupRef<'_>> for GroupKey {
    fn from(key: GroupRef<'_>) -> Self {
        let GroupRef { namespace, kind, name, api_version } = key;
        let [namespace, kind, name, api_version] = [namespace, kind, name, api_version].map(str::to_owned);
        Self { namespace, kind, name, api_version }
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.is_empty() {
            return write!(f, "pods without a controller in {}", self.namespace);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// How many pods an owner is meant to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// As its spec (for a DaemonSet its status) says.
    Count(i64),
    /// It has no such number: the live pods are the measure.
    LivePods,
    /// The owner could not be looked at, for this reason.
    Unknown(String),
}

/// Why the pods of a group are left alone as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untracked {
    /// Fewer live pods than the minimum.
    BelowMinReplicas {
        /// Live pods.
        live: i64,
        /// The minimum.
        required: i64,
    },
    /// The owner's number of replicas is zero or not known.
    NoReplicas {
        /// The owner.
        owner: String,
        /// What is the matter with it.
        why: String,
    },
}

/// One group's budget in one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Replicas that its owner is meant to have.
    pub configured: i64,
    /// Live pods that do not run yet.
    pub pending: i64,
    /// Live pods that run, those in a resize included.
    pub running: i64,
    /// Replicas that may be missing.
    pub eviction_tolerance: i64,
    /// Running pods evicted in this pass.
    pub evicted: i64,
    /// Pods that were in a resize when the pass began. They count as running.
    pub resizing: i64,
    /// Pods resized in this pass.
    pub resized: i64,
    /// Fewer live pods than the minimum; tracked for resizes that need no budget only.
    pub below_min_replicas: bool,
}

impl Group {
    /// The budget of these pods of one owner.
    fn new(
        key: &GroupKey,
        members: &[(GroupRef<'_>, &Pod)],
        rules: GroupRules,
        in_boost: impl Fn(&Pod) -> bool,
        mut replicas: impl FnMut(&GroupKey) -> Replicas,
    ) -> Result<Self, Untracked> {
        let pods = || members.iter().map(|(_, pod)| *pod);
        let live = members.len() as i64;
        let small = live < rules.min_replicas;
        let boosted = small && pods().any(in_boost);
        if small && !boosted && !rules.track_below_min_replicas {
            return Err(Untracked::BelowMinReplicas { live, required: rules.min_replicas });
        }
        let unknown = |why: String| Err(Untracked::NoReplicas { owner: key.to_string(), why });
        let configured = match replicas(key) {
            Replicas::Count(count) if count > 0 => count,
            Replicas::LivePods => live,
            Replicas::Count(_) => return unknown("has no replicas".to_owned()),
            Replicas::Unknown(why) => return unknown(why),
        };
        let pending = pods().filter(|pod| is_pending(pod)).count() as i64;
        Ok(Self {
            configured,
            pending,
            running: live - pending,
            // Cut, not rounded: the budget is never larger than the fraction.
            eviction_tolerance: (configured as f64 * rules.eviction_tolerance) as i64,
            resizing: pods().filter(|pod| ResizePhase::of(pod) != ResizePhase::None).count() as i64,
            below_min_replicas: small && rules.track_below_min_replicas,
            ..Self::default()
        })
    }

    /// Whether one more running pod may be disrupted. A group whose tolerance is nothing may lose one pod at a time,
    /// while all its pods run.
    pub fn is_disruptable(&self) -> bool {
        let disrupted = self.evicted.saturating_add(self.resized);
        let alive = self.running.saturating_sub(disrupted);
        alive > self.configured.saturating_sub(self.eviction_tolerance)
            || (self.configured == self.running && self.eviction_tolerance == 0 && disrupted == 0)
    }
}

/// What the budgets of a VPA's pods depend on.
#[derive(Clone, Copy, Debug)]
pub struct GroupRules {
    /// Live pods below which a group is left alone.
    pub min_replicas: i64,
    /// Fraction of the replicas that may be disrupted.
    pub eviction_tolerance: f64,
    /// Groups below the minimum are tracked, for resizes that need no budget.
    pub track_below_min_replicas: bool,
}

/// The groups of one VPA's pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    /// In the order of their keys.
    groups: Vec<(GroupKey, Result<Group, Untracked>)>,
    min_replicas: i64,
}

impl Groups {
    /// Groups the pods of a VPA by their owners.
    ///
    /// `in_boost` tells whether a pod is in a startup boost that this VPA gives: its group is then tracked whatever its
    /// size, since only a resize ends the boost.
    pub fn new(
        pods: &[Arc<Pod>],
        rules: GroupRules,
        in_boost: impl Fn(&Pod) -> bool,
        mut replicas: impl FnMut(&GroupKey) -> Replicas,
    ) -> Self {
        let mut members: Vec<(GroupRef<'_>, &Pod)> =
            pods.iter().map(|pod| (GroupRef::of(pod), pod.as_ref())).collect();
        members.sort_by_key(|(key, _)| *key);
        let groups = members.chunk_by(|(a, _), (b, _)| a == b).map(|members| {
            let key = GroupKey::from(members[0].0);
            let group = Group::new(&key, members, rules, &in_boost, &mut replicas);
            (key, group)
        });
        let mut groups: Vec<_> = groups.collect();
        // Nearly always one, which stays until the next pass.
        groups.shrink_to_fit();
        Self { groups, min_replicas: rules.min_replicas }
    }

    /// The budget of a pod's group.
    ///
    /// # Errors
    /// Why the group is left alone as a whole.
    pub fn of(&self, pod: &Pod) -> Result<&Group, Untracked> {
        let found = self.find(pod).and_then(|index| self.groups.get(index));
        match found {
            Some((_, group)) => group.as_ref().map_err(Untracked::clone),
            None => Err(Untracked::NoReplicas {
                owner: GroupKey::of(pod).to_string(),
                why: "is not of this pass".to_owned(),
            }),
        }
    }

    fn find(&self, pod: &Pod) -> Option<usize> {
        let wanted = GroupRef::of(pod);
        self.groups.binary_search_by(|(key, _)| GroupRef::from(key).cmp(&wanted)).ok()
    }

    fn of_mut(&mut self, pod: &Pod) -> Option<&mut Group> {
        let index = self.find(pod)?;
        self.groups.get_mut(index)?.1.as_mut().ok()
    }

    /// Notes that a pod was evicted. A pending pod uses no budget.
    pub fn note_eviction(&mut self, pod: &Pod) {
        if !is_pending(pod)
            && let Some(group) = self.of_mut(pod)
        {
            group.evicted += 1;
        }
    }

    /// Notes that a pod was resized.
    pub fn note_resize(&mut self, pod: &Pod) {
        if let Some(group) = self.of_mut(pod) {
            group.resized += 1;
        }
    }

    /// Live pods below which a group is left alone.
    pub fn min_replicas(&self) -> i64 {
        self.min_replicas
    }

    /// The tracked groups.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupKey, &Group)> {
        self.groups.iter().filter_map(|(key, group)| Some((key, group.as_ref().ok()?)))
    }
}

/// Whether a pod does not run yet.
pub fn is_pending(pod: &Pod) -> bool {
    pod.status.phase.as_deref() == Some("Pending")
}

/// Namespace and name of a pod, as a key for look-ups.
pub fn pod_name(pod: &Pod) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(configured: i64, running: i64, eviction_tolerance: i64, disrupted: i64) -> Group {
        Group { configured, running, eviction_tolerance, evicted: disrupted, ..Group::default() }
    }

    #[test]
    fn a_group_without_tolerance_loses_one_pod_at_a_time_while_all_run() {
        for (configured, running, tolerance, disrupted, want) in [
            (3, 3, 0, 0, true),
            (3, 3, 0, 1, false),
            (3, 2, 0, 0, false),
            (4, 4, 2, 1, true),
            (4, 4, 2, 2, false),
            (4, 3, 2, 0, true),
            (4, 2, 2, 0, false),
            (3, 5, 1, 2, true),
        ] {
            let group = group(configured, running, tolerance, disrupted);
            assert_eq!(group.is_disruptable(), want, "{group:?}");
        }
    }
}
