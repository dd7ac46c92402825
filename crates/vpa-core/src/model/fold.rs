//! Histories of label sets that no pod has any more, put together where there are many.
//!
//! Each rollout makes pods with a label set of their own (`pod-template-hash`), and each label set has histories. Kept
//! one by one until they are too old to tell anything, they would be as many as there were rollouts in eight days. What
//! tells two of them apart is of no interest to any VPA. So those used longest ago lose the labels that no selector looks
//! at, and where no VPA selects them those that controllers give, and their histories are merged into those of the label
//! set that is left. Percentiles stay what they were: a merged histogram is the sum of its parts.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use compact_str::CompactString;

use super::namespace::{Group, GroupId, Namespace};
use super::pod::Labels;
use super::vpa::VpaState;
use crate::target::Selector;

/// Labels that controllers give to tell one generation of pods, or one pod, from another.
const VOLATILE: [&str; 9] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "apps.kubernetes.io/pod-index",
    "statefulset.kubernetes.io/pod-name",
];

/// Label sets without pods that a namespace keeps apart: a rollback finds the last of each workload as it was. They are
/// looked at with each collection of garbage.
const APART_MAX: usize = 100;

impl Namespace {
    /// Puts the histories of label sets without pods, beyond a number of them, to those that mean the same to VPAs.
    pub(super) fn fold(&mut self) {
        let last =
            |group: &Group| group.aggregates.values().filter_map(|aggregate| aggregate.last_sample).max();
        let idle = self.groups.iter().filter(|(_, group)| group.pods.is_empty());
        let mut idle: Vec<_> =
            idle.map(|(id, group)| (Reverse(last(group)), *id, group.vpas.is_empty())).collect();
        if idle.len() <= APART_MAX {
            return;
        }
        idle.sort_unstable();
        let selectors = self.vpas.values().filter_map(VpaState::selector);
        let keys: BTreeSet<CompactString> = selectors.flat_map(Selector::keys).map(Into::into).collect();
        for (_, id, unselected) in idle.drain(APART_MAX..) {
            if unselected {
                self.fold_into(id, |key| !VOLATILE.contains(&key));
            } else {
                self.fold_into(id, |key| keys.contains(key));
            }
        }
    }

    fn fold_into(&mut self, id: GroupId, stays: impl Fn(&str) -> bool) {
        let Some(group) = self.groups.get(&id) else { return };
        if !group.pods.is_empty() || group.aggregates.is_empty() {
            return;
        }
        let labels = group.labels.clone();
        let kept = labels.iter().filter(|(key, _)| stays(key));
        let folded: Labels = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
        // A selector that does look at a volatile label, as that of a Job does, would not find the histories again.
        let means_the_same = self
            .vpas
            .values()
            .filter_map(VpaState::selector)
            .all(|selector| selector.matches_labels(&labels) == selector.matches_labels(&folded));
        if folded.len() == labels.len() || !means_the_same {
            return;
        }
        let into = self.group_of(&folded);
        let Some(group) = self.groups.get_mut(&id) else { return };
        let aggregates = std::mem::take(&mut group.aggregates);
        if let Some(into) = self.groups.get_mut(&into) {
            for (container, mut aggregate) in aggregates.into_tuple_vec() {
                match into.aggregates.get_mut(&container) {
                    Some(known) => known.merge(&mut aggregate),
                    None => drop(into.aggregates.insert(container, aggregate)),
                }
            }
        }
        self.drop_group_if_unused(id);
    }
}
