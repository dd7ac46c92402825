//! Usage from the resource metrics API (`metrics.k8s.io`).

use std::collections::BTreeMap;
use std::time::Duration;

use compact_str::CompactString;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use vpa_api::ResourceList;
use vpa_core::model::{ContainerId, PodId};
use vpa_core::recommend::Amounts;
use vpa_runtime::Cluster;
use vpa_runtime::client::{Failure, fetch};

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
    /// No external metric could be read.
    #[error("external.metrics.k8s.io gives no metric of any pod: {0}")]
    External(String),
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
    let answer = tokio::time::timeout(TIMEOUT, fetch(&cluster.client, request)).await;
    let bytes =
        answer.map_err(|_| UsageError::Unavailable(format!("no answer in {} s", TIMEOUT.as_secs())))?;
    let bytes = bytes.map_err(|error| match Failure::of(&error) {
        Failure::NotFound => UsageError::NotServed,
        Failure::Forbidden(text) => UsageError::Forbidden(text),
        Failure::Unavailable(text) | Failure::TooMany(text) | Failure::Invalid(text) => {
            UsageError::Unavailable(text)
        }
        Failure::Conflict => UsageError::Unavailable("conflict".to_owned()),
    })?;
    Ok(tokio::task::block_in_place(|| parse(&bytes))?)
}

/// A list, its entries not decoded yet, so that one that is not what it should be does not spoil the others.
#[derive(Deserialize)]
struct PodMetricsList<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct PodMetrics<'a> {
    metadata: Metadata,
    timestamp: Timestamp,
    #[serde(borrow)]
    containers: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metadata {
    name: CompactString,
    namespace: CompactString,
}

#[derive(Deserialize)]
struct ContainerMetrics<'a> {
    name: CompactString,
    #[serde(borrow)]
    usage: BTreeMap<CompactString, &'a RawValue>,
}

fn parse(text: &[u8]) -> Result<Usage, serde_json::Error> {
    let list: PodMetricsList<'_> = serde_json::from_slice(text)?;
    let mut usage = Usage { samples: Vec::with_capacity(list.items.len()), unreadable: 0 };
    for raw in list.items {
        let Ok(pod) = serde_json::from_str::<PodMetrics<'_>>(raw.get()) else {
            usage.unreadable += 1;
            continue;
        };
        let id = PodId { namespace: pod.metadata.namespace, name: pod.metadata.name };
        for raw in pod.containers {
            let Ok(container) = serde_json::from_str::<ContainerMetrics<'_>>(raw.get()) else {
                usage.unreadable += 1;
                continue;
            };
            let mut amounts = ResourceList::new();
            for (resource, raw) in container.usage {
                match serde_json::from_str(raw.get()) {
                    Ok(amount) => drop(amounts.insert(resource, amount)),
                    Err(_) => usage.unreadable += 1,
                }
            }
            usage.samples.push(Sample {
                container: ContainerId { pod: id.clone(), container: container.name },
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
        let usage = parse(text.as_bytes()).unwrap();
        assert_eq!(usage.unreadable, 5);
        let read: Vec<_> = usage
            .samples
            .iter()
            .map(|s| (s.container.to_string(), s.amounts.cpu_millicores, s.amounts.memory_bytes))
            .collect();
        let want = [("n/a/x", Some(2), Some(5120)), ("n/a/y", None, Some(12)), ("n/d/x", None, Some(1))];
        assert_eq!(read, want.map(|(name, cpu, memory)| (name.to_owned(), cpu, memory)));
        assert!(parse(b"[]").is_err());
        assert!(parse(b"{\"items\": 3}").is_err());
    }
}
