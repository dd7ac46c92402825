//! The state of the cluster as the recommender sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;
use jiff::Timestamp;
use vpa_api::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};

use super::aggregate::Aggregate;
use super::checkpoints::Saved;
use super::container::{ContainerState, Rejection};
use super::history::History;
use super::ids::{ContainerId, PodId, VpaId};
use super::namespace::{ByContainer, Namespace, PodState};
use super::observation::{ApplyError, Observation};
use super::pod::{Labels, ObservedPod};
use super::quality::{Quality, Resource};
use super::settings::Settings;
use super::vpa::{Target, VpaState};

/// Usage samples of one cycle of which the match with the recommendation is noted at most: bounds the memory between
/// two cycles at about 20 MB. Those beyond are missing in the quality metrics only.
const MAX_QUALITY: usize = 400_000;

/// See the [module](self).
#[derive(Debug)]
pub struct ClusterState {
    settings: Settings,
    pub(super) namespaces: BTreeMap<CompactString, Namespace>,
    pub(super) last_collection: Option<Timestamp>,
    quality: Vec<Quality>,
    /// Checkpoints that the next plan may write beyond those that must be, see
    /// [`Schedule`](super::checkpoints::Schedule).
    pub(super) checkpoint_credit: f64,
}

impl ClusterState {
    /// An empty cluster.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            namespaces: BTreeMap::new(),
            last_collection: None,
            quality: Vec::new(),
            checkpoint_credit: 0.0,
        }
    }

    /// How samples are aggregated.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes an observation in. `now` is the present time, not that of the observation.
    ///
    /// # Errors
    /// Says why it was not taken; the state is then unchanged.
    pub fn apply(&mut self, observation: Observation<'_>, now: Timestamp) -> Result<(), ApplyError> {
        match observation {
            Observation::Vpa(object, target) => self.put_vpa(object, target, now),
            Observation::VpaGone(id) => self.remove_vpa(id),
            Observation::Checkpoint(checkpoint) => self.put_checkpoint(checkpoint, now)?,
            Observation::Pod(pod) => self.put_pod(pod, now),
            Observation::PodGone(id) => self.remove_pod(id),
            Observation::Cpu { container, time, millicores } => {
                self.add_cpu(container, time, millicores, now)?
            }
            Observation::Memory { container, time, bytes } => self.add_memory(container, time, bytes, now)?,
            Observation::Oom(oom) => self.add_oom(oom, now)?,
        }
        Ok(())
    }

    /// All VPAs, in order.
    pub fn vpas(&self) -> impl Iterator<Item = (VpaId, &VpaState)> {
        self.namespaces.iter().flat_map(|(namespace, content)| {
            content
                .vpas
                .iter()
                .map(|(name, vpa)| (VpaId { namespace: namespace.clone(), name: name.clone() }, vpa))
        })
    }

    /// A VPA.
    pub fn vpa(&self, id: &VpaId) -> Option<&VpaState> {
        self.namespaces.get(&id.namespace)?.vpas.get(&id.name)
    }

    pub(crate) fn vpa_mut(&mut self, id: &VpaId) -> Option<&mut VpaState> {
        self.namespaces.get_mut(&id.namespace)?.vpas.get_mut(&id.name)
    }

    /// A pod.
    pub fn pod(&self, id: &PodId) -> Option<&PodState> {
        self.namespaces.get(&id.namespace)?.pods.get(&id.name)
    }

    /// All pods, in order.
    pub fn pods(&self) -> impl Iterator<Item = (PodId, &PodState)> {
        self.namespaces.iter().flat_map(|(namespace, content)| {
            content
                .pods
                .iter()
                .map(|(name, pod)| (PodId { namespace: namespace.clone(), name: name.clone() }, pod))
        })
    }

    /// Number of pods.
    pub fn pod_count(&self) -> usize {
        self.namespaces.values().map(|namespace| namespace.pods.len()).sum()
    }

    /// Number of aggregates.
    pub fn aggregate_count(&self) -> usize {
        self.namespaces.values().flat_map(|n| n.groups.values()).map(|group| group.aggregates.len()).sum()
    }

    /// Pods, of any phase, that a VPA selects.
    pub fn selected_pods(&self, id: &VpaId) -> usize {
        let Some(namespace) = self.namespaces.get(&id.namespace) else { return 0 };
        let Some(vpa) = namespace.vpas.get(&id.name) else { return 0 };
        vpa.groups.iter().filter_map(|group| namespace.groups.get(group)).map(|group| group.pods.len()).sum()
    }

    /// Whether a VPA selects pods with these labels.
    pub fn selects(&self, namespace: &str, labels: &Labels) -> bool {
        let vpas = self.namespaces.get(namespace).map(|namespace| &namespace.vpas);
        vpas.into_iter()
            .flat_map(BTreeMap::values)
            .any(|v| v.selector().is_some_and(|s| s.matches_labels(labels)))
    }

    /// The merged history of the containers of a VPA, by name. Reference times of what is merged may move.
    pub fn aggregates_of(&mut self, id: &VpaId, now: Timestamp) -> BTreeMap<CompactString, Aggregate> {
        let Self { settings, namespaces, .. } = self;
        namespaces
            .get_mut(&id.namespace)
            .map(|namespace| namespace.merged(&id.name, settings, now))
            .unwrap_or_default()
    }

    /// The merged history of one of its containers, as [`Self::aggregates_of`] has it.
    pub(super) fn aggregate_of(&mut self, id: &VpaId, container: &str, now: Timestamp) -> Option<Aggregate> {
        let Self { settings, namespaces, .. } = self;
        namespaces.get_mut(&id.namespace)?.merged_container(&id.name, container, settings, now)
    }

    /// How usage samples since the last call compared with the recommendations in force.
    pub fn take_quality(&mut self) -> Vec<Quality> {
        std::mem::take(&mut self.quality)
    }

    fn put_vpa(&mut self, object: Arc<VerticalPodAutoscaler>, target: Target, now: Timestamp) {
        let id = VpaId::of_vpa(&object);
        let grace = self.settings.target_grace;
        let namespace = self.namespaces.entry(id.namespace).or_default();
        let state = namespace.vpas.entry(id.name.clone()).or_insert_with(|| VpaState::new(object.clone()));
        let replaced = state.object.metadata.uid != object.metadata.uid;
        let age = state.object.metadata.creation_timestamp != object.metadata.creation_timestamp;
        if replaced {
            // Deleted and created again under the same name: the new one begins anew, except for pods' own history.
            *state = VpaState::new(object.clone());
        }
        state.object = object;
        if state.set_target(target, grace, now) || replaced || age {
            namespace.relink(&id.name);
            namespace.resume(&id.name, &self.settings, now);
        }
    }

    fn remove_vpa(&mut self, id: &VpaId) {
        if let Some(namespace) = self.namespaces.get_mut(&id.namespace) {
            namespace.unlink(&id.name);
            namespace.vpas.remove(&id.name);
        }
        self.drop_namespace_if_empty(&id.namespace);
    }

    fn put_checkpoint(
        &mut self,
        checkpoint: &VerticalPodAutoscalerCheckpoint,
        now: Timestamp,
    ) -> Result<(), ApplyError> {
        let Self { settings, namespaces, .. } = self;
        let vpa = checkpoint.spec.vpa_object_name.as_deref().unwrap_or("");
        let container = checkpoint.spec.container_name.as_deref().unwrap_or("");
        let namespace = checkpoint.metadata.namespace.as_deref().unwrap_or("");
        let namespace = namespaces.get_mut(namespace).ok_or(Rejection::UnknownVpa)?;
        let state = namespace.vpas.get_mut(vpa).ok_or(Rejection::UnknownVpa)?;
        let history = History::from_checkpoint(checkpoint, settings, now)?;
        if state.history.is_empty() {
            state.history = ByContainer::with_capacity(1);
        }
        state.saved.insert(container.into(), Saved::found(history.until));
        state.history.insert(container.into(), history);
        namespace.resume(vpa, settings, now);
        Ok(())
    }

    fn put_pod(&mut self, pod: &ObservedPod, now: Timestamp) {
        let id = &pod.id;
        let Self { settings, namespaces, .. } = self;
        let namespace = namespaces.entry(id.namespace.clone()).or_default();
        let group = namespace.group_of(&pod.labels);
        let state = namespace.pods.entry(id.name.clone()).or_insert_with(|| PodState {
            group,
            containers: ByContainer::with_capacity(pod.containers.len()),
            init_containers: Box::default(),
            active: pod.active,
            priority: pod.priority,
            created: pod.created,
        });
        let moved = (state.group != group).then_some(state.group);
        state.group = group;
        state.active = pod.active;
        state.priority = pod.priority;
        state.created = pod.created;
        state.init_containers.clone_from(&pod.init_containers);
        let mut fresh = moved.is_some();
        for container in &pod.containers {
            state.containers.entry(container.name.clone()).or_insert_with(|| {
                fresh = true;
                ContainerState::default()
            });
        }
        let names: Vec<_> = if fresh { state.containers.keys().cloned().collect() } else { Vec::new() };
        if let Some(group) = namespace.groups.get_mut(&group) {
            group.pods.insert(id.name.clone(), ());
            if group.aggregates.is_empty() {
                group.aggregates = ByContainer::with_capacity(names.len());
            }
            for name in names {
                group.aggregates.entry(name).or_insert_with(|| Aggregate::new(settings, now));
            }
        }
        if let Some(old) = moved {
            if let Some(group) = namespace.groups.get_mut(&old) {
                group.pods.remove(&id.name);
            }
            namespace.drop_group_if_unused(old);
        }
        if fresh {
            let vpas = namespace.groups.get(&group).map(|group| group.vpas.clone()).unwrap_or_default();
            for vpa in vpas {
                namespace.resume(&vpa, settings, now);
            }
        }
    }

    fn remove_pod(&mut self, id: &PodId) {
        if let Some(namespace) = self.namespaces.get_mut(&id.namespace)
            && let Some(pod) = namespace.pods.remove(&id.name)
        {
            if let Some(group) = namespace.groups.get_mut(&pod.group) {
                group.pods.remove(&id.name);
            }
            namespace.drop_group_if_unused(pod.group);
        }
        self.drop_namespace_if_empty(&id.namespace);
    }

    pub(super) fn drop_namespace_if_empty(&mut self, name: &str) {
        if self.namespaces.get(name).is_some_and(Namespace::is_empty) {
            self.namespaces.remove(name);
        }
    }

    fn add_cpu(
        &mut self,
        id: &ContainerId,
        time: Timestamp,
        millicores: i64,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let time = whole_seconds(time);
        let (namespace, settings) = self.container(id)?;
        let (state, aggregate) = slot(namespace, settings, id, now)?;
        state.add_cpu(millicores, time, aggregate)?;
        self.note_quality(id, Resource::Cpu, millicores as f64 / 1000.0, false);
        Ok(())
    }

    fn add_memory(
        &mut self,
        id: &ContainerId,
        time: Timestamp,
        bytes: i64,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let time = whole_seconds(time);
        let (namespace, settings) = self.container(id)?;
        let group = namespace.pods.get(&id.pod.name).ok_or(Rejection::UnknownPod)?.group;
        let own = namespace.settings_for(settings, group, &id.container);
        let (state, aggregate) = slot(namespace, settings, id, now)?;
        state.add_memory(bytes, time, &own, aggregate)?;
        self.note_quality(id, Resource::Memory, bytes as f64, false);
        Ok(())
    }

    fn add_oom(&mut self, oom: &super::oom::Oom, now: Timestamp) -> Result<(), Rejection> {
        let time = whole_seconds(oom.time);
        let id = &oom.container;
        let (namespace, settings) = self.container(id)?;
        let group = namespace.pods.get(&id.pod.name).ok_or(Rejection::UnknownPod)?.group;
        let vpas = namespace.groups.get(&group).map(|group| group.vpas.clone()).unwrap_or_default();
        if oom.first_sight {
            let known = |vpa: &CompactString| {
                let history = namespace.vpas.get(vpa)?.history.get(&id.container)?;
                history.until.filter(|until| time <= *until)
            };
            if vpas.iter().any(|vpa| known(vpa).is_some()) {
                return Err(Rejection::Duplicate);
            }
        }
        let own = namespace.settings_for(settings, group, &id.container);
        let (state, aggregate) = slot(namespace, settings, id, now)?;
        let needed = state.add_oom(oom.requested_bytes, time, &own, aggregate)?;
        namespace.hasten_checkpoints(&vpas, &id.container);
        self.note_quality(id, Resource::Memory, needed as f64, true);
        Ok(())
    }

    fn container(&mut self, id: &ContainerId) -> Result<(&mut Namespace, &Settings), Rejection> {
        let Self { settings, namespaces, .. } = self;
        let namespace = namespaces.get_mut(&id.pod.namespace).ok_or(Rejection::UnknownPod)?;
        let pod = namespace.pods.get(&id.pod.name).ok_or(Rejection::UnknownPod)?;
        if pod.init_containers.contains(&id.container) {
            return Err(Rejection::InitContainer);
        }
        Ok((namespace, settings))
    }

    fn note_quality(&mut self, id: &ContainerId, resource: Resource, usage: f64, oom: bool) {
        if self.quality.len() >= MAX_QUALITY {
            return;
        }
        let Some(namespace) = self.namespaces.get(&id.pod.namespace) else { return };
        let group = namespace.pods.get(&id.pod.name).and_then(|pod| namespace.groups.get(&pod.group));
        let vpa = group.and_then(|group| group.vpas.first()).and_then(|name| namespace.vpas.get(name));
        if let Some(quality) = vpa.and_then(|vpa| Quality::new(vpa, &id.container, resource, usage, oom)) {
            self.quality.push(quality);
        }
    }
}

/// Checkpoints hold whole seconds, so a time with a fraction would be another one after a restart.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A container and the aggregate that its samples go to.
fn slot<'a>(
    namespace: &'a mut Namespace,
    settings: &Settings,
    id: &ContainerId,
    now: Timestamp,
) -> Result<(&'a mut ContainerState, &'a mut Aggregate), Rejection> {
    let Namespace { pods, groups, .. } = namespace;
    let pod = pods.get_mut(&id.pod.name).ok_or(Rejection::UnknownPod)?;
    let state = pod.containers.get_mut(&id.container).ok_or(Rejection::UnknownContainer)?;
    let group = groups.get_mut(&pod.group).ok_or(Rejection::UnknownPod)?;
    let aggregate =
        group.aggregates.entry(id.container.clone()).or_insert_with(|| Aggregate::new(settings, now));
    Ok((state, aggregate))
}
