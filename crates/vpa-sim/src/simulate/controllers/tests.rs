use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::deployment::{Share, roll};
use super::*;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// A cluster in which writes take effect at once: creations get a UID, every pod becomes ready.
#[derive(Default)]
struct Toy {
    world: World,
    made: u32,
}

impl Toy {
    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    /// Plans and carries out until nothing is left; returns what was done, in words.
    fn settle(&mut self) -> Vec<String> {
        let mut log = Vec::new();
        for _ in 0..50 {
            let clock = UsageClock { epoch: Self::now(), scale: 1.0 };
            let writes = Controllers::new(clock).plan(&self.world, Self::now());
            if writes.is_empty() {
                return log;
            }
            writes.into_iter().for_each(|write| self.carry_out(write, &mut log));
        }
        panic!("never settles: {log:#?}");
    }

    fn carry_out(&mut self, write: Write, log: &mut Vec<String>) {
        self.made += 1;
        let version = (1000 + self.made).to_string();
        match write.op {
            Op::Create(mut value) => {
                let name = if write.name.ends_with('-') {
                    format!("{}{:03}", write.name, self.made)
                } else {
                    write.name
                };
                log.push(format!("create {:?} {name}", write.kind));
                value["metadata"]["name"] = name.into();
                value["metadata"]["uid"] = format!("uid-{}", self.made).into();
                value["metadata"]["resourceVersion"] = version.into();
                if write.kind == Kind::Pod {
                    value["status"] =
                        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
                }
                self.world.observe(write.kind, value);
            }
            Op::Status(patch) | Op::Patch(patch) => {
                let mut value = self.get(write.kind, &write.namespace, &write.name);
                if let Some(replicas) = patch["spec"]["replicas"].as_i64() {
                    log.push(format!("scale {} to {replicas}", write.name));
                }
                json_patch::merge(&mut value, &patch);
                value["metadata"]["resourceVersion"] = version.into();
                self.world.observe(write.kind, value);
            }
            Op::Delete { uid, .. } => {
                log.push(format!("delete {:?} {}", write.kind, write.name));
                self.world.remove(write.kind, &write.namespace, &write.name, &uid);
            }
            Op::Bind { .. } => unreachable!("controllers bind nothing"),
        }
    }

    fn get(&self, kind: Kind, namespace: &str, name: &str) -> Value {
        let value = match kind {
            Kind::Deployment => serde_json::to_value(self.world.deployments.get(namespace, name).as_deref()),
            Kind::ReplicaSet => serde_json::to_value(self.world.replica_sets.get(namespace, name).as_deref()),
            Kind::StatefulSet => {
                serde_json::to_value(self.world.stateful_sets.get(namespace, name).as_deref())
            }
            Kind::DaemonSet => serde_json::to_value(self.world.daemon_sets.get(namespace, name).as_deref()),
            Kind::PodDisruptionBudget => {
                serde_json::to_value(self.world.budgets.get(namespace, name).as_deref())
            }
            _ => panic!("{kind:?} is not patched in tests"),
        };
        value.unwrap()
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        self.world.pods.all()
    }

    fn names(&self) -> Vec<String> {
        self.pods().iter().map(|pod| pod.metadata.name.clone().unwrap()).collect()
    }
}

fn workload(image: &str, replicas: i32) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": "web", "uid": "owner", "resourceVersion": "1", "generation": 1},
        "spec": {
            "replicas": replicas,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"sim.vpa/cpu": "1m"}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        },
    })
}

fn again(mut value: Value, version: &str) -> Value {
    value["metadata"]["resourceVersion"] = version.into();
    value
}

#[test]
fn a_deployment_makes_rolls_and_scales_its_pods() {
    let mut toy = Toy::default();
    toy.world.deployments.observe(object::<Deployment>(workload("a", 3)));
    toy.settle();
    assert_eq!(toy.pods().len(), 3);
    let pod = toy.pods()[0].clone();
    let annotations = pod.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["sim.vpa/cpu"], "1m", "the template's annotations reach the pod");
    assert!(pod.metadata.labels.as_ref().unwrap().contains_key("pod-template-hash"));
    let status = toy.world.deployments.get("ns", "web").unwrap().status.clone().unwrap();
    assert_eq!((status.available_replicas, status.updated_replicas), (Some(3), Some(3)));

    let old = toy.names();
    toy.world.deployments.observe(object::<Deployment>(again(workload("b", 3), "5000")));
    toy.made = 5000;
    toy.settle();
    assert_eq!(toy.pods().len(), 3);
    assert!(toy.names().iter().all(|name| !old.contains(name)), "all pods are new");

    toy.world.deployments.observe(object::<Deployment>(again(workload("b", 1), "9000")));
    toy.made = 9000;
    toy.settle();
    assert_eq!(toy.pods().len(), 1);
}

#[test]
fn rolling_keeps_the_limits_of_the_strategy() {
    let share = |wanted, available| Share { wanted, available };
    // total, surge, unavailable, new, old → new, old
    let cases = [
        ((3, 1, 0), share(0, 0), vec![share(3, 3)], (1, vec![3])),
        ((3, 1, 0), share(1, 0), vec![share(3, 3)], (1, vec![3])),
        ((3, 1, 0), share(1, 1), vec![share(3, 3)], (1, vec![2])),
        ((3, 0, 1), share(0, 0), vec![share(3, 3)], (0, vec![2])),
        ((3, 0, 1), share(0, 0), vec![share(2, 2)], (1, vec![2])),
        ((4, 1, 1), share(0, 0), vec![share(4, 4)], (1, vec![3])),
        ((3, 1, 0), share(3, 3), vec![share(1, 1), share(0, 0)], (3, vec![0, 0])),
        ((3, 1, 0), share(0, 0), vec![share(3, 0)], (1, vec![0])),
        ((2, 1, 0), share(5, 5), vec![], (2, vec![])),
    ];
    for ((total, surge, unavailable), new, old, expected) in cases {
        assert_eq!(
            roll(total, surge, unavailable, new, &old),
            expected,
            "{total} {surge} {unavailable} {new:?} {old:?}"
        );
    }
}

#[test]
fn a_stateful_set_goes_in_order_and_keeps_its_names() {
    let mut toy = Toy::default();
    toy.world.stateful_sets.observe(object::<StatefulSet>(workload("a", 3)));
    let log = toy.settle();
    assert_eq!(log, ["create Pod web-0", "create Pod web-1", "create Pod web-2"]);
    toy.made = 5000;
    toy.world.stateful_sets.observe(object::<StatefulSet>(again(workload("b", 3), "5000")));
    let log = toy.settle();
    let moves: Vec<&str> = log.iter().map(String::as_str).collect();
    assert_eq!(
        moves,
        [
            "delete Pod web-2",
            "create Pod web-2",
            "delete Pod web-1",
            "create Pod web-1",
            "delete Pod web-0",
            "create Pod web-0"
        ]
    );
    toy.made = 9000;
    toy.world.stateful_sets.observe(object::<StatefulSet>(again(workload("b", 1), "9000")));
    assert_eq!(toy.settle(), ["delete Pod web-2", "delete Pod web-1"]);
}

#[test]
fn a_daemon_set_has_one_pod_on_each_node() {
    let mut toy = Toy::default();
    for name in ["a", "b"] {
        toy.world.nodes.observe(object::<Node>(
            json!({"metadata": {"name": name, "uid": name, "resourceVersion": "1"}}),
        ));
    }
    toy.world.daemon_sets.observe(object::<DaemonSet>(workload("a", 0)));
    toy.settle();
    assert_eq!(toy.pods().len(), 2);
    let node = toy.world.nodes.get("", "b").unwrap();
    toy.world.nodes.remove(&node);
    toy.settle();
    assert_eq!(toy.pods().len(), 1, "the pod of a node that is gone goes too");
}

#[test]
fn a_disruption_budget_counts_what_may_go() {
    let budget = |spec: Value, disrupted: Value| {
        json!({
            "metadata": {"namespace": "ns", "name": "b", "uid": "b", "resourceVersion": "1", "generation": 1},
            "spec": spec,
            "status": {"disruptedPods": disrupted, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0, "disruptionsAllowed": 0},
        })
    };
    let selector = json!({"matchLabels": {"app": "web"}});
    let cases = [
        (json!({"maxUnavailable": 1, "selector": selector}), json!({}), (3, 2, 1)),
        (json!({"maxUnavailable": "50%", "selector": selector}), json!({}), (3, 1, 2)),
        (json!({"minAvailable": 3, "selector": selector}), json!({}), (3, 3, 0)),
        (json!({"minAvailable": "100%", "selector": selector}), json!({}), (3, 3, 0)),
        (json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": "other"}}}), json!({}), (0, 0, 0)),
    ];
    for (spec, disrupted, expected) in cases {
        let mut toy = Toy::default();
        toy.world.deployments.observe(object::<Deployment>(workload("a", 3)));
        toy.settle();
        toy.world.budgets.observe(object::<PodDisruptionBudget>(budget(spec.clone(), disrupted)));
        toy.settle();
        let status = toy.world.budgets.get("ns", "b").unwrap().status.clone().unwrap();
        let found = (status.current_healthy, status.desired_healthy, status.disruptions_allowed);
        assert_eq!(found, expected, "{spec}");
    }
}

#[test]
fn an_evicted_pod_counts_until_it_is_marked() {
    let mut toy = Toy::default();
    toy.world.deployments.observe(object::<Deployment>(workload("a", 3)));
    toy.settle();
    let victim = toy.names()[0].clone();
    let disrupted = json!({&victim: "2026-11-22T09:59:50Z", "long-gone": "2026-11-22T09:59:50Z"});
    toy.world.budgets.observe(object::<PodDisruptionBudget>(json!({
        "metadata": {"namespace": "ns", "name": "b", "uid": "b", "resourceVersion": "1", "generation": 1},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptedPods": disrupted, "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3, "disruptionsAllowed": 0},
    })));
    toy.settle();
    let status = toy.world.budgets.get("ns", "b").unwrap().status.clone().unwrap();
    assert_eq!((status.current_healthy, status.disruptions_allowed), (2, 0));
    let left: Vec<String> = status.disrupted_pods.unwrap().into_keys().collect();
    assert_eq!(left, [victim], "a pod that is gone is no longer listed");
}

#[test]
fn a_percentage_is_of_the_total() {
    let value = |text: &str| Some(IntOrString::String(text.to_owned()));
    assert_eq!(scaled(value("25%").as_ref(), "0%", 10, true), 3);
    assert_eq!(scaled(value("25%").as_ref(), "0%", 10, false), 2);
    assert_eq!(scaled(Some(&IntOrString::Int(4)), "0%", 10, true), 4);
    assert_eq!(scaled(None, "25%", 4, true), 1);
}
