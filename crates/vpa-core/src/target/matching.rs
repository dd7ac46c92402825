//! Which VPA controls a pod.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use vpa_api::VerticalPodAutoscaler;

use super::{ControllerKey, ControllerSource, Lookup};

/// Order of VPAs that want the same pod: the one created first is first (one without a creation time before all), then
/// by name.
pub fn stronger(a: &VerticalPodAutoscaler, b: &VerticalPodAutoscaler) -> Ordering {
    let (a, b) = (&a.metadata, &b.metadata);
    let times = a.creation_timestamp.as_ref().map(|t| t.0).cmp(&b.creation_timestamp.as_ref().map(|t| t.0));
    times.then_with(|| a.name.cmp(&b.name))
}

/// Namespace of a pod in a review: its own, or that of the request for a pod whose name the API server will make.
pub fn pod_namespace<'a>(
    name: Option<&str>,
    namespace: Option<&'a str>,
    request_namespace: &'a str,
) -> &'a str {
    if name.unwrap_or_default().is_empty() { request_namespace } else { namespace.unwrap_or_default() }
}

/// Where the VPAs that name a controller are found, in constant time.
pub trait VpaSource {
    /// Whether `namespace` has any VPA with a target. Most namespaces have none, and their pods need no further look.
    fn any_in(&self, namespace: &str) -> bool;

    /// The VPAs of `namespace` whose `targetRef` has this kind and name, the strongest first.
    fn targeting(&self, namespace: &str, kind: &str, name: &str) -> Vec<Arc<VerticalPodAutoscaler>>;
}

/// VPAs by what they name, for one moment.
#[derive(Clone, Debug, Default)]
pub struct VpaIndex {
    by_target: HashMap<String, Vec<Arc<VerticalPodAutoscaler>>>,
    /// How many there are, without namespaces that have none.
    in_namespace: HashMap<String, usize>,
}

impl VpaIndex {
    /// Indexes the VPAs; those without a `targetRef` are left out.
    pub fn new(vpas: impl IntoIterator<Item = Arc<VerticalPodAutoscaler>>) -> Self {
        let mut index = Self::default();
        for vpa in vpas {
            index.insert(vpa);
        }
        index
    }

    /// Adds one VPA, in its place by strength. A VPA of the same name with the same target is replaced; one whose
    /// target changed has to be [removed](Self::remove) by its old form first.
    pub fn insert(&mut self, vpa: Arc<VerticalPodAutoscaler>) {
        let Some(slot) = slot_of(&vpa) else { return };
        self.remove(&vpa);
        match self.in_namespace.get_mut(namespace_of(&vpa)) {
            Some(count) => *count += 1,
            None => drop(self.in_namespace.insert(namespace_of(&vpa).to_owned(), 1)),
        }
        let vpas = self.by_target.entry(slot).or_default();
        let at = vpas.partition_point(|other| stronger(other, &vpa).is_le());
        vpas.insert(at, vpa);
    }

    /// Takes one VPA out, given in the form it was put in.
    pub fn remove(&mut self, vpa: &VerticalPodAutoscaler) {
        let Some(slot) = slot_of(vpa) else { return };
        let Some(vpas) = self.by_target.get_mut(&slot) else { return };
        let before = vpas.len();
        vpas.retain(|other| other.metadata.name != vpa.metadata.name);
        let removed = before - vpas.len();
        if vpas.is_empty() {
            self.by_target.remove(&slot);
        }
        if let Some(count) = self.in_namespace.get_mut(namespace_of(vpa)) {
            *count -= removed;
            if *count == 0 {
                self.in_namespace.remove(namespace_of(vpa));
            }
        }
    }
}

impl VpaSource for VpaIndex {
    fn any_in(&self, namespace: &str) -> bool {
        self.in_namespace.contains_key(namespace)
    }

    fn targeting(&self, namespace: &str, kind: &str, name: &str) -> Vec<Arc<VerticalPodAutoscaler>> {
        self.by_target.get(&slot(namespace, kind, name)).cloned().unwrap_or_default()
    }
}

fn slot_of(vpa: &VerticalPodAutoscaler) -> Option<String> {
    let target = vpa.spec.target_ref.as_ref()?;
    Some(slot(namespace_of(vpa), &target.kind, &target.name))
}

fn namespace_of(vpa: &VerticalPodAutoscaler) -> &str {
    vpa.metadata.namespace.as_deref().unwrap_or_default()
}

/// One string for three: none of them can hold a slash.
fn slot(namespace: &str, kind: &str, name: &str) -> String {
    format!("{namespace}/{kind}/{name}")
}

/// The VPA that controls a pod with these labels under this topmost controller.
///
/// The strongest VPA that names the controller (by namespace, kind and name; the API version is not compared), passes
/// `eligible`, and whose own look-up of the target gives a selector that matches. A VPA whose target cannot be looked
/// up is passed over; where that look-up is still under way, its key is the error.
///
/// # Errors
/// The key of a target that is still [pending](Lookup::Pending).
pub fn controlling<V: VpaSource + ?Sized, S: ControllerSource + ?Sized>(
    vpas: &V,
    controllers: &S,
    top: &ControllerKey,
    labels: &BTreeMap<String, String>,
    eligible: impl Fn(&VerticalPodAutoscaler) -> bool,
) -> Result<Option<Arc<VerticalPodAutoscaler>>, ControllerKey> {
    for vpa in vpas.targeting(&top.namespace, &top.kind, &top.name) {
        let Some(target) = ControllerKey::of_target(&vpa) else { continue };
        if !eligible(&vpa) {
            continue;
        }
        match controllers.get(&target) {
            Lookup::Found(controller) => {
                if controller.selector.as_ref().is_ok_and(|selector| selector.matches(labels)) {
                    return Ok(Some(vpa));
                }
            }
            Lookup::Pending => return Err(target),
            Lookup::NotFound | Lookup::UnknownKind | Lookup::Forbidden | Lookup::Failed(_) => {}
        }
    }
    Ok(None)
}
