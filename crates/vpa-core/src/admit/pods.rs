//! Patches for pods.

use std::fmt::Write as _;

use serde_json::{Value, json};
use vpa_api::names::annotation;
use vpa_api::pod::{Pod, ResourceRequirements};
use vpa_api::{Quantity, ResourceList, VerticalPodAutoscaler};

use super::pod::{self, Place, Sent};
use super::{Decision, Operation, Outcome, Patch, Report, Request, Reviewed, Snapshot, boost};
use crate::policy::{
    ContainerResources, LimitRanges, Mode, Notes, container_resources, current_resources, has_startup_boost,
    mode, process,
};
use crate::target::{ChainError, controlling, pod_namespace, topmost_of_pod};

/// Decides the review of a pod. It is always admitted.
pub(super) fn review(request: &Request<'_>, snapshot: &Snapshot<'_>) -> Decision {
    let admit = |outcome| Decision::admit(Reviewed::Pod, outcome);
    let skip = |reason: &str| admit(Outcome::Skipped(reason.to_owned()));
    if request.resource.version != "v1" {
        return admit(Outcome::Failed(format!(
            "pods of version {:?} are not known here",
            request.resource.version
        )));
    }
    if request.operation != Operation::Create || !request.sub_resource.is_empty() {
        return skip("only the creation of pods is of interest");
    }
    let Sent { mut pod, places } = match pod::decode(request.object) {
        Ok(sent) => sent,
        Err(error) => return admit(Outcome::Failed(format!("the pod cannot be read: {error}"))),
    };
    let metadata = &mut pod.metadata;
    let namespace =
        pod_namespace(metadata.name.as_deref(), metadata.namespace.as_deref(), &request.namespace).to_owned();
    if !snapshot.vpas.any_in(&namespace) {
        return skip("the pod's namespace has no VPA with a target");
    }
    metadata.namespace = Some(namespace);

    let top = match topmost_of_pod(snapshot.controllers, &pod) {
        Ok(Some(top)) => top,
        Ok(None) => return skip("the pod has no controller that a VPA could name"),
        // A controller creates pods milliseconds after itself, so one that is missing may be on its way.
        Err(ChainError::Pending(key) | ChainError::Missing(key)) => return admit(Outcome::Pending(key)),
        Err(error) => return skip(&error.to_string()),
    };
    let boosts = snapshot.config.gates.cpu_startup_boost;
    let eligible = |vpa: &VerticalPodAutoscaler| mode(vpa) != Mode::Off || (boosts && has_startup_boost(vpa));
    let vpa = match controlling(snapshot.vpas, snapshot.controllers, &top.key, pod.labels(), eligible) {
        Ok(Some(vpa)) => vpa,
        Ok(None) => return skip("no VPA names the pod's controller"),
        Err(key) => return admit(Outcome::Pending(key)),
    };
    let limit_ranges =
        snapshot.limit_ranges.limit_ranges(pod.metadata.namespace.as_deref().unwrap_or_default());
    let name = vpa.metadata.name.clone();
    let mut decision = match Patcher::new(&pod, &places).patches(&vpa, &limit_ranges, snapshot) {
        Ok(patches) => {
            let report = Report { reviewed: Reviewed::Pod, outcome: Outcome::Applied, vpa: None };
            Decision { denial: None, patches, warnings: Vec::new(), report }
        }
        Err(error) => admit(Outcome::Failed(error.to_string())),
    };
    decision.report.vpa = name;
    decision
}

/// Requests and limits for the pod's containers, with notes on how they came about.
fn resources(
    vpa: &VerticalPodAutoscaler,
    pod: &Pod,
    limit_ranges: &LimitRanges,
) -> (Vec<ContainerResources>, Notes) {
    let recommended = vpa.status.as_ref().is_some_and(|status| status.recommendation.is_some());
    let mut processed = recommended.then(|| process(vpa, pod, limit_ranges)).flatten().unwrap_or_default();
    if mode(vpa) == Mode::Off {
        // Only the boost is applied.
        return (vec![ContainerResources::default(); pod.spec.containers.len()], Notes::new());
    }
    let resources = container_resources(
        pod,
        vpa.spec.resource_policy.as_ref(),
        &processed.containers,
        limit_ranges.container.as_ref(),
        false,
        &mut processed.notes,
    );
    (resources, processed.notes)
}

/// Why a pod gets no patch. It is then admitted as it is.
#[derive(Debug, thiserror::Error)]
enum PatchError {
    #[error(transparent)]
    Boost(#[from] boost::BoostError),
    /// A pod whose own amounts are negative is refused by the API server or, in its status, not looked at; what follows
    /// from them must not be what it is refused for.
    #[error("container {container}: {resource} would become {amount}")]
    Negative { container: String, resource: String, amount: Quantity },
}

fn not_negative(container: &str, resources: &ContainerResources) -> Result<(), PatchError> {
    let lists = [&resources.requests, &resources.limits];
    let mut amounts = lists.into_iter().flatten().flat_map(|list| list.iter());
    match amounts.find(|(_, amount)| amount.signum() < 0) {
        None => Ok(()),
        Some((resource, amount)) => Err(PatchError::Negative {
            container: container.to_owned(),
            resource: resource.to_string(),
            amount: amount.clone(),
        }),
    }
}

/// Builds the patch of one pod, in the order in which its parts must be there.
struct Patcher<'a> {
    pod: &'a Pod,
    /// Where patches have to fit, whatever the kubelet reports as current.
    places: &'a [Place],
    patches: Vec<Patch>,
}

impl<'a> Patcher<'a> {
    fn new(pod: &'a Pod, places: &'a [Place]) -> Self {
        Self { pod, places, patches: Vec::new() }
    }

    fn patches(
        mut self,
        vpa: &VerticalPodAutoscaler,
        limit_ranges: &LimitRanges,
        snapshot: &Snapshot<'_>,
    ) -> Result<Vec<Patch>, PatchError> {
        if self.pod.metadata.annotations.is_none() {
            self.add("/metadata/annotations".to_owned(), json!({}));
        }
        let (mut resources, mut notes) = resources(vpa, self.pod, limit_ranges);
        let mut texts = Vec::new();
        for (i, (container, resources)) in self.pod.spec.containers.iter().zip(&mut resources).enumerate() {
            match boost::apply(container, vpa, snapshot.config, resources)? {
                boost::Applied::Nothing => {}
                boost::Applied::Boosted { original } => {
                    self.annotate(
                        &format!("{}{}", annotation::CPU_STARTUP_BOOST_PREFIX, container.name),
                        &original,
                    );
                }
                boost::Applied::LeaveAlone => continue,
            }
            not_negative(&container.name, resources)?;
            let notes = notes.remove(&container.name).unwrap_or_default();
            texts.extend(self.container(i, &container.name, resources, notes));
        }
        if !texts.is_empty() {
            let name = vpa.metadata.name.as_deref().unwrap_or_default();
            self.annotate(
                annotation::UPDATES,
                &format!("Pod resources updated by {name}: {}", texts.join("; ")),
            );
        }
        let names: Vec<&str> =
            self.pod.spec.containers.iter().map(|container| container.name.as_str()).collect();
        self.annotate(annotation::OBSERVED_CONTAINERS, &names.join(", "));
        Ok(self.patches)
    }

    fn add(&mut self, path: String, value: impl Into<Value>) {
        self.patches.push(Patch::add(path, value));
    }

    fn annotate(&mut self, key: &str, value: &str) {
        self.add(format!("/metadata/annotations/{}", escape(key)), value);
    }

    /// Patches of one container, and the text on it; none where nothing changes.
    fn container(
        &mut self,
        i: usize,
        name: &str,
        resources: &ContainerResources,
        mut notes: Vec<String>,
    ) -> Option<String> {
        let before = self.patches.len();
        let (requests, limits) = current_resources(name, self.pod);
        let Place { present, others } = self.places.get(i).copied().unwrap_or_default();
        let in_spec = self.pod.spec.containers.get(i).map(|container| &container.resources);
        let changes =
            [&resources.requests, &resources.limits].into_iter().flatten().any(|list| !list.is_empty());
        let nothing_set = requests.is_none() && limits.is_none();
        if (nothing_set && !others) || (!present && changes) {
            self.add(format!("/spec/containers/{i}/resources"), json!({}));
        }
        let has = |side: fn(&ResourceRequirements) -> &Option<ResourceList>| {
            in_spec.is_some_and(|resources| side(resources).is_some())
        };
        let sides = [
            ("requests", "request", requests, &resources.requests, has(|resources| &resources.requests)),
            ("limits", "limit", limits, &resources.limits, has(|resources| &resources.limits)),
        ];
        for (field, word, current, wanted, sent) in sides {
            if let Some(wanted) = wanted.as_ref().filter(|list| !list.is_empty()) {
                self.list(i, field, word, wanted, current.is_none() || !sent, &mut notes);
            }
        }
        (self.patches.len() > before).then(|| {
            let mut text = format!("container {i}: ");
            let _ = write!(text, "{}", notes.join(", "));
            text
        })
    }

    fn list(
        &mut self,
        i: usize,
        field: &str,
        word: &str,
        wanted: &ResourceList,
        missing: bool,
        notes: &mut Vec<String>,
    ) {
        if missing {
            self.add(format!("/spec/containers/{i}/resources/{field}"), json!({}));
        }
        for (resource, amount) in wanted {
            self.add(
                format!("/spec/containers/{i}/resources/{field}/{}", escape(resource)),
                amount.to_string(),
            );
            notes.push(format!("{resource} {word}"));
        }
    }
}

/// One step of a JSON pointer (RFC 6901).
fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}
