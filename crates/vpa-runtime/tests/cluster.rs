//! The shell against an API server over HTTP, the embedded one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ObjectMeta, PostParams};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_core::target::{ChainError, topmost_of_pod};
use vpa_runtime::executor::Attempt;
use vpa_runtime::flags::{GoDuration, KubeFlags, LeaderElectFlags, Scope};
use vpa_runtime::store::wait_all;
use vpa_runtime::targets::{self, Targets};
use vpa_runtime::{
    Cluster, Component, Error, Executor, Outcome, Pacer, Shell, StoreEvent, StoreOptions, patch, preflight,
};
use vpa_sim::{ApiServer, Fault, FaultAction, Options, Running};

const COMPONENT: Component =
    Component { name: "vpa-test", about: "A test.", default_address: ":0", lease_name: Some("vpa-test") };

struct Fixture {
    server: Running,
    shell: Shell,
    cluster: Cluster,
    _files: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let server = ApiServer::start(Options { history_max: 5_000, ..Options::default() }).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("kubeconfig");
        server.write_kubeconfig(&path).unwrap();
        let (shell, _) = Shell::new(&COMPONENT).unwrap();
        let kube = KubeFlags { kubeconfig: Some(path), kube_api_qps: 0.0, kube_api_burst: 1.0 };
        let cluster = shell.connect(&kube).await.unwrap();
        Self { server, shell, cluster, _files: files }
    }

    /// The cluster, as a service account sees it.
    async fn as_service_account(&self, name: &str) -> Cluster {
        let path = self._files.path().join(name);
        std::fs::write(&path, self.server.service_account_kubeconfig("default", name).unwrap()).unwrap();
        let kube = KubeFlags { kubeconfig: Some(path), kube_api_qps: 0.0, kube_api_burst: 1.0 };
        self.shell.connect(&kube).await.unwrap()
    }

    async fn create(&self, group: &str, version: &str, kind: &str, object: Value) {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.cluster.client.clone(), &namespace, &resource),
            None => Api::all_with(self.cluster.client.clone(), &resource),
        };
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    async fn create_crd(&self, path: &str) {
        let path = format!("{}/../../charts/vpa/crds/{path}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let crd: Value = serde_saphyr::from_str(&text).unwrap();
        self.create("apiextensions.k8s.io", "v1", "CustomResourceDefinition", crd).await;
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.cluster.client.clone(), "default")
    }
}

fn map(name: &str, value: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ConfigMap {
        metadata,
        data: Some([("value".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// Waits until a condition holds, or fails with its name.
async fn eventually(name: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{name}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_store_follows_pages_changes_and_a_compaction() {
    let fixture = Fixture::start().await;
    let api = fixture.maps();
    for number in 0..1_203 {
        api.create(&PostParams::default(), &map(&format!("map-{number:04}"), "0")).await.unwrap();
    }
    let events = Arc::new(Mutex::new((0, 0, 0)));
    let seen = events.clone();
    let store = fixture.shell.watch::<ConfigMap>(
        &fixture.cluster,
        StoreOptions::named("maps").on_event(move |event| {
            let mut seen = seen.lock();
            match event {
                StoreEvent::Applied { before: None, .. } => seen.0 += 1,
                StoreEvent::Applied { .. } => seen.1 += 1,
                StoreEvent::Deleted(_) => seen.2 += 1,
                StoreEvent::Synced => {}
            }
        }),
    );
    assert!(store.wait_synced(&fixture.shell.stopping()).await);
    assert_eq!(store.len(), 1_203, "three pages");

    patch::merge(&api, "map-0007", json!({"data": {"value": "1"}}), None).await.unwrap();
    api.delete("map-0008", &DeleteParams::default()).await.unwrap();
    eventually("a change is seen", || {
        store.get("default", "map-0007").is_some_and(|map| map.data.as_ref().unwrap()["value"] == "1")
    })
    .await;
    eventually("a deletion is seen", || store.get("default", "map-0008").is_none()).await;

    fixture.server.compact();
    patch::merge(&api, "map-0009", json!({"data": {"value": "2"}}), None).await.unwrap();
    api.delete("map-0010", &DeleteParams::default()).await.unwrap();
    eventually("the list after the compaction", || {
        store.get("default", "map-0010").is_none()
            && store.get("default", "map-0009").is_some_and(|map| map.data.as_ref().unwrap()["value"] == "2")
    })
    .await;
    assert_eq!(store.len(), 1_201);
    assert_eq!(*events.lock(), (1_203, 2, 2), "a list again repeats nothing");
}

#[tokio::test]
async fn a_store_outlives_refused_lists_and_watches() {
    let fixture = Fixture::start().await;
    let api = fixture.maps();
    let refuse = |verb: &str, code: u16, times: u32| Fault {
        verb: verb.to_owned(),
        resource: "configmaps".to_owned(),
        subresource: String::new(),
        namespace: String::new(),
        name: String::new(),
        user_agent: "vpa-test".to_owned(),
        times: Some(times),
        action: FaultAction::Refuse { code, reason: "Scripted".to_owned(), message: "scripted".to_owned() },
    };
    assert!(fixture.server.add_fault(refuse("list", 403, 1)));
    assert!(fixture.server.add_fault(refuse("watch", 500, 1)));
    api.create(&PostParams::default(), &map("a", "0")).await.unwrap();
    let store = fixture.shell.watch::<ConfigMap>(&fixture.cluster, StoreOptions::named("maps"));
    let optional = StoreOptions::<Pod>::named("optional").optional();
    fixture.shell.watch::<Pod>(&fixture.cluster, optional);
    assert!(!fixture.shell.health().ready().1.contains("optional"), "readiness does not wait for it");
    eventually("the refusal is told", || store.trouble().is_some_and(|text| text.contains("403"))).await;
    assert!(store.wait_synced(&fixture.shell.stopping()).await);
    api.create(&PostParams::default(), &map("b", "0")).await.unwrap();
    eventually("the change after the refused watch", || store.get("default", "b").is_some()).await;
    assert_eq!(store.trouble(), None);
}

#[tokio::test]
async fn preflight_speaks_of_crds_and_rights() {
    let fixture = Fixture::start().await;
    let error = preflight::crds(&fixture.cluster, &[preflight::VPA_CRD]).await.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    fixture.create_crd("verticalpodautoscalers.yaml").await;
    preflight::crds(&fixture.cluster, &[preflight::VPA_CRD]).await.unwrap();

    let scope = Scope::default();
    preflight::permissions(&fixture.cluster, &targets::permissions(&scope)).await.unwrap();
    let weak = fixture.as_service_account("weak").await;
    let error = preflight::permissions(&weak, &targets::permissions(&scope)).await.unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("list, watch deployments.apps in all namespaces"), "{error}");

    let rules = json!([{"apiGroups": ["apps", "batch", ""], "verbs": ["get", "list", "watch"], "resources":
        ["cronjobs", "daemonsets", "deployments", "jobs", "replicasets", "replicationcontrollers", "statefulsets"]},
        {"apiGroups": ["*"], "verbs": ["get"], "resources": ["*/scale"]}]);
    fixture
        .create(
            "rbac.authorization.k8s.io",
            "v1",
            "ClusterRole",
            json!({"metadata": {"name": "r"}, "rules": rules}),
        )
        .await;
    let binding = json!({"metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "weak"}]});
    fixture.create("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", binding).await;
    preflight::permissions(&weak, &targets::permissions(&scope)).await.unwrap();
}

#[tokio::test]
async fn targets_are_found_through_owners_and_scale() {
    let fixture = Fixture::start().await;
    let foo = json!({"metadata": {"name": "foos.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"kind": "Foo", "plural": "foos", "singular": "foo"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}}}]}});
    fixture.create("apiextensions.k8s.io", "v1", "CustomResourceDefinition", foo).await;
    let targets = Targets::start(&fixture.shell, &fixture.cluster, &Scope::default());
    assert!(wait_all(&[&targets], &fixture.shell.stopping()).await);

    let template =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let workload = |name: &str, owner: Value| {
        json!({"metadata": {"namespace": "default", "name": name, "ownerReferences": owner},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": template}})
    };
    let owned_by = |version: &str, kind: &str, name: &str| json!([{"apiVersion": version, "kind": kind, "name": name, "uid": "1", "controller": true}]);
    let custom = json!({"metadata": {"namespace": "default", "name": "foo"}, "spec": {"replicas": 4}});
    fixture.create("example.com", "v1", "Foo", custom).await;
    fixture.create("apps", "v1", "Deployment", workload("plain", json!([]))).await;
    fixture
        .create("apps", "v1", "Deployment", workload("operated", owned_by("example.com/v1", "Foo", "foo")))
        .await;

    let pod = |owner: Value| -> Pod {
        serde_json::from_value(
            json!({"metadata": {"namespace": "default", "name": "p", "ownerReferences": owner}}),
        )
        .unwrap()
    };
    let top = async |pod: Pod| {
        targets.settled(Duration::from_secs(5), |targets| topmost_of_pod(targets, &pod)).await
    };
    let found = top(pod(owned_by("apps/v1", "Deployment", "plain"))).await.unwrap().unwrap();
    assert_eq!((found.key.name.as_str(), found.replicas), ("plain", Some(2)));
    let found = top(pod(owned_by("apps/v1", "Deployment", "operated"))).await.unwrap().unwrap();
    assert_eq!((found.key.kind.as_str(), found.replicas), ("Foo", Some(4)));
    let missing = top(pod(owned_by("apps/v1", "Deployment", "none"))).await;
    assert!(matches!(missing, Err(ChainError::Missing(_))), "{missing:?}");
    let unknown = top(pod(owned_by("nowhere.example/v1", "Bar", "b"))).await;
    assert!(matches!(unknown, Err(ChainError::UnknownKind(_))), "{unknown:?}");

    // An owner that is made a moment after its pod is asked about is waited for.
    let late = pod(owned_by("apps/v1", "Deployment", "late"));
    let (late, ()) = tokio::join!(top(late), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fixture.create("apps", "v1", "Deployment", workload("late", json!([]))).await;
    });
    assert_eq!(late.unwrap().unwrap().key.name, "late");
}

#[tokio::test]
async fn a_plan_of_status_patches_survives_conflicts_and_bad_items() {
    let fixture = Fixture::start().await;
    fixture.create_crd("verticalpodautoscalers.yaml").await;
    for name in ["a", "b", "c"] {
        let vpa = json!({"metadata": {"namespace": "default", "name": name},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}});
        fixture.create("autoscaling.k8s.io", "v1", "VerticalPodAutoscaler", vpa).await;
    }
    let api: Api<VerticalPodAutoscaler> = Api::namespaced(fixture.cluster.client.clone(), "default");
    let executor = Executor::new("statuses", Pacer::new(4), fixture.shell.metrics());
    let conditions = json!({"conditions": [{"type": "RecommendationProvided", "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let report = executor
        .run(
            vec!["a", "gone", "b", "c"],
            Instant::now() + Duration::from_secs(20),
            &CancellationToken::new(),
            |name, attempt| {
                let (api, name, conditions) = (api.clone(), *name, conditions.clone());
                async move {
                    // The first attempt goes by what was known a while ago.
                    let version = match (name, attempt) {
                        ("b", 0) => Some("1".to_owned()),
                        ("gone", _) => None,
                        _ => match api.get(name).await {
                            Ok(vpa) => vpa.metadata.resource_version,
                            Err(error) => return Attempt::from(Err(error)),
                        },
                    };
                    patch::merge_status(&api, name, conditions, version.as_deref()).await.map(drop).into()
                }
            },
        )
        .await;
    let outcomes: Vec<Outcome<()>> = report.outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Done(()), Outcome::NotFound, Outcome::Done(()), Outcome::Done(())]);
    assert_eq!(fixture.shell.metrics().conflicts.with_label_values(&["statuses"]).get(), 1);
    assert!(api.get("b").await.unwrap().status.is_some());
}

#[tokio::test]
async fn leadership_passes_on() {
    let fixture = Fixture::start().await;
    let flags = LeaderElectFlags {
        leader_elect: true,
        leader_elect_lease_duration: GoDuration::from_secs(60),
        leader_elect_renew_deadline: GoDuration::from_secs(40),
        leader_elect_retry_period: GoDuration::from_millis(100),
        leader_elect_resource_lock: "leases".into(),
        leader_elect_resource_name: "lease".into(),
        leader_elect_resource_namespace: "kube-system".into(),
    };
    let first = fixture.shell.lead(&fixture.cluster, &flags).await.unwrap().unwrap();
    let (other, _deaths) = Shell::new(&COMPONENT).unwrap();
    let (waiting, cluster, waiting_flags) = (other.clone(), fixture.cluster.clone(), flags.clone());
    let second = tokio::spawn(async move { waiting.lead(&cluster, &waiting_flags).await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(first.holds() && !second.is_finished());
    first.release().await;
    let second =
        tokio::time::timeout(Duration::from_secs(1), second).await.unwrap().unwrap().unwrap().unwrap();
    assert!(second.holds());

    let nowhere = LeaderElectFlags { leader_elect_resource_namespace: "nowhere".into(), ..flags };
    let waiting =
        tokio::time::timeout(Duration::from_millis(500), other.lead(&fixture.cluster, &nowhere)).await;
    assert!(waiting.is_err(), "a namespace may still come");
    let weak = fixture.as_service_account("weak").await;
    let error = other.lead(&weak, &nowhere).await.unwrap_err();
    assert!(matches!(error, Error::PermissionMissing(_)), "{error}");
}
