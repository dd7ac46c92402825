//! The admission controller as the checks see it. All that depends on how reviews are decoded and decided is here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use vpa_api::Quantity;
use vpa_core::admit::{self, Autoscaler, Config, Decision, Gates, Outcome, ScaledOn, Snapshot, Surroundings};
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::target::{ControllerKey, Lookup, VpaIndex};

/// A cluster to decide against.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) vpas: VpaIndex,
    pub(crate) controllers: BTreeMap<ControllerKey, Lookup>,
    /// Limits by namespace.
    pub(crate) limit_ranges: BTreeMap<String, Arc<LimitRanges>>,
    pub(crate) config: Config,
}

/// A review with its decision.
pub(crate) struct Reviewed {
    pub(crate) uid: String,
    pub(crate) is_vpa: bool,
    pub(crate) is_pod: bool,
    /// Why the object could not be looked at.
    pub(crate) failed: Option<String>,
    pub(crate) decision: Decision,
}

/// Decodes and decides; none where the body is no review.
pub(crate) fn decide(body: &[u8], cluster: &Cluster) -> Option<Reviewed> {
    let request = admit::decode(body).ok()?;
    let snapshot = Snapshot {
        vpas: &cluster.vpas,
        controllers: &cluster.controllers,
        limit_ranges: cluster,
        surroundings: Some(cluster),
        config: &cluster.config,
    };
    let decision = admit::review(&request, &snapshot);
    let failed = match &decision.report.outcome {
        Outcome::Failed(reason) => Some(reason.clone()),
        _ => None,
    };
    let resource = (request.resource.group.as_str(), request.resource.resource.as_str());
    Some(Reviewed {
        is_vpa: resource == (vpa_api::names::GROUP, "verticalpodautoscalers"),
        is_pod: resource == ("", "pods"),
        failed,
        uid: request.uid.clone(),
        decision,
    })
}

/// Settings of admission.
pub(crate) fn config(
    in_place: bool,
    per_vpa_config: bool,
    cpu_startup_boost: bool,
    max_allowed_cpu_boost: Option<Quantity>,
) -> Config {
    Config { gates: Gates { in_place, per_vpa_config, cpu_startup_boost }, max_allowed_cpu_boost }
}

/// The review of an object in the namespace `default`.
pub(crate) fn review_of(
    resource: (&str, &str),
    kind: &str,
    operation: &str,
    object: &Value,
    old: &Value,
) -> Vec<u8> {
    let (group, resource) = resource;
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": operation, "namespace": "default",
            "resource": { "group": group, "version": "v1", "resource": resource },
            "requestKind": { "group": group, "version": "v1", "kind": kind },
            "object": object, "oldObject": old,
        },
    });
    review.to_string().into_bytes()
}

impl LimitRangeSource for Cluster {
    fn limit_ranges(&self, namespace: &str) -> Arc<LimitRanges> {
        self.limit_ranges.get(namespace).cloned().unwrap_or_default()
    }
}

/// One autoscaler on everything, and one node that is not large.
impl Surroundings for Cluster {
    fn covers(&self, _: &str) -> bool {
        true
    }

    fn autoscalers(&self, _: &str, _: &str, name: &str) -> Vec<Arc<Autoscaler>> {
        let on =
            |resource, container: Option<&str>| ScaledOn { resource, container: container.map(Into::into) };
        let scaled_on = Box::new([on("cpu", None), on("memory", Some("main"))]);
        vec![Arc::new(Autoscaler { name: name.into(), scaled_object: None, scaled_on })]
    }

    fn largest_node(&self, resource: &str) -> Option<Quantity> {
        Quantity::parse(if resource == "cpu" { "8" } else { "32Gi" }).ok()
    }
}
