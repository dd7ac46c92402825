//! What a pass looks at: one moment of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_api::vpa::UpdateMode;

use super::config::Config;
use super::group::{GroupKey, Replicas};
use super::heartbeat::Heartbeat;
use super::memory::UpdaterMemory;
use super::nodes::NodeSource;
use super::report::LeftOut;
use crate::policy::{LimitRangeSource, has_startup_boost, mode};
use crate::target::{
    ChainError, Controller, ControllerKey, ControllerSource, Lookup, VpaIndex, WellKnown, controlling,
    topmost_of_pod,
};

/// One moment of the cluster.
pub struct Snapshot<'a> {
    /// All VPAs.
    pub vpas: Vec<Arc<VerticalPodAutoscaler>>,
    /// Scheduled pods that have not ended.
    pub pods: Vec<Arc<Pod>>,
    /// Controllers.
    pub controllers: &'a dyn ControllerSource,
    /// Limits of namespaces.
    pub limit_ranges: &'a dyn LimitRangeSource,
    /// Capacity of nodes.
    pub nodes: Arc<dyn NodeSource + Send + Sync>,
    /// State of the admission controller.
    pub heartbeat: Heartbeat,
}

/// A VPA with its live pods.
pub(super) type Controlled = (Arc<VerticalPodAutoscaler>, Vec<Arc<Pod>>);

type Top = Result<Option<Arc<Controller>>, ChainError>;

/// Which pods each VPA controls.
#[derive(Default)]
pub(super) struct Assignment {
    /// Pods by VPA, by namespace and name, each in the order of the snapshot.
    pub(super) controlled: BTreeMap<(String, String), Controlled>,
    /// VPAs that take no part.
    pub(super) left_out: BTreeMap<String, LeftOut>,
    /// Controllers of pods that could not be followed to the top, and why.
    pub(super) unresolved: BTreeMap<String, String>,
    pub(super) uncontrolled_pods: usize,
}

/// Finds the pods of each VPA that may touch running pods. Pods that are being deleted are left out.
pub(super) fn assign(snapshot: &Snapshot<'_>, config: &Config, memory: &UpdaterMemory) -> Assignment {
    let mut assignment = Assignment::default();
    let mut taking_part = BTreeMap::new();
    for vpa in &snapshot.vpas {
        match left_out(vpa, snapshot.controllers, config) {
            None => {
                taking_part.insert(key(vpa), Arc::clone(vpa));
            }
            Some(why) => {
                assignment.left_out.insert(joined(vpa), why);
            }
        }
    }
    let index = VpaIndex::new(taking_part.values().cloned());
    // Pods of one owner have one topmost controller; it is looked up once.
    let mut tops: HashMap<GroupKey, Top> = HashMap::new();
    let lives = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_none() && !memory.was_just_evicted(pod);
    for pod in snapshot.pods.iter().filter(lives) {
        let top = tops.entry(GroupKey::of(pod)).or_insert_with(|| topmost_of_pod(snapshot.controllers, pod));
        let vpa = match top {
            Ok(Some(top)) => controlling(&index, snapshot.controllers, &top.key, pod.labels(), |_| true),
            Ok(None) => Ok(None),
            Err(error) => {
                assignment.unresolved.insert(GroupKey::of(pod).to_string(), error.to_string());
                Ok(None)
            }
        };
        match vpa {
            Ok(Some(vpa)) => {
                let (_, pods) = assignment.controlled.entry(key(&vpa)).or_insert_with(|| (vpa, Vec::new()));
                pods.push(Arc::clone(pod));
            }
            Ok(None) => assignment.uncontrolled_pods += 1,
            Err(pending) => {
                assignment.uncontrolled_pods += 1;
                assignment.unresolved.insert(pending.to_string(), "is still being looked up".to_owned());
            }
        }
    }
    for (key, vpa) in taking_part {
        if !assignment.controlled.contains_key(&key) {
            assignment.left_out.insert(joined(&vpa), LeftOut::NoPods);
        }
    }
    assignment
}

fn key(vpa: &VerticalPodAutoscaler) -> (String, String) {
    (vpa.metadata.namespace.clone().unwrap_or_default(), vpa.metadata.name.clone().unwrap_or_default())
}

/// `namespace/name` of a VPA.
pub(super) fn joined(vpa: &VerticalPodAutoscaler) -> String {
    let (namespace, name) = key(vpa);
    format!("{namespace}/{name}")
}

/// Update mode as the VPA writes it.
pub(super) fn mode_label(vpa: &VerticalPodAutoscaler) -> String {
    match vpa.spec.update_policy.as_ref().and_then(|policy| policy.update_mode.as_ref()) {
        None => UpdateMode::Recreate.to_string(),
        Some(UpdateMode::Unknown(text)) if text.is_empty() => UpdateMode::Recreate.to_string(),
        Some(mode) => mode.to_string(),
    }
}

fn left_out(
    vpa: &VerticalPodAutoscaler,
    controllers: &dyn ControllerSource,
    config: &Config,
) -> Option<LeftOut> {
    if config.ignored_namespaces.contains(&key(vpa).0) {
        return Some(LeftOut::IgnoredNamespace);
    }
    let mode = mode(vpa);
    let boosts = config.features.cpu_startup_boost && has_startup_boost(vpa);
    if !mode.evicts() && !mode.resizes() && !boosts {
        return Some(LeftOut::Mode(mode_label(vpa)));
    }
    let Some(target) = ControllerKey::of_target(vpa) else {
        return Some(LeftOut::Target("it has no targetRef".to_owned()));
    };
    let why = match controllers.get(&target) {
        Lookup::Found(controller) => match &controller.selector {
            Ok(_) => return None,
            Err(error) => error.to_string(),
        },
        Lookup::NotFound => format!("{target} does not exist"),
        Lookup::UnknownKind => format!("the kind of {target} is not served by the API server"),
        Lookup::Forbidden => format!("no permission to get the scale subresource of {target}"),
        Lookup::Pending => format!("{target} is still being looked up"),
        Lookup::Failed(reason) => reason,
    };
    Some(LeftOut::Target(why))
}

/// How many pods the owner of a group is meant to have.
///
/// A Job has no such number, and neither has a kind without scale subresource: the live pods are the measure.
pub fn replicas(controllers: &dyn ControllerSource, group: &GroupKey) -> Replicas {
    if group.kind.is_empty() || group.kind == WellKnown::Job.kind() {
        return Replicas::LivePods;
    }
    let key = ControllerKey {
        namespace: group.namespace.clone(),
        api_version: group.api_version.clone(),
        kind: group.kind.clone(),
        name: group.name.clone(),
    };
    let known = key.well_known().is_some();
    match controllers.get(&key) {
        Lookup::Found(controller) => match controller.replicas {
            Some(count) => Replicas::Count(i64::from(count)),
            None if known => Replicas::Unknown("has no number of replicas".to_owned()),
            None => Replicas::LivePods,
        },
        Lookup::NotFound | Lookup::UnknownKind | Lookup::Forbidden if !known => Replicas::LivePods,
        Lookup::NotFound => Replicas::Unknown("does not exist".to_owned()),
        Lookup::UnknownKind => {
            Replicas::Unknown("is of a kind that the API server does not serve".to_owned())
        }
        Lookup::Forbidden => Replicas::Unknown("may not be read".to_owned()),
        Lookup::Pending => Replicas::Unknown("is still being looked up".to_owned()),
        Lookup::Failed(reason) => Replicas::Unknown(format!("could not be looked up: {reason}")),
    }
}
