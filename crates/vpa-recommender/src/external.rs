//! Usage from the external metrics API (`external.metrics.k8s.io`), pod by pod.
//!
//! Each pod that a VPA selects is asked for by the VPA's selector and the label `pod`; the label that
//! `--container-name-label` names tells the containers apart. That is two requests for each pod in each cycle: what the
//! API offers, and why metrics.k8s.io is the better source.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use jiff::Timestamp;
use serde::Deserialize;
use vpa_api::Quantity;

use vpa_core::model::{ContainerId, PodId, Resource};
use vpa_core::recommend::Amounts;
use vpa_runtime::Cluster;
use vpa_runtime::client::{chain, fetch};

use crate::usage::{Sample, Usage, UsageError};

/// Requests under way at once. Adapters ask another system for each of them.
const REQUESTS_MAX: usize = 10;

/// Which metrics are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metrics<'a> {
    pub(crate) cpu: Option<&'a str>,
    pub(crate) memory: Option<&'a str>,
    /// Label with the container's name.
    pub(crate) container_label: &'a str,
}

#[derive(Deserialize)]
struct ValueList {
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    #[serde(default)]
    metric_labels: BTreeMap<String, String>,
    timestamp: Timestamp,
    value: Quantity,
}

/// Reads the usage of pods, each with the selector that finds it. A pod whose usage cannot be read is left out and
/// counted.
///
/// # Errors
/// None of the requests succeeded; the reason is that of the last.
pub(crate) async fn read(
    cluster: &Cluster,
    pods: Vec<(PodId, String)>,
    metrics: Metrics<'_>,
) -> Result<Usage, UsageError> {
    let mut requests = Vec::new();
    for (pod, selector) in pods {
        for (resource, metric) in [(Resource::Cpu, metrics.cpu), (Resource::Memory, metrics.memory)] {
            requests
                .extend(metric.map(|metric| (pod.clone(), selector.clone(), resource, metric.to_owned())));
        }
    }
    let answers = futures::stream::iter(requests)
        .map(|(pod, selector, resource, metric)| {
            let cluster = cluster.clone();
            async move {
                let answer = one(&cluster, &pod, &selector, &metric).await;
                (pod, resource, answer)
            }
        })
        .buffer_unordered(REQUESTS_MAX);
    let mut answers = std::pin::pin!(answers);
    let mut containers: BTreeMap<ContainerId, (Timestamp, Amounts)> = BTreeMap::new();
    let (mut unreadable, mut succeeded, mut failure) = (0, 0, None);
    while let Some((pod, resource, answer)) = answers.next().await {
        let list = match answer {
            Ok(list) => list,
            Err(reason) => {
                tracing::debug!(%pod, resource = resource.as_str(), reason, "no external metric");
                unreadable += 1;
                failure = Some(reason);
                continue;
            }
        };
        succeeded += 1;
        for value in list.items {
            let Some(name) = value.metric_labels.get(metrics.container_label) else {
                unreadable += 1;
                continue;
            };
            let id = ContainerId { pod: pod.clone(), container: name.as_str().into() };
            let (time, amounts) = containers.entry(id).or_insert((value.timestamp, Amounts::default()));
            *time = (*time).max(value.timestamp);
            let list = [(resource.as_str(), value.value)].into();
            let read = vpa_core::model::usage::amounts(&list);
            amounts.cpu_millicores = read.cpu_millicores.or(amounts.cpu_millicores);
            amounts.memory_bytes = read.memory_bytes.or(amounts.memory_bytes);
        }
    }
    if let Some(reason) = failure.filter(|_| succeeded == 0) {
        return Err(UsageError::External(reason));
    }
    let samples = containers
        .into_iter()
        .map(|(container, (time, amounts))| Sample { container, time, amounts })
        .collect();
    Ok(Usage { samples, unreadable })
}

async fn one(cluster: &Cluster, pod: &PodId, selector: &str, metric: &str) -> Result<ValueList, String> {
    let selector = if selector.is_empty() {
        format!("pod={}", pod.name)
    } else {
        format!("{selector},pod={}", pod.name)
    };
    let query =
        form_urlencoded::Serializer::new(String::new()).append_pair("labelSelector", &selector).finish();
    let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{metric}?{query}", pod.namespace);
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    let bytes = fetch(&cluster.client, request).await.map_err(|error| chain(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{metric}: not a list of values: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{refusal, scripted};

    fn value(container: &str, amount: &str) -> serde_json::Value {
        json!({"metricName": "m", "metricLabels": {"name": container}, "timestamp": "2026-01-01T00:00:00Z", "value": amount})
    }

    fn answer(items: &[serde_json::Value]) -> (u16, serde_json::Value) {
        (200, json!({"kind": "ExternalMetricValueList", "items": items}))
    }

    #[tokio::test]
    async fn both_metrics_of_a_container_are_one_sample_and_a_failure_stays_alone() {
        let nameless = json!({"metricLabels": {}, "timestamp": "2026-01-01T00:00:00Z", "value": "1"});
        let answers = vec![
            answer(&[value("a", "250m"), value("b", "1"), nameless]),
            answer(&[value("a", "1Gi")]),
            refusal(500, "InternalError"),
            answer(&[]),
        ];
        let (cluster, calls) = scripted(answers);
        let pods = vec![(PodId::new("n", "p"), "app=x".to_owned()), (PodId::new("n", "q"), String::new())];
        let metrics = Metrics { cpu: Some("cpu"), memory: Some("ram"), container_label: "name" };
        let usage = read(&cluster, pods, metrics).await.unwrap();
        let read: Vec<_> = usage
            .samples
            .iter()
            .map(|s| (s.container.to_string(), s.amounts.cpu_millicores, s.amounts.memory_bytes))
            .collect();
        let want = [("n/p/a", Some(250), Some(1 << 30)), ("n/p/b", Some(1000), None)];
        assert_eq!(read, want.map(|(name, cpu, memory)| (name.to_owned(), cpu, memory)));
        assert_eq!(usage.unreadable, 2);
        let mut paths: Vec<_> = calls.lock().iter().map(|(_, path, _)| path.clone()).collect();
        paths.sort();
        let base = "/apis/external.metrics.k8s.io/v1beta1/namespaces/n";
        assert_eq!(paths, ["cpu", "cpu", "ram", "ram"].map(|metric| format!("{base}/{metric}")));
    }

    #[tokio::test]
    async fn where_nothing_answers_that_is_an_error() {
        let (cluster, _) = scripted(vec![refusal(403, "Forbidden")]);
        let metrics = Metrics { cpu: Some("cpu"), memory: None, container_label: "name" };
        let pods = vec![(PodId::new("n", "p"), String::new())];
        let error = read(&cluster, pods, metrics).await.unwrap_err().to_string();
        assert!(error.contains("external.metrics.k8s.io") && error.contains("403"), "{error}");
        let (cluster, calls) = scripted(Vec::new());
        assert_eq!(read(&cluster, Vec::new(), metrics).await.unwrap(), Usage::default());
        assert!(calls.lock().is_empty());
    }
}
