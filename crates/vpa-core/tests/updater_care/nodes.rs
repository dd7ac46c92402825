//! The node is looked at before a resize is sent to it.

use std::collections::BTreeMap;

use serde_json::json;
use vpa_core::update::{Action, FallbackReason, Reason};

use crate::updater_world::vpa;
use crate::updater_world::world::{Nodes, World, changed, cpu_after, pods, reason, words};

/// Two pods with `cpu_m` on a node that has 150m for pods; 200m are recommended.
fn world(mode: &str, cpu_m: i64) -> World {
    let mut world =
        World::new(mode, 200, changed(pods(2, cpu_m), |pod| pod.spec.node_name = Some("small".to_owned())));
    let allocatable = serde_json::from_value(json!({ "cpu": "150m", "memory": "1Gi" })).unwrap();
    world.nodes = Nodes(BTreeMap::from([("small".to_owned(), allocatable)]));
    world
}

#[test]
fn in_place_or_recreate_evicts_what_can_never_fit() {
    let (steps, _) = world("InPlaceOrRecreate", 100).pass_done(1);
    let fallback = Action::Evict { fallback: Some(FallbackReason::NodeTooSmall) };
    assert!(matches!(steps.as_slice(), [step] if step.action == fallback));
    assert_eq!(cpu_after(&steps[0]), "200m");
}

#[test]
fn in_place_waits_until_less_is_recommended() {
    let mut world = world("InPlace", 100);
    for _ in 0..3 {
        let (steps, report) = world.pass_done(1);
        assert!(steps.is_empty());
        assert_eq!(words(&report), ["NodeTooSmall"; 2]);
        let Reason::NodeTooSmall(too_large) = reason(&report) else { panic!() };
        let text = [too_large.requested.to_string(), too_large.allocatable.to_string()];
        assert_eq!(
            (too_large.node.as_str(), too_large.resource, text),
            ("small", "cpu", ["200m", "150m"].map(str::to_owned))
        );
    }
    world.vpas = vec![vpa("w", "InPlace", 140)];
    assert_eq!(world.pass_done(1).0.len(), 1);
}

#[test]
fn in_place_sends_once_the_node_has_grown() {
    let mut world = world("InPlace", 100);
    assert!(world.pass_done(1).0.is_empty());
    world.nodes.0.get_mut("small").unwrap().insert("cpu".into(), vpa_api::Quantity::parse("4").unwrap());
    assert_eq!(world.pass_done(1).0.len(), 1);
}

#[test]
fn a_node_that_is_not_known_is_asked() {
    for mode in ["InPlace", "InPlaceOrRecreate"] {
        let mut world = world(mode, 100);
        world.nodes = Nodes::default();
        let (steps, _) = world.pass_done(1);
        assert!(matches!(steps.as_slice(), [step] if matches!(step.action, Action::Resize { .. })));
    }
}

/// A pod that is too large already may shrink, however little the node has.
#[test]
fn a_resize_to_less_is_always_sent() {
    let (steps, _) = world("InPlace", 300).pass_done(1);
    assert_eq!(cpu_after(&steps[0]), "200m");
}

/// A step that fits goes ahead, although the whole recommendation would not fit.
#[test]
fn a_small_step_is_measured_not_the_whole_way() {
    let mut world = world("InPlace", 100).with(|config| config.max_step.up = Some(0.25));
    let (steps, _) = world.pass_done(1);
    assert_eq!(cpu_after(&steps[0]), "125m");
}
