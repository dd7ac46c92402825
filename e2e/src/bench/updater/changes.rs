//! Which pods were evicted or resized and when, seen from outside by a watch.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What can become of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is being deleted, or gone.
    Evicted,
    /// Its requests are not what they were.
    Resized,
}

/// Pods with the same change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// Number of them.
    pub(super) count: usize,
    /// When the first and the last of them were.
    times: Option<(Instant, Instant)>,
}

impl Span {
    /// When the first of them was.
    pub(super) fn first(&self) -> Option<Instant> {
        self.times.map(|(first, _)| first)
    }

    /// From the first to the last of them.
    pub(super) fn took(&self) -> Duration {
        self.times.map_or(Duration::ZERO, |(first, last)| last - first)
    }

    fn add(&mut self, now: Instant) {
        let first = self.first().unwrap_or(now);
        *self = Self { count: self.count + 1, times: Some((first, now)) };
    }
}

/// All changes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether the watch has told all pods.
    complete: bool,
    /// Evicted pods.
    pub(super) evicted: Span,
    /// Resized pods.
    pub(super) resized: Span,
}

impl Seen {
    /// Changes of all kinds.
    pub(super) fn total(&self) -> usize {
        self.evicted.count + self.resized.count
    }

    /// Those of one kind.
    pub(super) fn of(&self, change: Change) -> Span {
        match change {
            Change::Evicted => self.evicted,
            Change::Resized => self.resized,
        }
    }
}

/// Follows all pods until it is dropped.
#[derive(Debug)]
pub(super) struct Changes {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Changes {
    /// Begins, and returns when it knows all pods as they are.
    pub(super) async fn follow(client: &Client) -> Self {
        let (sender, mut seen) = watch::channel(Seen::default());
        let task = tokio::spawn(follow(Api::all(client.clone()), sender));
        // The sender lives in the task, so it is never gone.
        let _ = seen.wait_for(|seen| seen.complete).await;
        Self { seen, task }
    }

    /// What has happened so far.
    pub(super) fn seen(&self) -> Seen {
        *self.seen.borrow()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A pod, down to what its containers request.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = Pod)]
struct SeenPod {
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Container {
    #[serde(default)]
    resources: Resources,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<String, String>,
}

/// What is known of all pods, by UID.
#[derive(Debug, Default)]
struct Ledger {
    pods: HashMap<String, Known>,
    seen: Seen,
}

#[derive(Debug)]
struct Known {
    spec: Spec,
    evicted: bool,
    resized: bool,
}

impl Ledger {
    /// Takes note of an event; false where it changes nothing.
    fn note(&mut self, event: Event<SeenPod>, now: Instant) -> bool {
        let before = self.seen;
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                let gone = pod.metadata.deletion_timestamp.is_some();
                self.pod(pod, gone, now);
            }
            Event::Delete(pod) => self.pod(pod, true, now),
            Event::InitDone => self.seen.complete = true,
            Event::Init => {}
        }
        self.seen != before
    }

    fn pod(&mut self, pod: SeenPod, gone: bool, now: Instant) {
        let SeenPod { metadata, spec } = pod;
        let uid = metadata.uid.unwrap_or_default();
        // What a pod is at first sight is no change.
        let known = self.pods.entry(uid).or_insert_with(|| Known {
            spec: spec.clone(),
            evicted: gone,
            resized: false,
        });
        if gone && !known.evicted {
            known.evicted = true;
            self.seen.evicted.add(now);
        }
        if known.spec != spec && !known.resized {
            known.resized = true;
            self.seen.resized.add(now);
        }
    }
}

async fn follow(api: Api<SeenPod>, sender: watch::Sender<Seen>) {
    let mut ledger = Ledger::default();
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        // A watch that fails is begun anew by the library; what was missed comes with its list.
        let Ok(event) = event else { continue };
        if ledger.note(event, Instant::now()) {
            sender.send_replace(ledger.seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(uid: &str, cpu: &str, deleted: Option<&str>) -> SeenPod {
        let requests: Value = json!({ "cpu": cpu });
        let object = json!({
            "metadata": { "uid": uid, "deletionTimestamp": deleted },
            "spec": { "containers": [{ "resources": { "requests": requests } }] },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn each_pod_counts_once_and_only_for_what_changes() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let gone = Some("2026-01-01T00:00:00Z");
        let events = [
            (Event::InitApply(pod("a", "50m", None)), (0, 0)),
            (Event::InitApply(pod("b", "50m", None)), (0, 0)),
            (Event::InitApply(pod("c", "50m", gone)), (0, 0)),
            (Event::InitDone, (0, 0)),
            (Event::Apply(pod("a", "50m", gone)), (1, 0)),
            (Event::Apply(pod("b", "100m", None)), (1, 1)),
            (Event::Apply(pod("b", "100m", None)), (1, 1)),
            (Event::Delete(pod("a", "50m", gone)), (1, 1)),
            (Event::Delete(pod("c", "50m", gone)), (1, 1)),
            (Event::Delete(pod("b", "100m", None)), (2, 1)),
        ];
        for (second, (event, want)) in events.into_iter().enumerate() {
            ledger.note(event, start + Duration::from_secs(second as u64));
            let Seen { evicted, resized, .. } = ledger.seen;
            assert_eq!((evicted.count, resized.count), want, "after {second} s");
        }
        let evicted = ledger.seen.of(Change::Evicted);
        assert_eq!((ledger.seen.complete, evicted.took()), (true, Duration::from_secs(5)));
        assert_eq!(evicted.first(), Some(start + Duration::from_secs(4)));
        assert_eq!(ledger.seen.of(Change::Resized).took(), Duration::ZERO);
    }
}
