//! `metrics.k8s.io`, `custom.metrics.k8s.io` and `external.metrics.k8s.io`, answered from one table of usage.
//!
//! The table is filled by whoever knows the usage: the generators of [`crate::usage`], or a test. The embedded server
//! serves it as its own API; [`crate::aggregated`] serves the same answers to a real API server.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::request::{Query, ResourcePath};
use super::selector::Selector;
use super::value::time_text;

/// Usage of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Container name.
    pub name: String,
    /// CPU in thousandths of a core.
    pub cpu_milli: i64,
    /// Working set in bytes.
    pub memory_bytes: i64,
}

/// Usage of a pod's containers over a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUsage {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Labels of the pod, for list selectors.
    pub labels: BTreeMap<String, String>,
    /// End of the window.
    pub timestamp: Timestamp,
    /// Length of the window.
    pub window: Duration,
    /// One entry a running container.
    pub containers: Vec<ContainerUsage>,
}

/// One value of an external metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalValue {
    /// Metric name.
    pub metric: String,
    /// Namespace it is asked in.
    pub namespace: String,
    /// Labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// Value as a quantity.
    pub value: String,
    /// When it was measured.
    pub timestamp: Timestamp,
}

#[derive(Debug, Default)]
struct Tables {
    pods: BTreeMap<(String, String), PodUsage>,
    external: Vec<ExternalValue>,
}

/// The latest usage of every pod; one entry a pod, so as many as there are pods.
#[derive(Debug, Default)]
pub struct MetricsTable(RwLock<Tables>);

impl MetricsTable {
    /// Replaces the usage of all pods.
    pub fn set_pods(&self, pods: impl IntoIterator<Item = PodUsage>) {
        let pods = pods.into_iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod)).collect();
        self.0.write().pods = pods;
    }

    /// Sets the usage of one pod.
    pub fn set_pod(&self, pod: PodUsage) {
        self.0.write().pods.insert((pod.namespace.clone(), pod.name.clone()), pod);
    }

    /// Forgets a pod.
    pub fn remove_pod(&self, namespace: &str, name: &str) {
        self.0.write().pods.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// The latest usage of a pod.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodUsage> {
        self.0.read().pods.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Replaces all values of external metrics.
    pub fn set_external(&self, values: Vec<ExternalValue>) {
        self.0.write().external = values;
    }

    /// Answers a request for one of the metrics APIs; 404 for what they do not have.
    pub(crate) fn answer(&self, path: &ResourcePath, query: &Query) -> ApiResult<Value> {
        match (path.group.as_str(), path.resource.as_str()) {
            ("metrics.k8s.io", "pods") if path.name.is_empty() => self.pod_list(path, query),
            ("metrics.k8s.io", "pods") => self
                .pod(&path.namespace, &path.name)
                .map(|pod| pod_metrics(&pod))
                .ok_or_else(|| ApiError::not_found("metrics.k8s.io", "pods", &path.name)),
            ("metrics.k8s.io", "nodes") => Ok(json!({
                "apiVersion": "metrics.k8s.io/v1beta1", "kind": "NodeMetricsList", "metadata": {}, "items": [],
            })),
            ("external.metrics.k8s.io", metric) => self.external_list(path, metric, query),
            _ => Err(ApiError::unknown_path()),
        }
    }

    fn pod_list(&self, path: &ResourcePath, query: &Query) -> ApiResult<Value> {
        let selector = Selector::parse(
            "metrics.k8s.io",
            "pods",
            query.get("labelSelector"),
            query.get("fieldSelector"),
        )?;
        let tables = self.0.read();
        let items: Vec<Value> = tables
            .pods
            .values()
            .filter(|pod| path.namespace.is_empty() || pod.namespace == path.namespace)
            .map(pod_metrics)
            .filter(|object| selector.matches(object))
            .collect();
        Ok(json!({
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetricsList", "metadata": {}, "items": items,
        }))
    }

    fn external_list(&self, path: &ResourcePath, metric: &str, query: &Query) -> ApiResult<Value> {
        let selector = Selector::parse("", "", query.get("labelSelector"), "")?;
        let tables = self.0.read();
        let items: Vec<Value> = tables
            .external
            .iter()
            .filter(|value| value.metric == metric && value.namespace == path.namespace)
            .filter(|value| selector.matches(&json!({"metadata": {"labels": value.labels}})))
            .map(|value| {
                json!({
                    "metricName": value.metric, "metricLabels": value.labels, "value": value.value,
                    "timestamp": time_text(value.timestamp),
                })
            })
            .collect();
        Ok(json!({
            "apiVersion": "external.metrics.k8s.io/v1beta1", "kind": "ExternalMetricValueList",
            "metadata": {}, "items": items,
        }))
    }
}

fn pod_metrics(pod: &PodUsage) -> Value {
    let containers: Vec<Value> = pod
        .containers
        .iter()
        .map(|container| {
            json!({"name": container.name, "usage": {
                "cpu": format!("{}n", i128::from(container.cpu_milli) * 1_000_000),
                "memory": format!("{}Ki", container.memory_bytes / 1024),
            }})
        })
        .collect();
    json!({
        "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
        "metadata": {
            "name": pod.name, "namespace": pod.namespace, "labels": pod.labels,
            "creationTimestamp": time_text(pod.timestamp),
        },
        "timestamp": time_text(pod.timestamp),
        "window": format!("{}s", pod.window.as_secs_f64()),
        "containers": containers,
    })
}
