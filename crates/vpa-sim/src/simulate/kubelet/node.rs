//! The nodes themselves: created once, and kept ready by heartbeats.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::status::second;
use crate::simulate::NodeSpec;
use crate::simulate::act::{Kind, Op, Write};
use crate::simulate::world::World;

/// Time between heartbeats. A controller manager takes a node for dead after 50 s without one.
const HEARTBEAT: SignedDuration = SignedDuration::from_secs(10);

/// Pods on a node, the kubelet's own default.
const PODS_MAX: &str = "110";

/// Taint of a node that is not ready yet.
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// When each node last gave a sign.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    created: HashSet<String>,
    last: BTreeMap<String, Timestamp>,
}

impl Heartbeats {
    pub(super) fn plan(&mut self, specs: &[NodeSpec], world: &World, now: Timestamp) -> Vec<Write> {
        let mut writes = Vec::new();
        for spec in specs {
            let Some(node) = world.nodes.get("", &spec.name) else {
                // A node that was created once and is gone was taken away on purpose.
                if self.created.insert(spec.name.clone()) {
                    let meta = kube::api::ObjectMeta { name: Some(spec.name.clone()), ..Default::default() };
                    writes.push(Write::new(Kind::Node, &meta, Op::Create(object(spec))));
                }
                continue;
            };
            self.created.insert(spec.name.clone());
            let due = self.last.get(&spec.name).is_none_or(|last| now >= *last + HEARTBEAT);
            if due || !is_ready(&node) {
                self.last.insert(spec.name.clone(), now);
                let patch = json!({ "status": status(spec, &node, now) });
                writes.push(Write::new(Kind::Node, &node.metadata, Op::Status(patch)));
            }
            writes.extend(ready_untainted(&node));
        }
        writes
    }
}

/// A kube-apiserver taints each new node as not ready, and a controller that need not run here takes the taint away;
/// until then no DaemonSet has pods on the node.
fn ready_untainted(node: &Node) -> Option<Write> {
    let taints = node.spec.as_ref()?.taints.as_ref()?;
    let left: Vec<_> = taints.iter().filter(|taint| taint.key != NOT_READY).collect();
    let patch = json!({
        "metadata": { "resourceVersion": node.metadata.resource_version },
        "spec": { "taints": left },
    });
    (is_ready(node) && left.len() < taints.len())
        .then(|| Write::new(Kind::Node, &node.metadata, Op::Patch(patch)))
}

fn object(spec: &NodeSpec) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": spec.name,
            "labels": {
                "kubernetes.io/hostname": spec.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
        "spec": {},
    })
}

fn status(spec: &NodeSpec, node: &Node, now: Timestamp) -> Value {
    let amounts = json!({
        "cpu": format!("{}m", spec.allocatable.cpu_millis),
        "memory": spec.allocatable.memory_bytes.to_string(),
        "pods": PODS_MAX,
    });
    let known = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let since = known.into_iter().find(|known| known.type_ == "Ready" && known.status == "True");
    let since = since.and_then(|known| known.last_transition_time.clone()).unwrap_or_else(|| second(now));
    json!({
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
            "lastHeartbeatTime": second(now),
            "lastTransitionTime": since,
        }],
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": "",
            "containerRuntimeVersion": "sim://1",
            "kernelVersion": "",
            "kubeProxyVersion": "",
            "kubeletVersion": "v1.36.0",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "",
            "systemUUID": "",
        },
    })
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::amounts::Amounts;

    fn node(world: &World, ready: &str, taints: &[&str]) {
        let taints: Vec<Value> =
            taints.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
        let node = json!({
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "5"},
            "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        world.observe(Kind::Node, node);
    }

    fn what(writes: &[Write]) -> Vec<&'static str> {
        let words = writes.iter().map(|write| match &write.op {
            Op::Create(_) => "create",
            Op::Status(_) => "status",
            Op::Patch(_) => "untaint",
            _ => "other",
        });
        words.collect()
    }

    #[test]
    fn a_node_is_made_kept_ready_and_untainted_once() {
        let specs =
            [NodeSpec { name: "n".into(), allocatable: Amounts { cpu_millis: 1000, memory_bytes: 1 << 30 } }];
        let mut heartbeats = Heartbeats::default();
        let world = World::default();
        let start: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(what(&heartbeats.plan(&specs, &world, start)), ["create"]);
        node(&world, "False", &[NOT_READY]);
        assert_eq!(what(&heartbeats.plan(&specs, &world, start)), ["status"], "tainted until it is ready");
        node(&world, "True", &[NOT_READY, "other"]);
        let writes = heartbeats.plan(&specs, &world, start);
        assert_eq!(what(&writes), ["untaint"]);
        let Op::Patch(patch) = &writes[0].op else { panic!("{writes:?}") };
        assert_eq!(patch["spec"]["taints"], json!([{"key": "other", "effect": "NoSchedule"}]));
        node(&world, "True", &["other"]);
        assert_eq!(what(&heartbeats.plan(&specs, &world, start)), [""; 0]);
        assert_eq!(what(&heartbeats.plan(&specs, &world, start + HEARTBEAT)), ["status"]);
        let gone = world.nodes.get("", "n").unwrap();
        world.nodes.remove(&gone);
        assert_eq!(
            what(&heartbeats.plan(&specs, &world, start)),
            [""; 0],
            "a node that was taken away stays away"
        );
    }
}
