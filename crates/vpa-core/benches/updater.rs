//! How long the updater takes to decide: `make microbench`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use hashbrown::HashMap;
use jiff::Timestamp;
use serde_json::json;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::target::{Controller, ControllerKey, ControllerSource, Lookup, Selector};
use vpa_core::update::{Config, Heartbeat, Next, NoNodes, Outcome, Pass, Snapshot, UpdaterMemory};

/// Pods of each VPA.
const PODS: usize = 2;

fn main() {
    divan::main();
}

/// StatefulSets of two pods each, every one with a VPA.
struct Cluster {
    vpas: Vec<Arc<VerticalPodAutoscaler>>,
    pods: Vec<Arc<Pod>>,
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
    /// `due`: the first pod of each VPA is far from its recommendation.
    fn new(count: usize, due: bool) -> Self {
        let mut cluster = Self { vpas: Vec::new(), pods: Vec::new(), controllers: HashMap::new() };
        for number in 0..count {
            let (namespace, name) = (format!("ns-{}", number % 100), format!("app-{number}"));
            cluster.vpas.push(Arc::new(vpa(&namespace, &name)));
            for pod_number in 0..PODS {
                let cpu = if due && pod_number == 0 { "50m" } else { "100m" };
                cluster.pods.push(Arc::new(pod(&namespace, &name, pod_number, cpu)));
            }
            let controller = controller(namespace, name);
            cluster.controllers.insert(controller.key.clone(), Arc::new(controller));
        }
        cluster
    }

    /// One pass, each step of which succeeds; how many steps there were.
    fn pass(&self, memory: UpdaterMemory, config: &Config, now: Timestamp) -> (usize, UpdaterMemory) {
        let snapshot = Snapshot {
            vpas: self.vpas.clone(),
            pods: self.pods.clone(),
            controllers: self,
            limit_ranges: self,
            nodes: Arc::new(NoNodes),
            heartbeat: Heartbeat::NotUsed,
        };
        let mut pass = Pass::new(&snapshot, config.clone(), memory, now);
        let mut steps = 0;
        while let Next::Step(step) = pass.next(now) {
            steps += 1;
            pass.on_outcome(step.id, Outcome::Done, now);
        }
        (steps, pass.finish(now).1)
    }
}

fn vpa(namespace: &str, name: &str) -> VerticalPodAutoscaler {
    let target = json!({ "cpu": "100m", "memory": "100Mi" });
    let (lower, upper) =
        (json!({ "cpu": "80m", "memory": "90Mi" }), json!({ "cpu": "200m", "memory": "200Mi" }));
    serde_json::from_value(json!({
        "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "targetRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name },
            "updatePolicy": { "updateMode": "InPlaceOrRecreate" },
        },
        "status": { "recommendation": { "containerRecommendations": [
            { "containerName": "c", "target": target, "lowerBound": lower, "upperBound": upper }
        ] } },
    }))
    .unwrap()
}

fn pod(namespace: &str, owner: &str, number: usize, cpu: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("{owner}-{number}"), "namespace": namespace, "uid": format!("{owner}-{number}"),
            "labels": { "app": owner },
            "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": owner, "uid": "u", "controller": true }
            ],
        },
        "spec": { "nodeName": "n", "containers": [
            { "name": "c", "resources": { "requests": { "cpu": cpu, "memory": "100Mi" } } }
        ] },
        "status": { "phase": "Running", "startTime": "2026-01-01T00:00:00Z" },
    }))
    .unwrap()
}

fn controller(namespace: String, name: String) -> Controller {
    let labels = BTreeMap::from([("app".to_owned(), name.clone())]);
    Controller {
        key: ControllerKey { namespace, kind: "StatefulSet".into(), name, api_version: "apps/v1".into() },
        uid: None,
        owner: None,
        selector: Selector::from_label_map(Some(&labels)),
        replicas: Some(PODS as i32),
        containers: None,
    }
}

/// A pass with nothing to do.
#[divan::bench(args = [1_000, 10_000])]
fn an_idle_pass(bencher: Bencher, vpas: usize) {
    run(bencher, vpas, false);
}

/// A pass in which one pod of each VPA is resized.
#[divan::bench(args = [1_000, 10_000])]
fn a_pass_with_a_resize_for_each_vpa(bencher: Bencher, vpas: usize) {
    run(bencher, vpas, true);
}

fn run(bencher: Bencher, vpas: usize, due: bool) {
    let (cluster, config) = (Cluster::new(vpas, due), Config::default());
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let memory = || UpdaterMemory::new(&config).unwrap();
    assert_eq!(cluster.pass(memory(), &config, now).0, if due { vpas } else { 0 });
    bencher
        .counter(ItemsCount::new(vpas))
        .with_inputs(memory)
        .bench_values(|memory| cluster.pass(memory, &config, now).0);
}
