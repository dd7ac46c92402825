//! Usage from the resource metrics API (`metrics.k8s.io`).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use vpa_api::{Quantity, ResourceList};
use vpa_core::model::ContainerId;
use vpa_core::recommend::Amounts;
use vpa_runtime::Cluster;
use vpa_runtime::client::Failure;

/// Longest wait for all usage, attempts included. metrics-server answers from memory; a cycle that waits longer is
/// better made without.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no usage.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// Nobody serves the API.
    #[error("the cluster does not serve metrics.k8s.io/v1beta1; install metrics-server")]
    NotServed,
    /// This program may not read it.
    #[error("no permission to list pods of metrics.k8s.io: {0}")]
    Forbidden(String),
    /// Whoever serves it is not well.
    #[error("metrics.k8s.io does not answer: {0}")]
    Unavailable(String),
    /// Not what it should be.
    #[error("metrics.k8s.io answered something else than a list of pod metrics: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Usage of one container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) container: ContainerId,
    pub(crate) time: Timestamp,
    pub(crate) amounts: Amounts,
}

/// Usage of all containers, and how many entries could not be read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) samples: Vec<Sample>,
    pub(crate) unreadable: usize,
}

/// Reads the usage of all pods, or of those of one namespace.
pub(crate) async fn read(cluster: &Cluster, namespace: Option<&str>) -> Result<Usage, UsageError> {
    let path = match namespace {
        Some(namespace) => format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"),
        None => "/apis/metrics.k8s.io/v1beta1/pods".to_owned(),
    };
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| UsageError::Unavailable(error.to_string()))?;
    let answer = tokio::time::timeout(TIMEOUT, cluster.client.request_text(request)).await;
    let text =
        answer.map_err(|_| UsageError::Unavailable(format!("no answer in {} s", TIMEOUT.as_secs())))?;
    let text = text.map_err(|error| match Failure::of(&error) {
        Failure::NotFound => UsageError::NotServed,
        Failure::Forbidden(text) => UsageError::Forbidden(text),
        Failure::Unavailable(text) | Failure::TooMany(text) | Failure::Invalid(text) => {
            UsageError::Unavailable(text)
        }
        Failure::Conflict => UsageError::Unavailable("conflict".to_owned()),
    })?;
    Ok(tokio::task::block_in_place(|| parse(&text))?)
}

/// Something that may not be what it should be; the others count all the same.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Good(T),
    Bad(IgnoredAny),
}

#[derive(Deserialize)]
struct PodMetricsList {
    items: Vec<Lenient<PodMetrics>>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Metadata,
    timestamp: Timestamp,
    containers: Vec<Lenient<ContainerMetrics>>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, Lenient<Quantity>>,
}

fn parse(text: &str) -> Result<Usage, serde_json::Error> {
    let list: PodMetricsList = serde_json::from_str(text)?;
    let mut usage = Usage::default();
    for pod in list.items {
        let Lenient::Good(pod) = pod else {
            usage.unreadable += 1;
            continue;
        };
        for container in pod.containers {
            let Lenient::Good(container) = container else {
                usage.unreadable += 1;
                continue;
            };
            let mut amounts = ResourceList::new();
            for (resource, amount) in container.usage {
                match amount {
                    Lenient::Good(amount) => {
                        amounts.insert(resource.into(), amount);
                    }
                    Lenient::Bad(_) => usage.unreadable += 1,
                }
            }
            usage.samples.push(Sample {
                container: ContainerId::new(&pod.metadata.namespace, &pod.metadata.name, &container.name),
                time: pod.timestamp,
                amounts: vpa_core::model::usage::amounts(&amounts),
            });
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_entry_never_stops_the_rest() {
        let text = r#"{"kind": "PodMetricsList", "items": [
            {"metadata": {"name": "a", "namespace": "n"}, "timestamp": "2026-01-01T00:00:00Z", "window": "15s",
             "containers": [{"name": "x", "usage": {"cpu": "1500001n", "memory": "5Ki"}},
                            {"name": 7, "usage": {}},
                            {"name": "y", "usage": {"cpu": "lots", "memory": 12}}]},
            {"metadata": {"name": "b"}, "timestamp": "2026-01-01T00:00:00Z", "containers": []},
            {"metadata": {"name": "c", "namespace": "n"}, "timestamp": "yesterday", "containers": []},
            null,
            {"metadata": {"name": "d", "namespace": "n"}, "timestamp": "2026-01-01T00:00:30Z",
             "containers": [{"name": "x", "usage": {"memory": "1"}}]}
        ]}"#;
        let usage = parse(text).unwrap();
        assert_eq!(usage.unreadable, 5);
        let read: Vec<_> = usage
            .samples
            .iter()
            .map(|s| (s.container.to_string(), s.amounts.cpu_millicores, s.amounts.memory_bytes))
            .collect();
        let want = [("n/a/x", Some(2), Some(5120)), ("n/a/y", None, Some(12)), ("n/d/x", None, Some(1))];
        assert_eq!(read, want.map(|(name, cpu, memory)| (name.to_owned(), cpu, memory)));
        assert!(parse("[]").is_err());
        assert!(parse("{\"items\": 3}").is_err());
    }
}
