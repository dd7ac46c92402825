//! The scheduler: pods go to the node with the most room among those where their requests fit.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, Pod, PodSpec};
use serde_json::{Value, json};

use super::Simulator;
use super::act::{Kind, Op, Write};
use super::amounts::{self, Amounts};
use super::world::World;

/// Binds pods to nodes.
#[derive(Debug)]
pub(super) struct Scheduler;

/// A node as the scheduler sees it.
#[derive(Clone, Debug)]
struct Room {
    labels: BTreeMap<String, String>,
    allocatable: Amounts,
    free: Amounts,
    pods_free: i64,
    open: bool,
}

/// Why a pod fits nowhere, and on how many nodes for that reason.
type Refusals = BTreeMap<&'static str, usize>;

impl Simulator for Scheduler {
    const NAME: &'static str = "scheduler";

    fn plan(&mut self, world: &World, now: Timestamp) -> Vec<Write> {
        let pods = world.pods.all();
        let mut rooms: BTreeMap<String, Room> = world
            .nodes
            .all()
            .iter()
            .map(|node| (node.metadata.name.clone().unwrap_or_default(), room(node)))
            .collect();
        for pod in pods.iter().filter(|pod| takes_room(pod)) {
            let spec = pod.spec.as_ref();
            if let Some(room) = spec.and_then(|spec| rooms.get_mut(spec.node_name.as_ref()?)) {
                room.take(charge(pod));
            }
        }
        let mut waiting: Vec<_> = pods.iter().filter(|pod| waits(pod)).collect();
        waiting.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let mut writes = Vec::new();
        for pod in waiting {
            let Some(spec) = &pod.spec else { continue };
            match place(spec, &rooms) {
                Ok(node) => {
                    if let Some(room) = rooms.get_mut(&node) {
                        room.take(amounts::of_spec(spec));
                    }
                    writes.push(Write::new(Kind::Pod, &pod.metadata, Op::Bind { node }));
                }
                Err(refusals) => writes.extend(unschedulable(pod, &message(rooms.len(), &refusals), now)),
            }
        }
        writes
    }
}

impl Room {
    fn take(&mut self, amounts: Amounts) {
        self.free = self.free.minus(amounts);
        self.pods_free -= 1;
    }

    /// Share of the node that is free, of the scarcer resource.
    fn share_free(&self) -> f64 {
        let share = |free: i64, all: i64| if all > 0 { free as f64 / all as f64 } else { 0.0 };
        share(self.free.cpu_millis, self.allocatable.cpu_millis)
            .min(share(self.free.memory_bytes, self.allocatable.memory_bytes))
    }
}

fn room(node: &Node) -> Room {
    let status = node.status.as_ref();
    let allocatable = status.and_then(|status| status.allocatable.as_ref());
    let amounts = amounts::of_list(allocatable);
    let pods = allocatable.and_then(|list| list.get("pods")).and_then(|text| text.0.parse().ok());
    Room {
        labels: node.metadata.labels.clone().unwrap_or_default(),
        allocatable: amounts,
        free: amounts,
        pods_free: pods.unwrap_or(110),
        open: node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true),
    }
}

/// What a placed pod counts for: the larger of what it asks for and what it has, so that a resize under way keeps its
/// room.
fn charge(pod: &Pod) -> Amounts {
    let asked = pod.spec.as_ref().map(amounts::of_spec).unwrap_or_default();
    asked.max(amounts::allocated(pod))
}

fn takes_room(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

fn waits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.node_name.as_ref().is_none_or(String::is_empty)
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && pod.metadata.deletion_timestamp.is_none()
        && takes_room(pod)
}

/// The node for a pod: the one with the largest share free, then by name.
fn place(spec: &PodSpec, rooms: &BTreeMap<String, Room>) -> Result<String, Refusals> {
    let wanted = amounts::of_spec(spec);
    let mut refusals = Refusals::new();
    let mut best: Option<(&String, f64)> = None;
    for (name, room) in rooms {
        match refusal(spec, wanted, name, room) {
            Some(reason) => *refusals.entry(reason).or_default() += 1,
            None if best.is_none_or(|(_, share)| room.share_free() > share) => {
                best = Some((name, room.share_free()))
            }
            None => {}
        }
    }
    best.map(|(name, _)| name.clone()).ok_or(refusals)
}

fn refusal(spec: &PodSpec, wanted: Amounts, name: &str, room: &Room) -> Option<&'static str> {
    let selected =
        spec.node_selector.iter().flatten().all(|(key, value)| room.labels.get(key) == Some(value));
    if !selected || !affine(spec, name, room) {
        return Some("node(s) didn't match Pod's node affinity/selector");
    }
    if !room.open {
        return Some("node(s) were unschedulable");
    }
    if room.pods_free <= 0 {
        return Some("Too many pods");
    }
    if wanted.cpu_millis > 0 && wanted.cpu_millis > room.free.cpu_millis {
        return Some("Insufficient cpu");
    }
    (wanted.memory_bytes > 0 && wanted.memory_bytes > room.free.memory_bytes).then_some("Insufficient memory")
}

/// Required node affinity, by label or by node name (as a DaemonSet's pods have it).
fn affine(spec: &PodSpec, name: &str, room: &Room) -> bool {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let Some(required) = required else { return true };
    required.node_selector_terms.iter().any(|term| {
        let fields = term.match_fields.iter().flatten();
        let labels = term.match_expressions.iter().flatten();
        fields.into_iter().all(|field| holds(field, (field.key == "metadata.name").then_some(name)))
            && labels.into_iter().all(|label| holds(label, room.labels.get(&label.key).map(String::as_str)))
    })
}

fn holds(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let listed =
        || found.is_some_and(|found| requirement.values.iter().flatten().any(|value| value == found));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        _ => false,
    }
}

fn message(nodes: usize, refusals: &Refusals) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let reasons: Vec<String> = refusals.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}

fn unschedulable(pod: &Pod, message: &str, now: Timestamp) -> Option<Write> {
    let mut status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    if conditions
        .iter()
        .any(|known| known.type_ == "PodScheduled" && known.message.as_deref() == Some(message))
    {
        return None;
    }
    let mut conditions: Vec<Value> = conditions
        .iter()
        .filter(|known| known.type_ != "PodScheduled")
        .filter_map(|known| serde_json::to_value(known).ok())
        .collect();
    conditions.push(json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": Timestamp::from_second(now.as_second()).unwrap_or(now),
    }));
    Some(Write::status(Kind::Pod, &pod.metadata, &json!({ "phase": "Pending", "conditions": conditions })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(free: &[(&str, i64)]) -> BTreeMap<String, Room> {
        let one = |cpu_millis| Room {
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            allocatable: Amounts { cpu_millis: 1000, memory_bytes: 1000 },
            free: Amounts { cpu_millis, memory_bytes: 1000 },
            pods_free: 10,
            open: true,
        };
        free.iter().map(|(name, cpu)| ((*name).to_owned(), one(*cpu))).collect()
    }

    fn spec(cpu: &str, extra: Value) -> PodSpec {
        let mut spec = json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn on_node(name: &str) -> Value {
        let field = json!({"key": "metadata.name", "operator": "In", "values": [name]});
        let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
    }

    #[test]
    fn the_node_with_most_room_is_taken() {
        let rooms = rooms(&[("a", 300), ("b", 600), ("c", 600)]);
        let cases = [
            (spec("100m", json!({})), Ok("b")),
            (spec("100m", on_node("a")), Ok("a")),
            (spec("100m", json!({"nodeSelector": {"zone": "a"}})), Ok("b")),
            (spec("0", json!({})), Ok("b")),
            (spec("700m", json!({})), Err("0/3 nodes are available: 3 Insufficient cpu.")),
            (
                spec("500m", on_node("a")),
                Err(
                    "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector.",
                ),
            ),
        ];
        for (spec, expected) in cases {
            let placed = place(&spec, &rooms).map_err(|refusals| message(3, &refusals));
            assert_eq!(placed.as_deref().map_err(String::as_str), expected);
        }
        assert_eq!(message(0, &Refusals::new()), "no nodes available to schedule pods");
    }
}
