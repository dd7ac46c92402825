//! The patches that resize a pod.

use serde::Serialize;
use serde_json::Value;
use vpa_api::names::annotation;
use vpa_api::pod::{Container, Pod, ResourceRequirements};
use vpa_api::vpa::RecommendedContainerResources;
use vpa_api::{ResourceList, VerticalPodAutoscaler};

use super::boost::{BoostError, annotation_key, original_resources};
use super::qos::{QosClass, qos_class};
use crate::policy::{ContainerResources, LimitRanges, Mode, Notes, container_resources, mode};

/// One operation of a JSON patch (RFC 6902).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatchOp {
    /// `add` or `remove`.
    pub op: &'static str,
    /// JSON pointer.
    pub path: String,
    /// Value to add; null for `remove`, which ignores it.
    pub value: Value,
}

impl PatchOp {
    fn add(path: String, value: Value) -> Self {
        Self { op: "add", path, value }
    }
}

/// What a resize sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResizePatch {
    /// For the `resize` subresource of the pod; empty when there is nothing to say.
    pub resize: Vec<PatchOp>,
    /// For the pod itself, once the resize is accepted.
    pub annotate: Vec<PatchOp>,
    /// Requests and limits of the main containers as they will be, in the order of the spec.
    pub after: Vec<ResourceRequirements>,
    /// Limits that a startup boost added and that the API does not let go: container and resource.
    pub limits_kept: Vec<(String, String)>,
}

impl ResizePatch {
    /// Whether the resize changes any request or limit of the pod's spec.
    pub fn changes(&self, pod: &Pod) -> bool {
        let same = |list: &Option<ResourceList>, other: &Option<ResourceList>| {
            let empty = ResourceList::new();
            list.as_ref().unwrap_or(&empty) == other.as_ref().unwrap_or(&empty)
        };
        !pod.spec.containers.iter().zip(&self.after).all(|(container, after)| {
            let before = &container.resources;
            same(&before.requests, &after.requests) && same(&before.limits, &after.limits)
        })
    }

    /// Leaves memory limits that would fall as they are, where a container keeps running: before Kubernetes 1.34 the API
    /// server refuses a resize that lowers one.
    pub fn keep_memory_limits(&mut self, pod: &Pod) {
        let memory = |list: &Option<ResourceList>| list.as_ref().and_then(|list| list.get("memory")).cloned();
        for ((index, container), after) in pod.spec.containers.iter().enumerate().zip(&mut self.after) {
            let restarts = container.resize_policy.iter().any(|policy| {
                policy.resource_name == "memory" && policy.restart_policy == "RestartContainer"
            });
            let (Some(before), Some(wanted)) = (memory(&container.resources.limits), memory(&after.limits))
            else {
                continue;
            };
            if restarts || wanted >= before {
                continue;
            }
            let path = format!("/spec/containers/{index}/resources/limits/memory");
            self.resize.retain(|op| op.path != path);
            after.limits.get_or_insert_default().insert("memory".into(), before);
        }
    }

    /// The classes before and after, where the resize would change them. The API server refuses such a resize.
    pub fn qos_change(&self, pod: &Pod) -> Option<(QosClass, QosClass)> {
        let mut resized = pod.clone();
        for (container, after) in resized.spec.containers.iter_mut().zip(&self.after) {
            container.resources = after.clone();
        }
        let (before, after) = (qos_class(pod), qos_class(&resized));
        (before != after).then_some((before, after))
    }
}

/// Computes the patches that bring a pod to its recommendation and end the boosts in `expired` (annotation keys).
///
/// Containers in a boost that goes on are left out. In mode `Off` only boosts are ended. A boosted container without
/// recommendation gets what it had before.
///
/// # Errors
/// When the annotation of a boost to be ended cannot be read.
pub fn resize_patch(
    pod: &Pod,
    vpa: &VerticalPodAutoscaler,
    processed: Option<&[RecommendedContainerResources]>,
    limit_ranges: &LimitRanges,
    expired: &[String],
) -> Result<ResizePatch, BoostError> {
    let off = mode(vpa) == Mode::Off;
    let recommended = match processed.filter(|_| !off) {
        Some(processed) => {
            let policy = vpa.spec.resource_policy.as_ref();
            container_resources(
                pod,
                policy,
                processed,
                limit_ranges.container.as_ref(),
                false,
                &mut Notes::new(),
            )
        }
        None => vec![ContainerResources::default(); pod.spec.containers.len()],
    };
    let mut patch = ResizePatch::default();
    for ((index, container), wanted) in pod.spec.containers.iter().enumerate().zip(recommended) {
        let key = annotation_key(&container.name);
        let boosted = pod.annotations().contains_key(&key);
        let wanted = match (expired.contains(&key), boosted || off) {
            (true, _) => end_boost(pod, container, wanted, &mut patch.limits_kept)?,
            (false, true) => {
                patch.after.push(container.resources.clone());
                continue;
            }
            (false, false) => wanted,
        };
        container_patch(index, container, &wanted, &mut patch);
    }
    patch.annotate = annotation_patch(pod, expired);
    Ok(patch)
}

/// What a container gets at the end of its boost: its recommendation, else what it had before.
fn end_boost(
    pod: &Pod,
    container: &Container,
    wanted: ContainerResources,
    limits_kept: &mut Vec<(String, String)>,
) -> Result<ContainerResources, BoostError> {
    let original = original_resources(pod, &container.name)?.unwrap_or_default();
    // The API does not let a resize remove a limit, so one that only the boost brought stays as it is.
    for resource in container.resources.limits.iter().flatten().map(|(resource, _)| resource) {
        let had = original.limits.as_ref().is_some_and(|limits| limits.contains_key(resource));
        let set = wanted.limits.as_ref().is_some_and(|limits| limits.contains_key(resource));
        if !had && !set {
            limits_kept.push((container.name.clone(), resource.to_string()));
        }
    }
    let has = |list: &Option<ResourceList>| list.as_ref().is_some_and(|list| !list.is_empty());
    if has(&wanted.requests) || has(&wanted.limits) {
        return Ok(wanted);
    }
    Ok(ContainerResources { requests: original.requests, limits: original.limits })
}

fn container_patch(
    index: usize,
    container: &Container,
    wanted: &ContainerResources,
    patch: &mut ResizePatch,
) {
    let before = &container.resources;
    let mut after = before.clone();
    let path = format!("/spec/containers/{index}/resources");
    if before.requests.is_none() && before.limits.is_none() {
        patch.resize.push(PatchOp::add(path.clone(), Value::Object(serde_json::Map::new())));
    }
    for (field, wanted, list) in
        [("requests", &wanted.requests, &mut after.requests), ("limits", &wanted.limits, &mut after.limits)]
    {
        let Some(wanted) = wanted.as_ref().filter(|wanted| !wanted.is_empty()) else { continue };
        if list.is_none() {
            patch.resize.push(PatchOp::add(format!("{path}/{field}"), Value::Object(serde_json::Map::new())));
        }
        let list = list.get_or_insert_default();
        for (resource, amount) in wanted {
            let value = Value::String(amount.to_string());
            patch.resize.push(PatchOp::add(format!("{path}/{field}/{}", escape(resource)), value));
            list.insert(resource.clone(), amount.clone());
        }
    }
    patch.after.push(after);
}

/// Marks the pod as resized and removes the annotations of ended boosts.
fn annotation_patch(pod: &Pod, expired: &[String]) -> Vec<PatchOp> {
    let mut ops = Vec::new();
    if pod.metadata.annotations.is_none() {
        ops.push(PatchOp::add("/metadata/annotations".to_owned(), Value::Object(serde_json::Map::new())));
    }
    let marker = format!("/metadata/annotations/{}", escape(annotation::IN_PLACE_UPDATED));
    ops.push(PatchOp::add(marker, Value::String("true".to_owned())));
    for key in expired {
        let path = format!("/metadata/annotations/{}", escape(key));
        ops.push(PatchOp { op: "remove", path, value: Value::Null });
    }
    ops
}

/// Escapes one step of a JSON pointer (RFC 6901).
fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}
