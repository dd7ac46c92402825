//! How long a review of a pod takes to be read and decided: `make microbench`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use divan::{Bencher, black_box, counter::BytesCount};
use hashbrown::HashMap;
use serde_json::json;
use vpa_api::VerticalPodAutoscaler;
use vpa_core::admit::{self, Config, Gates, Snapshot};
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::target::{Controller, ControllerKey, ControllerSource, Lookup, Selector, VpaIndex};

/// The review of a pod as the API server sends it, but for the names and the blanks in it. `make bench` sends it too.
const REVIEW: &str = include_str!("review.json");

/// Namespace of the pod.
const NAMESPACE: &str = "bench-reviews";

fn main() {
    divan::main();
}

/// Deployments with their ReplicaSets, each with a VPA, in one namespace.
struct Cluster {
    vpas: VpaIndex,
    controllers: HashMap<ControllerKey, Arc<Controller>>,
}

impl ControllerSource for Cluster {
    fn get(&self, key: &ControllerKey) -> Lookup {
        self.controllers.get(key).map_or(Lookup::NotFound, |found| Lookup::Found(Arc::clone(found)))
    }
}

impl LimitRangeSource for Cluster {
    fn limit_ranges(&self, _: &str) -> Arc<LimitRanges> {
        Arc::default()
    }
}

impl Cluster {
    fn new(count: usize) -> Self {
        let names: Vec<String> = (0..count).map(name).collect();
        let vpas = VpaIndex::new(names.iter().map(|name| Arc::new(vpa(name))));
        let controllers = names.iter().flat_map(|name| {
            let deployment = controller("Deployment", name, name, None);
            let replica_set = format!("{name}-{}", hash());
            let owner = Some(deployment.key.clone());
            [deployment, controller("ReplicaSet", &replica_set, name, owner)]
        });
        let controllers = controllers.map(|found| (found.key.clone(), Arc::new(found))).collect();
        Self { vpas, controllers }
    }
}

fn name(number: usize) -> String {
    format!("service-{number:05}")
}

fn hash() -> &'static str {
    "5d4c9f7b8"
}

fn controller(kind: &str, name: &str, app: &str, owner: Option<ControllerKey>) -> Controller {
    let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    let key = ControllerKey {
        namespace: NAMESPACE.into(),
        api_version: "apps/v1".into(),
        kind: kind.into(),
        name: name.into(),
    };
    let selector = Selector::from_label_map(Some(&labels));
    Controller { key, uid: None, owner, selector, replicas: Some(1), containers: None }
}

fn vpa(name: &str) -> VerticalPodAutoscaler {
    let target = json!({ "cpu": "250m", "memory": "262144k" });
    let (lower, upper) =
        (json!({ "cpu": "25m", "memory": "262144k" }), json!({ "cpu": "1388m", "memory": "1438074878" }));
    serde_json::from_value(json!({
        "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "targetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "updatePolicy": { "updateMode": "Recreate" },
        },
        "status": { "recommendation": { "containerRecommendations": [
            { "containerName": "app", "target": target, "lowerBound": lower, "upperBound": upper }
        ] } },
    }))
    .unwrap()
}

/// The bytes of the review of a pod of this workload.
fn review(number: usize) -> Vec<u8> {
    let text: String = REVIEW.lines().map(str::trim_start).collect();
    text.replace("WORKLOAD-NAME", &name(number)).replace("TEMPLATE#", hash()).into_bytes()
}

fn config() -> Config {
    let gates = Gates { in_place: false, per_vpa_config: false, cpu_startup_boost: false };
    Config { gates, max_allowed_cpu_boost: None }
}

/// Reading a review, as far as it is read before anything is decided.
#[divan::bench]
fn read_a_review(bencher: Bencher) {
    let body = review(0);
    bencher.counter(BytesCount::of_slice(&body)).bench_local(|| {
        admit::decode(black_box(&body)).unwrap();
    });
}

/// Reading a review and deciding it against so many VPAs.
#[divan::bench(args = [1_000, 50_000])]
fn read_and_decide_a_review(bencher: Bencher, vpas: usize) {
    let (cluster, config) = (Cluster::new(vpas), config());
    let snapshot = Snapshot {
        vpas: &cluster.vpas,
        controllers: &cluster,
        limit_ranges: &cluster,
        surroundings: None,
        config: &config,
    };
    let bodies: Vec<Vec<u8>> = (0..vpas).step_by(vpas / 1_000).map(review).collect();
    let mut number = 0;
    bencher.bench_local(|| {
        number += 1;
        let request = admit::decode(black_box(&bodies[number % bodies.len()])).unwrap();
        let decision = admit::review(&request, &snapshot);
        assert!(!decision.patches.is_empty());
        decision
    });
}
