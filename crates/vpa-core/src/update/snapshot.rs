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
    ChainError, Claim, Controller, ControllerKey, ControllerSource, Lookup, VpaIndex, WellKnown, claims,
    strongest, topmost_of_pod,
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

/// The topmost controller of some pods, and the VPAs that name it.
struct Owner {
    top: Result<Option<Arc<Controller>>, ChainError>,
    claims: Vec<Claim>,
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
    let mut taking_part: Vec<Controlled> = Vec::new();
    for vpa in &snapshot.vpas {
        match left_out(vpa, snapshot.controllers, config) {
            None => taking_part.push((Arc::clone(vpa), Vec::new())),
            Some(why) => {
                assignment.left_out.insert(joined(vpa), why);
            }
        }
    }
    taking_part.sort_by(|(a, _), (b, _)| names(a).cmp(&names(b)));
    let index = VpaIndex::new(taking_part.iter().map(|(vpa, _)| Arc::clone(vpa)));
    let places: HashMap<_, _> =
        taking_part.iter().enumerate().map(|(place, (vpa, _))| (Arc::as_ptr(vpa), place)).collect();
    // Pods of one owner have one topmost controller and the same VPAs to choose from; both are looked up once.
    let mut owners: HashMap<GroupRef<'_>, Owner> = HashMap::new();
    let lives = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_none() && !memory.was_just_evicted(pod);
    for pod in snapshot.pods.iter().filter(lives) {
        let key = GroupRef::of(pod);
        let owner = owners.entry(key).or_insert_with(|| Owner::of(pod, snapshot.controllers, &index));
        let vpa = owner.controlling(pod);
        if let Err(why) = &vpa {
            let (what, why) = match why {
                Unknown::Top(error) => (GroupKey::from(key).to_string(), error.to_string()),
                Unknown::Target(target) => (target.to_string(), "is still being looked up".to_owned()),
            };
            assignment.unresolved.insert(what, why);
        }
        let place = vpa.ok().flatten().and_then(|vpa| places.get(&Arc::as_ptr(vpa)));
        match place.and_then(|place| taking_part.get_mut(*place)) {
            Some((_, pods)) => pods.push(Arc::clone(pod)),
            None => assignment.uncontrolled_pods += 1,
        }
    }
    let (controlled, without): (Vec<_>, Vec<_>) =
        taking_part.into_iter().partition(|(_, pods)| !pods.is_empty());
    assignment.controlled = controlled;
    assignment.left_out.extend(without.iter().map(|(vpa, _)| (joined(vpa), LeftOut::NoPods)));
    assignment
}

/// Why it is not known which VPA controls a pod.
enum Unknown<'a> {
    Top(&'a ChainError),
    Target(&'a ControllerKey),
}

impl Owner {
    fn of(pod: &Pod, controllers: &dyn ControllerSource, index: &VpaIndex) -> Self {
        let top = topmost_of_pod(controllers, pod);
        let claims = match &top {
            Ok(Some(top)) => claims(index, controllers, &top.key, |_| true),
            Ok(None) | Err(_) => Vec::new(),
        };
        Self { top, claims }
    }

    fn controlling(&self, pod: &Pod) -> Result<Option<&Arc<VerticalPodAutoscaler>>, Unknown<'_>> {
        self.top.as_ref().map_err(Unknown::Top)?;
        strongest(&self.claims, pod.labels()).map_err(Unknown::Target)
    }
}

fn names(vpa: &VerticalPodAutoscaler) -> (&str, &str) {
    let (namespace, name) = (vpa.metadata.namespace.as_deref(), vpa.metadata.name.as_deref());
    (namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// `namespace/name` of a VPA.
pub(super) fn joined(vpa: &VerticalPodAutoscaler) -> String {
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

fn left_out(
    vpa: &VerticalPodAutoscaler,
    controllers: &dyn ControllerSource,
    config: &Config,
) -> Option<LeftOut> {
    if config.ignored_namespaces.iter().any(|ignored| ignored == names(vpa).0) {
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
