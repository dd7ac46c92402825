//! The updater's calls against the embedded API server.

// Helpers outside of test functions; what they panic on is a broken test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use vpa_api::pod::Pod;
use vpa_core::update::{Action, Event, Heartbeat, Outcome, PatchOp};
use vpa_runtime::{Cluster, Pacer};
use vpa_sim::{ApiServer, Options};
use vpa_updater::args::HeartbeatFlags;
use vpa_updater::events::EventWriter;
use vpa_updater::heartbeat::HeartbeatReader;
use vpa_updater::writes::perform;

struct Bed {
    server: vpa_sim::Running,
    client: Client,
}

impl Bed {
    async fn new() -> Self {
        vpa_runtime::client::install_crypto();
        let server = ApiServer::start(Options::default()).await.unwrap();
        let file = kube::config::Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
        let mut config = Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        config.default_retry = false;
        let bed = Self { client: Client::try_from(config).unwrap(), server };
        let allocatable = json!({ "cpu": "8", "memory": "32Gi", "pods": "110" });
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" },
            "status": { "allocatable": allocatable, "capacity": allocatable } });
        bed.post("/api/v1/nodes", node).await;
        bed
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = http::Request::post(path).body(serde_json::to_vec(&body).unwrap()).unwrap();
        self.client.request(request).await.unwrap()
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// A pod that runs with these resources.
    async fn pod(&self, name: &str, resources: Value) -> Pod {
        let spec =
            json!({ "nodeName": "n", "containers": [{ "name": "c", "image": "i", "resources": resources }] });
        let metadata = json!({ "name": name, "labels": { "app": name } });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        self.post("/api/v1/namespaces/default/pods", pod).await;
        let status = json!({ "status": { "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{
                "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "resources": resources,
            }],
        } });
        self.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap()
    }

    /// What the cluster has of a pod now.
    async fn now(&self, name: &str) -> Option<Pod> {
        self.pods().get_opt(name).await.unwrap()
    }
}

fn add(path: &str, value: Value) -> PatchOp {
    PatchOp { op: "add", path: path.to_owned(), value }
}

fn resize(cpu: &str) -> Action {
    Action::Resize {
        resize: vec![add("/spec/containers/0/resources/requests/cpu", json!(cpu))],
        annotate: vec![
            add("/metadata/annotations", json!({})),
            add("/metadata/annotations/vpaInPlaceUpdated", json!("true")),
        ],
    }
}

fn requests() -> Value {
    json!({ "requests": { "cpu": "100m", "memory": "100Mi" } })
}

fn cpu(pod: &Pod) -> String {
    pod.spec.containers[0].resources.requests.as_ref().unwrap()["cpu"].to_string()
}

#[tokio::test]
async fn a_resize_is_sent_and_marked() {
    let bed = Bed::new().await;
    let pod = bed.pod("p", requests()).await;
    assert_eq!(perform(&bed.client, &pod, &resize("200m")).await, Outcome::Done);
    let now = bed.now("p").await.unwrap();
    assert_eq!(cpu(&now), "200m");
    assert_eq!(now.annotations().get("vpaInPlaceUpdated").map(String::as_str), Some("true"));
    bed.server.shutdown().await;
}

#[tokio::test]
async fn another_pod_of_the_same_name_is_left_alone() {
    let bed = Bed::new().await;
    let mut pod = bed.pod("p", requests()).await;
    pod.metadata.uid = Some("another".to_owned());
    assert_ne!(perform(&bed.client, &pod, &resize("200m")).await, Outcome::Done);
    let evicted = perform(&bed.client, &pod, &Action::Evict { fallback: None }).await;
    assert!(matches!(evicted, Outcome::Transient(_)), "{evicted:?}");
    assert_eq!(cpu(&bed.now("p").await.expect("it lives")), "100m");
    bed.server.shutdown().await;
}

#[tokio::test]
async fn refusals_and_failures_are_told_apart() {
    let bed = Bed::new().await;
    let pod = bed.pod("p", requests()).await;
    // Guaranteed by its spec, Burstable after the resize.
    let full = json!({ "cpu": "100m", "memory": "100Mi" });
    let guaranteed = bed.pod("g", json!({ "requests": full, "limits": full })).await;
    let outcome = perform(&bed.client, &guaranteed, &resize("50m")).await;
    assert!(matches!(&outcome, Outcome::Refused(refusal) if refusal.code == 422), "{outcome:?}");
    // More than any node has.
    let outcome = perform(&bed.client, &pod, &resize("64")).await;
    assert!(matches!(&outcome, Outcome::Refused(refusal) if refusal.node_capacity), "{outcome:?}");
    let fault = |code, subresource: &str| {
        bed.server.add_fault(
            serde_json::from_value(json!({
                "resource": "pods", "subresource": subresource, "times": 1,
                "action": { "refuse": { "code": code, "reason": "InternalError", "message": "broken" } },
            }))
            .unwrap(),
        );
    };
    // A server that is overloaded says so before it does anything; one that broke may have done it by then.
    for (code, maybe_done) in [(500, true), (503, false), (504, true)] {
        fault(code, "eviction");
        let outcome = perform(&bed.client, &pod, &Action::Evict { fallback: None }).await;
        let fits = if maybe_done {
            matches!(outcome, Outcome::Unknown(_))
        } else {
            matches!(outcome, Outcome::Transient(_))
        };
        assert!(fits, "{code}: {outcome:?}");
    }
    fault(500, "resize");
    let outcome = perform(&bed.client, &pod, &resize("200m")).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    bed.pods().delete("p", &Default::default()).await.unwrap();
    bed.pods().delete("p", &kube::api::DeleteParams::default().grace_period(0)).await.ok();
    let outcome = perform(&bed.client, &pod, &resize("200m")).await;
    assert!(matches!(outcome, Outcome::Transient(_)), "a pod that is gone: {outcome:?}");
    bed.server.shutdown().await;
}

#[tokio::test]
async fn a_disruption_budget_blocks_one_pod() {
    let bed = Bed::new().await;
    let (guarded, free) = (bed.pod("guarded", requests()).await, bed.pod("free", requests()).await);
    let selector = json!({ "matchLabels": { "app": "guarded" } });
    let budget = json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "b" },
        "spec": { "minAvailable": 1, "selector": selector } });
    bed.post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget).await;
    let evict = Action::Evict { fallback: None };
    let outcome = perform(&bed.client, &guarded, &evict).await;
    assert!(matches!(outcome, Outcome::Blocked(_)), "{outcome:?}");
    assert_eq!(perform(&bed.client, &free, &evict).await, Outcome::Done);
    let gone = |pod: Option<Pod>| pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
    assert!(gone(bed.now("free").await) && !gone(bed.now("guarded").await));
    bed.server.shutdown().await;
}

#[tokio::test]
async fn events_are_counted_up() {
    let bed = Bed::new().await;
    let pod = bed.pod("p", requests()).await;
    let (writer, task) = EventWriter::new(bed.client.clone());
    for _ in 0..3 {
        writer.write(Event::resize_skipped(&pod));
    }
    writer.write(Event::resized(&pod));
    drop(writer);
    task.run(CancellationToken::new()).await;
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(bed.client.clone(), "default");
    let events = events.list(&ListParams::default()).await.unwrap();
    let mut counts: Vec<_> =
        events.items.iter().map(|event| (event.reason.clone().unwrap(), event.count)).collect();
    counts.sort();
    let want = [("InPlaceResizeSkipped".to_owned(), Some(3)), ("InPlaceResizedByVPA".to_owned(), Some(1))];
    assert_eq!(counts, want);
    bed.server.shutdown().await;
}

#[tokio::test]
async fn the_lease_is_read_again_when_the_server_fails() {
    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        heartbeat: HeartbeatFlags,
    }
    let bed = Bed::new().await;
    let argv = ["x", "--admission-controller-status-lease-namespace=default"];
    let flags = <Only as clap::Parser>::parse_from(argv).heartbeat;
    let url = bed.server.url();
    let cluster = Cluster {
        client: bed.client.clone(),
        url,
        version: String::new(),
        default_namespace: "default".to_owned(),
        pace: Pacer::default(),
    };
    let reader = HeartbeatReader::new(&cluster, &flags);
    let Heartbeat::Missing(why) = reader.read().await else { panic!("there is no lease") };
    assert!(why.contains("there is no lease default/vpa-admission-controller"), "{why}");
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(bed.client.clone(), "default");
    let lease =
        json!({ "metadata": { "name": "vpa-admission-controller" }, "spec": { "holderIdentity": "a" } });
    leases.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
    for (faults, valid) in [(2, true), (3, false)] {
        bed.server.add_fault(
            serde_json::from_value(json!({
                "verb": "get", "resource": "leases", "times": faults,
                "action": { "refuse": { "code": 500, "reason": "InternalError", "message": "broken" } },
            }))
            .unwrap(),
        );
        let heartbeat = reader.read().await;
        assert_eq!(heartbeat.is_valid(jiff::Timestamp::now()), valid, "{heartbeat:?}");
    }
    bed.server.shutdown().await;
}

#[tokio::test]
async fn a_resize_is_marked_although_the_server_breaks_in_between() {
    let bed = Bed::new().await;
    let pod = bed.pod("p", requests()).await;
    bed.server.add_fault(
        serde_json::from_value(json!({
            "verb": "patch", "resource": "pods", "times": 3,
            "action": { "nth": { "of": 3, "at": 1, "action": {
                "refuse": { "code": 500, "reason": "InternalError", "message": "broken" },
            } } },
        }))
        .unwrap(),
    );
    assert_eq!(perform(&bed.client, &pod, &resize("200m")).await, Outcome::Done);
    let pod = bed.pods().get("p").await.unwrap();
    let mark = pod.metadata.annotations.as_ref().and_then(|all| all.get("vpaInPlaceUpdated"));
    assert_eq!(mark.map(String::as_str), Some("true"));
    bed.server.shutdown().await;
}
