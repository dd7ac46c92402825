//! What happened to each pod, from looking at the cluster again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use vpa_api::VerticalPodAutoscaler;
use vpa_sim::metrics_api::MetricsStore;
use vpa_sim::simulate::amounts::{self, Amounts};

use super::paint::{cpu, memory};
use super::workloads::{self, Workload};

/// A pod and its story. Times count from the start of the demonstration.
#[derive(Clone, Debug)]
pub struct PodStory {
    /// Name.
    pub name: String,
    /// Workload that it belongs to.
    pub workload: &'static Workload,
    /// Requests when it was created.
    pub created_with: Amounts,
    /// Requests in force now.
    pub has: Amounts,
    /// When it was first seen.
    pub since: Duration,
    /// Resizes that took effect without a new pod.
    pub resizes: usize,
    /// Restarts of its container.
    pub restarts: i32,
    /// Kills for memory.
    pub oom_kills: usize,
    /// When the last of them was seen.
    pub last_oom: Option<Duration>,
    /// When it was seen to be on its way out, or gone.
    pub gone: Option<Duration>,
    /// Whether it ended by itself.
    pub ended: bool,
    /// State of a resize that waits, in the kubelet's words.
    pub resize_waits: Option<String>,
    kills: BTreeSet<(String, i32)>,
}

impl PodStory {
    /// A pod that was first seen at `since` with these requests.
    pub fn new(name: String, workload: &'static Workload, created_with: Amounts, since: Duration) -> Self {
        Self {
            name,
            workload,
            created_with,
            has: created_with,
            since,
            resizes: 0,
            restarts: 0,
            oom_kills: 0,
            last_oom: None,
            gone: None,
            ended: false,
            resize_waits: None,
            kills: BTreeSet::new(),
        }
    }
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was seen.
    pub at: Duration,
    /// What it is, which decides the colour.
    pub kind: EventKind,
    /// Text.
    pub text: String,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A pod has other resources without having been replaced.
    Resized,
    /// A pod was evicted.
    Evicted,
    /// A container was killed for memory.
    OomKilled,
    /// A new pod got the recommendation.
    Admitted,
    /// Something else.
    Note,
}

/// Everything seen so far.
#[derive(Debug, Default)]
pub struct Observer {
    /// Pods by UID, those that are gone included.
    pub pods: BTreeMap<String, PodStory>,
    /// Recommended amounts of each workload's pods.
    pub recommended: BTreeMap<String, Amounts>,
    /// Workloads with a recommendation, and since when.
    pub recommended_since: BTreeMap<String, Duration>,
    /// Amounts in use, a pod on average.
    pub used: BTreeMap<String, Amounts>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

impl Observer {
    /// Takes in a look at the cluster.
    pub fn look(&mut self, pods: &[Pod], vpas: &[VerticalPodAutoscaler], usage: &MetricsStore, at: Duration) {
        let mut there = BTreeSet::new();
        for pod in pods {
            if let Some(uid) = &pod.metadata.uid {
                there.insert(uid.clone());
                self.pod(uid, pod, at);
            }
        }
        let missing: Vec<String> = self
            .pods
            .iter()
            .filter(|(uid, story)| story.gone.is_none() && !there.contains(*uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        missing.iter().for_each(|uid| self.goes(uid, at));
        for vpa in vpas {
            self.vpa(vpa, at);
        }
        self.use_of(pods, usage);
    }

    /// Adds a note to the events.
    pub fn note(&mut self, at: Duration, text: impl Into<String>) {
        self.events.push(Event { at, kind: EventKind::Note, text: text.into() });
    }

    /// Live pods of a workload, by name.
    pub fn live<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a PodStory> + 'a {
        self.all(workload).filter(|story| story.gone.is_none() && !story.ended)
    }

    /// All pods of a workload.
    pub fn all<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a PodStory> + 'a {
        self.pods.values().filter(move |story| story.workload.name == workload)
    }

    /// Pods that were evicted. Nobody else removes pods here, and pods of a job end by themselves.
    pub fn evicted<'a>(&'a self, workload: &'a str) -> usize {
        self.all(workload).filter(|story| story.gone.is_some() && !story.workload.is_batch()).count()
    }

    fn pod(&mut self, uid: &str, pod: &Pod, at: Duration) {
        let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app"));
        let Some(workload) = label.and_then(|label| workloads::find(label)) else { return };
        let asked = pod.spec.as_ref().map(amounts::of_spec).unwrap_or_default();
        let status = pod.status.as_ref();
        let containers: Vec<&ContainerStatus> =
            status.into_iter().flat_map(|status| status.container_statuses.iter().flatten()).collect();
        let has = in_force(&containers).unwrap_or(asked);
        let mut events = Vec::new();
        let story = self.pods.entry(uid.to_owned()).or_insert_with(|| {
            let name = pod.metadata.name.clone().unwrap_or_default();
            if asked != template(workload) {
                let text =
                    format!("{name} created with {} instead of {}", text(asked), text(template(workload)));
                events.push((EventKind::Admitted, text));
            }
            PodStory::new(name, workload, asked, at)
        });
        if !containers.is_empty() && has != story.has {
            story.resizes += 1;
            events.push((
                EventKind::Resized,
                format!("{} resized in place: {} → {}", story.name, text(story.has), text(has)),
            ));
            story.has = has;
        }
        for container in &containers {
            story.restarts = story.restarts.max(container.restart_count);
            for kill in kills(container) {
                if story.kills.insert(kill) {
                    story.oom_kills += 1;
                    story.last_oom = Some(at);
                    events.push((EventKind::OomKilled, format!("{} killed: out of memory", story.name)));
                }
            }
        }
        story.ended =
            status.is_some_and(|status| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")));
        story.resize_waits = status
            .into_iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .find(|condition| condition.type_ == "PodResizePending")
            .and_then(|condition| condition.reason.clone());
        self.events.extend(events.into_iter().map(|(kind, text)| Event { at, kind, text }));
        if pod.metadata.deletion_timestamp.is_some() {
            self.goes(uid, at);
        }
    }

    fn goes(&mut self, uid: &str, at: Duration) {
        let Some(story) = self.pods.get_mut(uid).filter(|story| story.gone.is_none()) else { return };
        story.gone = Some(at);
        if !story.workload.is_batch() {
            self.events.push(Event { at, kind: EventKind::Evicted, text: format!("{} evicted", story.name) });
        }
    }

    fn vpa(&mut self, vpa: &VerticalPodAutoscaler, at: Duration) {
        let recommendation = vpa.status.as_ref().and_then(|status| status.recommendation.as_ref());
        let containers = recommendation.and_then(|all| all.container_recommendations.as_ref());
        let target = containers.into_iter().flatten().fold(Amounts::default(), |sum, container| {
            let amount = |name: &str| container.target.get(name);
            sum.plus(Amounts {
                cpu_millis: amount("cpu").map_or(0, |quantity| quantity.milli_value_saturating()),
                memory_bytes: amount("memory").map_or(0, |quantity| quantity.value_saturating()),
            })
        });
        let name = vpa.metadata.name.clone().unwrap_or_default();
        if target != Amounts::default() {
            self.recommended_since.entry(name.clone()).or_insert(at);
            self.recommended.insert(name, target);
        }
    }

    fn use_of(&mut self, pods: &[Pod], usage: &MetricsStore) {
        let mut sums: BTreeMap<&str, (Amounts, i64)> = BTreeMap::new();
        for pod in pods {
            let meta = &pod.metadata;
            let app = meta.labels.as_ref().and_then(|labels| labels.get("app"));
            let names = (meta.namespace.as_deref(), meta.name.as_deref(), app);
            let (Some(namespace), Some(name), Some(app)) = names else { continue };
            let Some(sample) = usage.get(namespace, name) else { continue };
            let sum = sums.entry(app).or_default();
            for (_, cpu_millis, memory_bytes) in sample.containers {
                sum.0 = sum.0.plus(Amounts { cpu_millis, memory_bytes });
            }
            sum.1 += 1;
        }
        let mean = |(sum, pods): (Amounts, i64)| Amounts {
            cpu_millis: sum.cpu_millis / pods.max(1),
            memory_bytes: sum.memory_bytes / pods.max(1),
        };
        for (app, sum) in sums {
            self.used.insert(app.to_owned(), mean(sum));
        }
    }
}

/// What the template of a workload requests.
pub fn template(workload: &Workload) -> Amounts {
    let quantity = |text: &str| vpa_api::Quantity::parse(text).ok();
    Amounts {
        cpu_millis: quantity(workload.requests.0).map_or(0, |quantity| quantity.milli_value_saturating()),
        memory_bytes: quantity(workload.requests.1).map_or(0, |quantity| quantity.value_saturating()),
    }
}

/// `250m 1.0Gi`.
pub fn text(amounts: Amounts) -> String {
    format!("{} {}", cpu(amounts.cpu_millis), memory(amounts.memory_bytes))
}

/// Requests that the kubelet says are in force.
fn in_force(containers: &[&ContainerStatus]) -> Option<Amounts> {
    let requests = containers.iter().map(|status| status.resources.as_ref()?.requests.as_ref());
    let all: Option<Vec<_>> = requests.collect();
    all.filter(|all| !all.is_empty()).map(|all| {
        all.into_iter().fold(Amounts::default(), |sum, list| sum.plus(amounts::of_list(Some(list))))
    })
}

/// Kills for memory that a status tells of: container and number of the run that ended so.
fn kills(container: &ContainerStatus) -> Vec<(String, i32)> {
    let oom = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
        let ended = state.and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"))
    };
    let mut kills = Vec::new();
    if oom(container.state.as_ref()) {
        kills.push((container.name.clone(), container.restart_count));
    }
    if oom(container.last_state.as_ref()) {
        kills.push((container.name.clone(), container.restart_count - 1));
    }
    kills
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(uid: &str, cpu: &str, extra: Value) -> Pod {
        let resources = json!({"requests": {"cpu": cpu, "memory": "4Gi"}});
        let mut pod = json!({
            "metadata": {"name": format!("reports-{uid}"), "namespace": "ns", "uid": uid, "labels": {"app": "reports"}},
            "spec": {"containers": [{"name": "app", "resources": resources}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0, "resources": resources}]},
        });
        json_patch::merge(&mut pod, &extra);
        serde_json::from_value(pod).unwrap()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_pods_story() {
        let usage = MetricsStore::default();
        let mut observer = Observer::default();
        observer.look(&[pod("a", "2", json!({})), pod("b", "2", json!({}))], &[], &usage, at(1));
        assert!(observer.events.is_empty(), "pods as the template has them are nothing to tell");
        observer.look(&[pod("a", "500m", json!({})), pod("b", "2", json!({}))], &[], &usage, at(2));
        let going = json!({"metadata": {"deletionTimestamp": "2026-11-22T10:00:00Z"}});
        observer.look(&[pod("a", "500m", json!({})), pod("b", "2", going)], &[], &usage, at(3));
        observer.look(&[pod("a", "500m", json!({})), pod("c", "400m", json!({}))], &[], &usage, at(4));
        observer.look(&[pod("a", "500m", json!({})), pod("c", "400m", json!({}))], &[], &usage, at(5));
        let told: Vec<&str> = observer.events.iter().map(|event| event.text.as_str()).collect();
        assert_eq!(
            told,
            [
                "reports-a resized in place: 2000m 4.0Gi → 500m 4.0Gi",
                "reports-b evicted",
                "reports-c created with 400m 4.0Gi instead of 2000m 4.0Gi",
            ]
        );
        assert_eq!((observer.evicted("reports"), observer.live("reports").count()), (1, 2));
    }

    #[test]
    fn each_kill_is_counted_once() {
        let usage = MetricsStore::default();
        let mut observer = Observer::default();
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let status = |state: &Value, last: &Value, restarts: i32| {
            json!({"status": {"containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": true,
                "restartCount": restarts, "state": state, "lastState": last}]}})
        };
        let running = json!({"running": {}});
        let looks = [
            status(&running, &Value::Null, 0),
            status(&killed, &Value::Null, 0),
            status(&running, &killed, 1),
            status(&running, &killed, 1),
            status(&killed, &killed, 1),
            status(&running, &killed, 2),
            // Straight from running to running.
            status(&running, &killed, 3),
        ];
        for (second, look) in looks.into_iter().enumerate() {
            observer.look(&[pod("a", "2", look)], &[], &usage, at(second as u64));
        }
        let story = observer.live("reports").next().unwrap();
        assert_eq!((story.oom_kills, story.restarts, story.last_oom), (3, 3, Some(at(6))));
    }
}
