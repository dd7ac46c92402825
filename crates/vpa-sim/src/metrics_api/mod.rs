//! The resource metrics API (`metrics.k8s.io/v1beta1`): what containers use, as metrics-server would tell it.
//!
//! [`MetricsStore`] is filled by the usage simulator and answers the requests. The embedded API server passes them on
//! to it; for a real kube-apiserver [`serve`] offers the same answers over TLS on loopback, and [`register`] has the
//! API server pass its requests on to there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use aggregated::{ServeError, register, serve};
use selector::Labels;

mod aggregated;
mod selector;

/// Path prefix of everything served here.
pub const PREFIX: &str = "/apis/metrics.k8s.io";

/// What a pod used at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSample {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Its labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// When it was measured.
    pub timestamp: Timestamp,
    /// Over which time.
    pub window: Duration,
    /// Name, CPU in thousandths of a core and memory in bytes of each container that ran.
    pub containers: Vec<(String, i64, i64)>,
}

/// An answer in JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Value,
}

/// The latest sample of each pod; a handle, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct MetricsStore {
    samples: Arc<RwLock<BTreeMap<(String, String), PodSample>>>,
    readings: Arc<watch::Sender<u64>>,
}

impl MetricsStore {
    /// Replaces everything: pods that are not in `samples` have none any more.
    pub fn replace(&self, samples: Vec<PodSample>) {
        let keyed =
            samples.into_iter().map(|sample| ((sample.namespace.clone(), sample.name.clone()), sample));
        *self.samples.write() = keyed.collect();
    }

    /// Number of times that the usage of many pods was read; its receivers wake up with each. A recommender reads it
    /// once a cycle, so this tells from outside when its cycles begin.
    pub fn readings(&self) -> watch::Receiver<u64> {
        self.readings.subscribe()
    }

    /// The latest sample of a pod.
    pub fn get(&self, namespace: &str, name: &str) -> Option<PodSample> {
        self.samples.read().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Answers a GET of a path at or below [`PREFIX`]; `query` is the part after `?`.
    pub fn respond(&self, path: &str, query: Option<&str>) -> Reply {
        let tail = path.strip_prefix(PREFIX).unwrap_or(path).trim_matches('/');
        let parts: Vec<&str> = tail.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            [] => ok(group()),
            ["v1beta1"] => ok(resources()),
            ["v1beta1", "pods"] => self.list(None, query),
            ["v1beta1", "namespaces", namespace, "pods"] => self.list(Some(namespace), query),
            ["v1beta1", "namespaces", namespace, "pods", name] => match self.get(namespace, name) {
                Some(sample) => ok(pod_metrics(&sample, true)),
                None => status(
                    404,
                    "NotFound",
                    &format!("podmetrics.metrics.k8s.io \"{namespace}/{name}\" not found"),
                ),
            },
            _ => status(404, "NotFound", "the server could not find the requested resource"),
        }
    }

    fn list(&self, namespace: Option<&str>, query: Option<&str>) -> Reply {
        let labels = match Labels::from_query(query) {
            Ok(labels) => labels,
            Err(text) => return status(400, "BadRequest", &text),
        };
        self.readings.send_modify(|count| *count = count.wrapping_add(1));
        let samples = self.samples.read();
        let items = samples
            .values()
            .filter(|sample| namespace.is_none_or(|namespace| namespace == sample.namespace))
            .filter(|sample| labels.matches(&sample.labels))
            .map(|sample| pod_metrics(sample, false));
        ok(json!({
            "kind": "PodMetricsList",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {},
            "items": items.collect::<Vec<_>>(),
        }))
    }
}

fn ok(body: Value) -> Reply {
    Reply { status: 200, body }
}

fn status(code: u16, reason: &str, message: &str) -> Reply {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    });
    Reply { status: code, body }
}

/// The group, as `/apis/metrics.k8s.io` names it.
pub fn group() -> Value {
    let version = json!({ "groupVersion": "metrics.k8s.io/v1beta1", "version": "v1beta1" });
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": "metrics.k8s.io",
        "versions": [version],
        "preferredVersion": version,
    })
}

fn resources() -> Value {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "metrics.k8s.io/v1beta1",
        "resources": [
            { "name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"] },
        ],
    })
}

fn pod_metrics(sample: &PodSample, typed: bool) -> Value {
    let containers: Vec<Value> = sample
        .containers
        .iter()
        .map(|(name, cpu_millis, memory_bytes)| {
            // metrics-server counts in nanocores and KiB.
            let (cpu, memory) = (format!("{}n", cpu_millis.saturating_mul(1_000_000)), memory_bytes / 1024);
            json!({ "name": name, "usage": { "cpu": cpu, "memory": format!("{memory}Ki") } })
        })
        .collect();
    let timestamp = whole_second(sample.timestamp);
    let mut metrics = json!({
        "metadata": {
            "name": sample.name,
            "namespace": sample.namespace,
            "creationTimestamp": timestamp,
            "labels": sample.labels,
        },
        "timestamp": timestamp,
        "window": format!("{}s", sample.window.as_secs_f64()),
        "containers": containers,
    });
    if typed {
        metrics["kind"] = "PodMetrics".into();
        metrics["apiVersion"] = "metrics.k8s.io/v1beta1".into();
    }
    metrics
}

/// Times of the API have whole seconds.
fn whole_second(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> MetricsStore {
        let store = MetricsStore::default();
        let sample = |namespace: &str, name: &str, app: &str| PodSample {
            namespace: namespace.into(),
            name: name.into(),
            labels: BTreeMap::from([("app".into(), app.into())]),
            timestamp: "2026-11-22T10:00:00.75Z".parse().unwrap(),
            window: Duration::from_secs(15),
            containers: vec![("main".into(), 250, 64 * 1024 * 1024)],
        };
        store.replace(vec![
            sample("a", "web-1", "web"),
            sample("a", "db-0", "db"),
            sample("b", "web-2", "web"),
        ]);
        store
    }

    fn names(reply: &Reply) -> Vec<String> {
        assert_eq!(reply.status, 200, "{reply:?}");
        let items = reply.body["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn lists_are_narrowed_by_namespace_and_labels() {
        let store = store();
        let cases: &[(&str, Option<&str>, &[&str])] = &[
            ("/apis/metrics.k8s.io/v1beta1/pods", None, &["db-0", "web-1", "web-2"]),
            ("/apis/metrics.k8s.io/v1beta1/pods/", Some("&limit=500"), &["db-0", "web-1", "web-2"]),
            ("/apis/metrics.k8s.io/v1beta1/namespaces/a/pods", None, &["db-0", "web-1"]),
            ("/apis/metrics.k8s.io/v1beta1/namespaces/a/pods", Some("labelSelector=app%3Dweb"), &["web-1"]),
            ("/apis/metrics.k8s.io/v1beta1/pods", Some("labelSelector=app+in+%28db%2Cx%29"), &["db-0"]),
            ("/apis/metrics.k8s.io/v1beta1/pods", Some("labelSelector=app%21%3Dweb"), &["db-0"]),
            ("/apis/metrics.k8s.io/v1beta1/namespaces/none/pods", None, &[]),
        ];
        for (path, query, expected) in cases {
            assert_eq!(names(&store.respond(path, *query)), *expected, "{path} {query:?}");
        }
        assert_eq!(*store.readings().borrow(), cases.len() as u64);
    }

    #[test]
    fn one_pod_is_written_as_metrics_server_does() {
        let reply = store().respond("/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/web-1", None);
        assert_eq!(reply.body["timestamp"], "2026-11-22T10:00:00Z");
        assert_eq!(reply.body["window"], "15s");
        assert_eq!(reply.body["containers"][0]["usage"], json!({"cpu": "250000000n", "memory": "65536Ki"}));
    }

    #[test]
    fn errors_are_statuses() {
        let store = store();
        let cases = [
            ("/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/gone", None, 404),
            ("/apis/metrics.k8s.io/v2/pods", None, 404),
            ("/apis/metrics.k8s.io/v1beta1/pods", Some("labelSelector=%2C%2C"), 400),
        ];
        for (path, query, code) in cases {
            let reply = store.respond(path, query);
            assert_eq!((reply.status, reply.body["kind"].as_str()), (code, Some("Status")), "{path}");
        }
    }
}
