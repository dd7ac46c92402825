//! One namespace of the model: its pods, the label sets that they have, and the VPAs that select them.

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;
use jiff::Timestamp;
use litemap::LiteMap;

use super::aggregate::Aggregate;
use super::container::ContainerState;
use super::pod::Labels;
use super::settings::{ContainerSettings, Settings};
use super::vpa::VpaState;
use crate::target::stronger;

/// Something for each container, by name. Most pods have one or two: a tree's node would have room for eleven.
pub type ByContainer<T> = LiteMap<CompactString, T>;

/// Number of a label set in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(u32);

/// Pods with the same labels. Their containers of one name share a history.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) labels: Arc<Labels>,
    /// Names of the pods.
    pub(super) pods: LiteMap<CompactString, ()>,
    /// VPAs that select it, the strongest first.
    pub(super) vpas: Vec<CompactString>,
    pub(super) aggregates: ByContainer<Aggregate>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct PodState {
    pub(super) group: GroupId,
    /// Its main containers.
    pub containers: ByContainer<ContainerState>,
    /// Names of the containers that run before the main ones.
    pub(super) init_containers: Box<[CompactString]>,
    /// Whether it is neither succeeded nor failed.
    pub(super) active: bool,
    /// Value of its priority class.
    pub(super) priority: i32,
    /// When it was created.
    pub(super) created: Option<Timestamp>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Namespace {
    pub(super) pods: BTreeMap<CompactString, PodState>,
    pub(super) vpas: BTreeMap<CompactString, VpaState>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    by_labels: BTreeMap<Arc<Labels>, GroupId>,
    next_group: u32,
}

impl Namespace {
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.vpas.is_empty() && self.groups.is_empty()
    }

    /// The group of these labels; makes it, and links it to the VPAs that select it, where there is none.
    pub(super) fn group_of(&mut self, labels: &Labels) -> GroupId {
        if let Some(id) = self.by_labels.get(labels) {
            return *id;
        }
        let id = GroupId(self.next_group);
        self.next_group = self.next_group.wrapping_add(1);
        let labels = Arc::new(labels.clone());
        self.by_labels.insert(labels.clone(), id);
        self.groups.insert(id, Group { labels, ..Group::default() });
        let names: Vec<_> = self.vpas.keys().cloned().collect();
        for name in names {
            self.link(&name, id);
        }
        id
    }

    /// Links a VPA anew to all groups that it selects.
    pub(super) fn relink(&mut self, vpa: &str) {
        self.unlink(vpa);
        let ids: Vec<_> = self.by_labels.values().copied().collect();
        for id in ids {
            self.link(vpa, id);
        }
    }

    /// Removes a VPA from all groups.
    pub(super) fn unlink(&mut self, vpa: &str) {
        for group in self.groups.values_mut() {
            group.vpas.retain(|name| name != vpa);
        }
        if let Some(state) = self.vpas.get_mut(vpa) {
            state.groups.clear();
        }
    }

    fn link(&mut self, vpa: &str, id: GroupId) {
        let Self { vpas, groups, .. } = self;
        let (Some(state), Some(group)) = (vpas.get(vpa), groups.get_mut(&id)) else { return };
        if !state.selector().is_some_and(|selector| selector.matches_labels(&group.labels)) {
            return;
        }
        let place = group
            .vpas
            .iter()
            .position(|other| {
                vpas.get(other).is_none_or(|other| stronger(&state.object, &other.object).is_lt())
            })
            .unwrap_or(group.vpas.len());
        group.vpas.insert(place, vpa.into());
        let labels = group.labels.clone();
        if let Some(state) = vpas.get_mut(vpa) {
            // In the order of the labels, which the order of merging, and with it the last digits of totals, follows.
            let before = |other: &GroupId| groups.get(other).is_some_and(|other| other.labels < labels);
            let place = state.groups.partition_point(before);
            state.groups.insert(place, id);
        }
    }

    /// Removes a group without pods and history.
    pub(super) fn drop_group_if_unused(&mut self, id: GroupId) {
        let unused = self.groups.get(&id).is_some_and(|g| g.pods.is_empty() && g.aggregates.is_empty());
        if !unused {
            return;
        }
        if let Some(group) = self.groups.remove(&id) {
            self.by_labels.remove(&group.labels);
            for vpa in group.vpas {
                if let Some(state) = self.vpas.get_mut(&vpa) {
                    state.groups.retain(|other| *other != id);
                }
            }
        }
    }

    /// Settings for a container of a group: those of the strongest VPA that selects it.
    pub(super) fn settings_for(
        &self,
        settings: &Settings,
        id: GroupId,
        container: &str,
    ) -> ContainerSettings {
        let strongest = self.groups.get(&id).and_then(|group| group.vpas.first());
        let policy = strongest.and_then(|name| self.vpas.get(name)).and_then(|vpa| vpa.policy(container));
        settings.for_container(policy)
    }

    /// Merges the history of all containers that a VPA is responsible for, by container name: of live pods, of pods
    /// gone, and from checkpoints.
    pub(super) fn merged(
        &mut self,
        vpa: &str,
        settings: &Settings,
        now: Timestamp,
    ) -> BTreeMap<CompactString, Aggregate> {
        let mut merged = BTreeMap::new();
        let Some(state) = self.vpas.get_mut(vpa).filter(|state| state.serving) else { return merged };
        for id in &state.groups {
            let Some(group) = self.groups.get_mut(id) else { continue };
            for (container, aggregate) in &mut group.aggregates {
                let entry = merged.entry(container.clone());
                entry.or_insert_with(|| Aggregate::new(settings, now)).merge(aggregate);
            }
        }
        for (container, history) in &mut state.history {
            let entry = merged.entry(container.clone());
            entry.or_insert_with(|| Aggregate::new(settings, now)).merge(&mut history.aggregate);
        }
        merged
    }

    /// The merged history of one container, as [`Self::merged`] has it.
    pub(super) fn merged_container(
        &mut self,
        vpa: &str,
        container: &str,
        settings: &Settings,
        now: Timestamp,
    ) -> Option<Aggregate> {
        let Self { vpas, groups, .. } = self;
        let state = vpas.get_mut(vpa).filter(|state| state.serving)?;
        let mut merged: Option<Aggregate> = None;
        let mut merge =
            |part: &mut Aggregate| merged.get_or_insert_with(|| Aggregate::new(settings, now)).merge(part);
        for id in &state.groups {
            if let Some(part) = groups.get_mut(id).and_then(|group| group.aggregates.get_mut(container)) {
                merge(part);
            }
        }
        if let Some(history) = state.history.get_mut(container) {
            merge(&mut history.aggregate);
        }
        merged
    }

    /// Live containers of a name under a VPA, with their pods.
    pub(super) fn live<'a>(
        &'a self,
        vpa: &'a VpaState,
        container: &'a str,
    ) -> impl Iterator<Item = (&'a CompactString, &'a ContainerState)> {
        vpa.groups
            .iter()
            .filter_map(|id| self.groups.get(id))
            .flat_map(|group| group.pods.keys())
            .filter_map(move |name| Some((name, self.pods.get(name)?.containers.get(container)?)))
    }

    /// Lets live containers that have no sample yet go on where the checkpoints say they were.
    pub(super) fn resume(&mut self, vpa: &str, settings: &Settings, now: Timestamp) {
        let Self { pods, vpas, groups, .. } = self;
        let Some(state) = vpas.get_mut(vpa).filter(|state| state.serving) else { return };
        for (container, history) in &mut state.history {
            history.open.retain(|(pod, open)| {
                let Some(live) = pods.get_mut(pod).filter(|live| state.groups.contains(&live.group)) else {
                    return true;
                };
                let group = live.group;
                let Some(fresh) = live.containers.get_mut(container) else { return true };
                if *fresh != ContainerState::default() {
                    return true;
                }
                fresh.clone_from(open);
                if let Some((end, group)) =
                    open.window_end.filter(|_| open.peak() > 0).zip(groups.get_mut(&group))
                {
                    let entry = group.aggregates.entry(container.clone());
                    entry.or_insert_with(|| Aggregate::new(settings, now)).add_memory_peak(open.peak(), end);
                }
                false
            });
        }
    }
}
