//! A program's cycle on an embedded API server and on simulated time, for tests of the whole of it.

use std::time::Duration;

use kube::api::{Api, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use vpa_runtime::flags::{KubeFlags, Scope};
use vpa_runtime::{Shell, StoreOptions, store};
use vpa_sim::metrics_api::PodSample;
use vpa_sim::{ApiServer, Options as ServerOptions, Running};

use super::*;
use crate::args::Args;

pub(super) const NAMESPACE: &str = "default";
pub(super) const CONTAINER: &str = "c";

/// Workloads, each with a VPA in mode `Off`, and what a program sees of them.
pub(super) struct Testbed {
    pub(super) server: Running,
    pub(super) cluster: Cluster,
    pub(super) stores: (Store<VerticalPodAutoscaler>, Store<StoredPod>, Targets),
    shell: Shell,
    clock: Clock,
    _files: tempfile::TempDir,
}

pub(super) fn vpa_name(workload: usize) -> String {
    format!("v{workload}")
}

pub(super) fn pod_labels(workload: usize) -> BTreeMap<String, String> {
    [("app".to_owned(), vpa_name(workload))].into()
}

pub(super) fn vpa_object(workload: usize) -> Value {
    let name = vpa_name(workload);
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
    json!({
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {"targetRef": target, "updatePolicy": {"updateMode": "Off"}},
    })
}

pub(super) fn pod_object(name: &str, labels: &BTreeMap<String, String>) -> Value {
    json!({
        "metadata": {"namespace": NAMESPACE, "name": name, "labels": labels},
        "spec": {"containers": [{"name": CONTAINER, "image": "i"}]},
    })
}

/// Usage of a pod, in millicores and bytes.
pub(super) fn sample(pod: &str, workload: usize, time: Timestamp, usage: (i64, i64)) -> PodSample {
    PodSample {
        namespace: NAMESPACE.to_owned(),
        name: pod.to_owned(),
        labels: pod_labels(workload),
        timestamp: time,
        window: Duration::from_secs(15),
        containers: vec![(CONTAINER.to_owned(), usage.0, usage.1)],
    }
}

impl Testbed {
    pub(super) async fn new(workloads: usize, clock: Clock) -> Self {
        // Few, since the memory of a test is looked at.
        let options = ServerOptions { history_max: 200, ..ServerOptions::default() };
        let server = ApiServer::start(options).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let kubeconfig = files.path().join("kubeconfig");
        server.write_kubeconfig(&kubeconfig).unwrap();
        let (shell, _) = Shell::new(&crate::COMPONENT).unwrap();
        let kube = KubeFlags { kubeconfig: Some(kubeconfig), kube_api_qps: 0.0, kube_api_burst: 1.0 };
        let cluster = shell.connect(&kube).await.unwrap();
        for crd in ["verticalpodautoscalers", "verticalpodautoscalercheckpoints"] {
            let path = format!("{}/../../charts/vpa/crds/{crd}.yaml", env!("CARGO_MANIFEST_DIR"));
            let crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            create(&cluster, "apiextensions.k8s.io", "CustomResourceDefinition", crd).await;
        }
        for workload in 0..workloads {
            let labels = pod_labels(workload);
            let containers = json!([{"name": CONTAINER, "image": "i"}]);
            let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
            let deployment = json!({
                "metadata": {"namespace": NAMESPACE, "name": vpa_name(workload)},
                "spec": {"selector": {"matchLabels": labels}, "template": template},
            });
            create(&cluster, "apps", "Deployment", deployment).await;
            create(&cluster, "autoscaling.k8s.io", "VerticalPodAutoscaler", vpa_object(workload)).await;
        }
        let stores = (
            shell.watch(&cluster, StoreOptions::named("vpas")),
            shell.watch(&cluster, StoreOptions::named("pods")),
            Targets::start(&shell, &cluster, &Scope::default()),
        );
        Self { server, cluster, stores, shell, clock, _files: files }
    }

    /// Creates a pod; without a phase it counts as one that has not ended.
    pub(super) async fn create_pod(&self, object: Value) {
        create(&self.cluster, "", "Pod", object).await;
    }

    /// Waits until a program would see all VPAs, and exactly these pods.
    pub(super) async fn shows(&self, names: &[&str]) {
        let (vpas, pods, targets) = &self.stores;
        assert!(store::wait_all(&[vpas, pods, targets], &self.shell.stopping()).await);
        while pods.len() != names.len() || names.iter().any(|name| pods.get(NAMESPACE, name).is_none()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A program with default flags that has just been started.
    pub(super) fn cycle(&self) -> Cycle {
        let words = ["x".to_owned(), format!("--vpa-object-namespace={NAMESPACE}")];
        let words = words.map(std::ffi::OsString::from);
        let args = vpa_runtime::flags::parse::<Args>(&crate::COMPONENT, words).unwrap().unwrap().args;
        let scope = args.common.scope.scope().unwrap();
        let options = args.recommender.options(&scope, &args.common.feature_gates).unwrap();
        let metrics = Arc::new(RecommenderMetrics::new(&prometheus::Registry::new()).unwrap());
        let (vpas, pods, targets) = self.stores.clone();
        let sources = Sources { vpas, pods, targets, inbox: Inbox::default(), clock: self.clock };
        Cycle::new(self.cluster.clone(), sources, options, metrics, self.shell.metrics())
    }
}

async fn create(cluster: &Cluster, group: &str, kind: &str, object: Value) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    };
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}
