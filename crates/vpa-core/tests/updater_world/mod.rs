//! Small clusters for tests of the updater.

// Each test file takes what it needs.
#![allow(dead_code)]

pub(crate) mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::target::{Controller, ControllerKey, ControllerSource, Lookup, Selector};

/// Every controller exists and selects the pods that carry its name; the test says how many replicas each has.
pub(crate) struct Everything(pub(crate) BTreeMap<String, i32>);

impl ControllerSource for Everything {
    fn get(&self, key: &ControllerKey) -> Lookup {
        let labels = BTreeMap::from([("app".to_owned(), key.name.clone())]);
        Lookup::Found(Arc::new(Controller {
            key: key.clone(),
            uid: None,
            owner: None,
            selector: Selector::from_label_map(Some(&labels)),
            replicas: Some(self.0.get(&key.name).copied().unwrap_or(2)),
            containers: None,
        }))
    }
}

pub(crate) struct NoLimits;

impl LimitRangeSource for NoLimits {
    fn limit_ranges(&self, _: &str) -> Arc<LimitRanges> {
        Arc::default()
    }
}

/// A VPA that recommends this much CPU, with bounds as narrow as they come.
pub(crate) fn vpa(name: &str, mode: &str, cpu_m: i64) -> Arc<VerticalPodAutoscaler> {
    let target = json!({ "cpu": format!("{cpu_m}m"), "memory": "100Mi" });
    let value = json!({
        "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler",
        "metadata": { "name": name, "namespace": "ns" },
        "spec": {
            "targetRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name },
            "updatePolicy": { "updateMode": mode },
        },
        "status": { "recommendation": { "containerRecommendations": [
            { "containerName": "c", "target": target, "lowerBound": target, "upperBound": target }
        ] } },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A pod of a StatefulSet.
pub(crate) fn pod(
    owner: &str,
    number: usize,
    pending: bool,
    cpu_m: i64,
    condition: Option<(&str, &str)>,
) -> Arc<Pod> {
    let conditions: Vec<Value> = condition
        .map(|(kind, reason)| json!({ "type": kind, "status": "True", "reason": reason }))
        .into_iter()
        .collect();
    let value = json!({
        "metadata": {
            "name": format!("{owner}-{number}"), "namespace": "ns", "uid": format!("uid-{owner}-{number}"),
            "labels": { "app": owner },
            "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": owner, "uid": "u", "controller": true }
            ],
        },
        "spec": { "containers": [
            { "name": "c", "resources": { "requests": { "cpu": format!("{cpu_m}m"), "memory": "100Mi" } } }
        ] },
        "status": { "phase": if pending { "Pending" } else { "Running" }, "conditions": conditions },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}
