//! What a pass looks at: one moment of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_api::vpa::UpdateMode;

use super::config::Config;
use super::group::{GroupKey, GroupRef, Replicas};
use super::heartbeat::Heartbeat;
use super::memory::UpdaterMemory;
use super::nodes::NodeSource;
use super::report::LeftOut;
use crate::policy::{LimitRangeSource, has_startup_boost, mode};
use crate::target::{
    ChainError, Controller, ControllerKey, ControllerSource, Lookup, VpaIndex, VpaSource as _, WellKnown,
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

/// The topmost controller of some pods.
struct Owner {
    /// What is not known of the way to it.
    error: Option<ChainError>,
    /// Places of the VPAs that name it, with their targets, the strongest first.
    claims: Vec<(usize, Arc<Controller>)>,
}

/// Which pods each VPA controls.
#[derive(Default)]
pub(super) struct Assignment {
    /// VPAs with live pods by namespace and name; the pods in the order of the snapshot.
    pub(super) controlled: Vec<Controlled>,
    /// VPAs that take no part.
    pub(super) left_out: BTreeMap<String, LeftOut>,
    /// Controllers of pods that could not be followed to the top, and why.
    pub(super) unresolved: BTreeMap<String, String>,
    pub(super) uncontrolled_pods: usize,
}

/// Finds the pods of each VPA that may touch running pods. Pods that are being deleted are left out.
pub(super) fn assign(snapshot: &Snapshot<'_>, config: &Config, memory: &UpdaterMemory) -> Assignment {
    let mut assignment = Assignment::default();
    let mut taking_part = Vec::new();
    for vpa in &snapshot.vpas {
        match target(vpa, snapshot.controllers, config) {
            Ok(target) => taking_part.push((Arc::clone(vpa), target)),
            Err(why) => {
                assignment.left_out.insert(vpa_name(vpa), why);
            }
        }
    }
    taking_part.sort_by(|(a, _), (b, _)| names(a).cmp(&names(b)));
    let index = VpaIndex::new(taking_part.iter().map(|(vpa, _)| Arc::clone(vpa)));
    let places: HashMap<_, _> =
        taking_part.iter().enumerate().map(|(place, (vpa, _))| (Arc::as_ptr(vpa), place)).collect();
    // Pods of one owner have one topmost controller and the same VPAs to choose from; both are looked up once.
    let owner = |pod: &Pod| {
        let (top, error) = match topmost_of_pod(snapshot.controllers, pod) {
            Ok(top) => (top, None),
            Err(error) => (None, Some(error)),
        };
        let named = |top: Arc<Controller>| index.targeting(&top.key.namespace, &top.key.kind, &top.key.name);
        let claim = |vpa: Arc<VerticalPodAutoscaler>| {
            let place = *places.get(&Arc::as_ptr(&vpa))?;
            Some((place, Arc::clone(&taking_part.get(place)?.1)))
        };
        let claims = top.map(named).into_iter().flatten().filter_map(claim).collect();
        Owner { error, claims }
    };
    let mut owners: HashMap<GroupRef<'_>, Owner> = HashMap::new();
    let mut pods_of = vec![Vec::new(); taking_part.len()];
    let lives = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_none() && !memory.was_just_evicted(pod);
    for pod in snapshot.pods.iter().filter(lives) {
        let key = GroupRef::of(pod);
        let owner = owners.entry(key).or_insert_with(|| owner(pod));
        if let Some(error) = &owner.error {
            assignment.unresolved.insert(GroupKey::from(key).to_string(), error.to_string());
        }
        match owner.controlling(pod).and_then(|place| pods_of.get_mut(place)) {
            Some(pods) => pods.push(Arc::clone(pod)),
            None => assignment.uncontrolled_pods += 1,
        }
    }
    for ((vpa, _), pods) in taking_part.into_iter().zip(pods_of) {
        if pods.is_empty() {
            assignment.left_out.insert(vpa_name(&vpa), LeftOut::NoPods);
        } else {
            assignment.controlled.push((vpa, pods));
        }
    }
    assignment
}

impl Owner {
    /// Place of the strongest VPA whose selector matches the pod.
    fn controlling(&self, pod: &Pod) -> Option<usize> {
        let matches = |target: &Controller| {
            target.selector.as_ref().is_ok_and(|selector| selector.matches(pod.labels()))
        };
        self.claims.iter().find(|(_, target)| matches(target)).map(|(place, _)| *place)
    }
}

fn names(vpa: &VerticalPodAutoscaler) -> (&str, &str) {
    let (namespace, name) = (vpa.metadata.namespace.as_deref(), vpa.metadata.name.as_deref());
    (namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// `namespace/name` of a VPA.
pub fn vpa_name(vpa: &VerticalPodAutoscaler) -> String {
    let (namespace, name) = names(vpa);
    [namespace, name].join("/")
}

/// Update mode as the VPA writes it.
pub(super) fn mode_label(vpa: &VerticalPodAutoscaler) -> String {
    match vpa.spec.update_policy.as_ref().and_then(|policy| policy.update_mode.as_ref()) {
        None => UpdateMode::Recreate.to_string(),
        Some(UpdateMode::Unknown(text)) if text.is_empty() => UpdateMode::Recreate.to_string(),
        Some(mode) => mode.to_string(),
    }
}

/// The target of a VPA.
///
/// # Errors
/// Why it takes no part.
fn target(
    vpa: &VerticalPodAutoscaler,
    controllers: &dyn ControllerSource,
    config: &Config,
) -> Result<Arc<Controller>, LeftOut> {
    if config.ignored_namespaces.iter().any(|ignored| ignored == names(vpa).0) {
        return Err(LeftOut::IgnoredNamespace);
    }
    let mode = mode(vpa);
    let boosts = config.features.cpu_startup_boost && has_startup_boost(vpa);
    if !mode.evicts() && !mode.resizes() && !boosts {
        return Err(LeftOut::Mode(mode_label(vpa)));
    }
    let Some(target) = ControllerKey::of_target(vpa) else {
        return Err(LeftOut::Target("it has no targetRef".to_owned()));
    };
    let why = match controllers.get(&target) {
        Lookup::Found(controller) => match &controller.selector {
            Ok(_) => return Ok(controller),
            Err(error) => error.to_string(),
        },
        Lookup::NotFound => format!("{target} does not exist"),
        Lookup::UnknownKind => format!("the kind of {target} is not served by the API server"),
        Lookup::Forbidden => format!("no permission to get the scale subresource of {target}"),
        Lookup::Pending => format!("{target} is still being looked up"),
        Lookup::Failed(reason) => reason,
    };
    Err(LeftOut::Target(why))
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
