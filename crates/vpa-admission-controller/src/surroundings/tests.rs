use serde_json::{Value, json};

use super::*;

fn autoscaler(name: &str, target: &str, metrics: Value, owners: Value) -> Arc<StoredAutoscaler> {
    let object = json!({
        "metadata": { "name": name, "namespace": "ns", "resourceVersion": "1", "ownerReferences": owners },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": target },
            "maxReplicas": 5, "metrics": metrics,
        },
    });
    Arc::new(serde_json::from_str(&object.to_string()).unwrap())
}

fn scaled_on(metrics: Value) -> Vec<(&'static str, Option<String>)> {
    let stored = autoscaler("a", "web", metrics, Value::Null);
    let of =
        |metric: &vpa_core::admit::ScaledOn| (metric.resource, metric.container.as_deref().map(Into::into));
    stored.autoscaler.scaled_on.iter().map(of).collect()
}

#[test]
fn an_autoscaler_is_reduced_to_the_resources_it_scales_on() {
    let utilization = json!({ "type": "Utilization", "averageUtilization": 60 });
    let cases = [
        ("no metrics mean cpu", Value::Null, vec![("cpu", None)]),
        ("as does an empty list", json!([]), vec![("cpu", None)]),
        (
            "a resource of the pod",
            json!([{ "type": "Resource", "resource": { "name": "memory", "target": utilization } }]),
            vec![("memory", None)],
        ),
        (
            "a resource of one container",
            json!([{ "type": "ContainerResource",
                "containerResource": { "name": "cpu", "container": "app", "target": utilization } }]),
            vec![("cpu", Some("app".to_owned()))],
        ),
        (
            "other metrics and other resources",
            json!([
                { "type": "External", "external": { "metric": { "name": "cpu" }, "target": {} } },
                { "type": "Pods", "pods": { "metric": { "name": "queue" }, "target": {} } },
                { "type": "Resource", "resource": { "name": "example.com/gpu", "target": utilization } },
            ]),
            vec![],
        ),
    ];
    for (what, metrics, expected) in cases {
        assert_eq!(scaled_on(metrics), expected, "{what}");
    }
}

#[test]
fn a_scaled_object_is_known_by_kind_and_group() {
    let owner = |api_version: &str, kind: &str| json!([{ "apiVersion": api_version, "kind": kind, "name": "web", "uid": "u", "controller": true }]);
    for (owners, expected) in [
        (owner("keda.sh/v1alpha1", "ScaledObject"), Some("web")),
        (owner("keda.sh/v1alpha1", "ScaledJob"), None),
        (owner("example.com/v1", "ScaledObject"), None),
        (Value::Null, None),
    ] {
        let stored = autoscaler("a", "web", Value::Null, owners);
        assert_eq!(stored.autoscaler.scaled_object.as_deref(), expected);
    }
}

#[test]
fn autoscalers_are_found_by_what_they_scale_now() {
    let index = ByTarget::default();
    let names = |target: &str| -> Vec<String> {
        index.of("ns", "Deployment", target).iter().map(|found| found.name.to_string()).collect()
    };
    let applied = |before: Option<&Arc<StoredAutoscaler>>, now: &Arc<StoredAutoscaler>| {
        index.on_event(&StoreEvent::Applied { before, now });
    };
    let (b, a) =
        (autoscaler("b", "web", Value::Null, Value::Null), autoscaler("a", "web", Value::Null, Value::Null));
    applied(None, &b);
    applied(None, &a);
    assert_eq!(names("web"), ["a", "b"]);
    let moved = autoscaler("b", "api", Value::Null, Value::Null);
    applied(Some(&b), &moved);
    assert_eq!((names("web"), names("api")), (vec!["a".to_owned()], vec!["b".to_owned()]));
    // One that scales on other metrics alone is in nobody's way, and takes no room.
    let external = json!([{ "type": "External", "external": {} }]);
    applied(Some(&moved), &autoscaler("b", "api", external, Value::Null));
    index.on_event(&StoreEvent::Deleted(&a));
    assert!(index.0.read().is_empty());
}

#[test]
fn the_largest_node_is_known_whatever_comes_and_goes() {
    let largest = Largest::default();
    let node = |name: &str, cpu: &str| -> Arc<StoredNode> {
        let status = json!({ "allocatable": { "cpu": cpu } });
        let node = json!({ "metadata": { "name": name }, "status": status }).to_string();
        Arc::new(serde_json::from_str(&node).unwrap())
    };
    let cpu = || largest.largest("cpu").map(|amount| amount.to_string());
    assert_eq!(cpu(), None);
    let (small, large, twin) = (node("a", "2"), node("b", "8"), node("c", "8000m"));
    for now in [&small, &large, &twin] {
        largest.on_event(&StoreEvent::Applied { before: None, now });
    }
    assert_eq!(cpu().as_deref(), Some("8"));
    assert_eq!(largest.largest("memory"), None);
    largest.on_event(&StoreEvent::Deleted(&large));
    assert_eq!(cpu().as_deref(), Some("8"), "its twin is still there");
    largest.on_event(&StoreEvent::Applied { before: Some(&twin), now: &node("c", "4") });
    assert_eq!(cpu().as_deref(), Some("4"));
    largest.on_event(&StoreEvent::Deleted(&node("c", "4")));
    assert_eq!(cpu().as_deref(), Some("2"));
}
