//! `external.metrics.k8s.io`, answered from a table of values.

use std::collections::BTreeMap;

use jiff::Timestamp;
use parking_lot::RwLock;
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::request::{Query, ResourcePath};
use super::selector::Selector;
use super::value::time_text;

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

/// Values of external metrics; as many as were set last.
#[derive(Debug, Default)]
pub struct ExternalMetrics(RwLock<Vec<ExternalValue>>);

impl ExternalMetrics {
    /// Replaces all values.
    pub fn set(&self, values: Vec<ExternalValue>) {
        *self.0.write() = values;
    }

    /// Answers a request for the values of a metric in a namespace.
    pub(crate) fn answer(&self, path: &ResourcePath, query: &Query) -> ApiResult<Value> {
        if path.namespace.is_empty() || !path.name.is_empty() {
            return Err(ApiError::unknown_path());
        }
        self.list(path, query)
    }

    fn list(&self, path: &ResourcePath, query: &Query) -> ApiResult<Value> {
        let selector = Selector::parse("", "", query.get("labelSelector"), "")?;
        let values = self.0.read();
        let items: Vec<Value> = values
            .iter()
            .filter(|value| value.metric == path.resource && value.namespace == path.namespace)
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
