use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::*;

fn key(kind: &str, name: &str) -> ControllerKey {
    let api_version = WellKnown::from_kind(kind).map_or("example.com/v1", WellKnown::api_version);
    ControllerKey {
        namespace: "ns".into(),
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
    }
}

fn found(kind: &str, name: &str, owner: Option<ControllerKey>) -> (ControllerKey, Lookup) {
    let controller = Controller {
        key: key(kind, name),
        uid: None,
        owner,
        selector: Ok(Selector::All([].into())),
        replicas: None,
        containers: None,
    };
    (key(kind, name), Lookup::Found(Arc::new(controller)))
}

fn owned_by(kind: &str, name: &str) -> Vec<OwnerReference> {
    let key = key(kind, name);
    vec![OwnerReference {
        api_version: key.api_version,
        kind: key.kind,
        name: key.name,
        controller: Some(true),
        ..Default::default()
    }]
}

fn top(
    source: &BTreeMap<ControllerKey, Lookup>,
    kind: &str,
    name: &str,
) -> Result<Option<String>, ChainError> {
    topmost(source, "ns", &owned_by(kind, name)).map(|top| top.map(|controller| controller.key.to_string()))
}

#[test]
fn the_chain_is_followed_to_its_top() {
    let source = BTreeMap::from([
        found("ReplicaSet", "rs", Some(key("Deployment", "d"))),
        found("Deployment", "d", None),
        found("Job", "j", Some(key("Widget", "w"))),
        (key("Widget", "w"), Lookup::NotFound),
        found("StatefulSet", "a", Some(key("StatefulSet", "b"))),
        found("StatefulSet", "b", Some(key("StatefulSet", "a"))),
        found("DaemonSet", "ds", Some(key("Gadget", "g"))),
        (key("Gadget", "g"), Lookup::Forbidden),
    ]);
    assert_eq!(top(&source, "ReplicaSet", "rs"), Ok(Some("Deployment ns/d".into())));
    assert_eq!(top(&source, "Job", "j"), Ok(Some("Job ns/j".into())));
    assert_eq!(top(&source, "Widget", "w"), Ok(None));
    assert_eq!(top(&source, "Node", "n"), Ok(None));
    assert_eq!(top(&source, "StatefulSet", "a"), Err(ChainError::Cycle(key("StatefulSet", "a"))));
    assert_eq!(top(&source, "DaemonSet", "ds"), Err(ChainError::Forbidden(key("Gadget", "g"))));
    assert_eq!(top(&source, "ReplicaSet", "gone"), Err(ChainError::Missing(key("ReplicaSet", "gone"))));
}

#[test]
fn an_endless_chain_is_cut() {
    struct Endless;
    impl ControllerSource for Endless {
        fn get(&self, key: &ControllerKey) -> Lookup {
            let owner = ControllerKey { name: format!("{}x", key.name), ..key.clone() };
            let mut found = found(&key.kind, &key.name, Some(owner)).1;
            if let Lookup::Found(controller) = &mut found {
                Arc::make_mut(controller).key = key.clone();
            }
            found
        }
    }
    let result = topmost(&Endless, "ns", &owned_by("Deployment", "d"));
    assert!(matches!(result, Err(ChainError::TooLong(_))), "{result:?}");
}

#[test]
fn an_owner_without_controller_is_none() {
    let mut owners = owned_by("Deployment", "d");
    owners[0].controller = None;
    assert_eq!(topmost(&BTreeMap::new(), "ns", &owners), Ok(None));
}

#[test]
fn selectors_from_text() {
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "x".to_owned())]);
    for (text, expected) in [
        ("app=web", Some(true)),
        ("app==web,tier=y", Some(false)),
        ("tier in (x,y),app notin (nope),!gone,app", Some(true)),
        (" app = web , ! gone ", Some(true)),
        ("gone notin (a)", Some(true)),
        ("gone in (a)", Some(false)),
        ("!app", Some(false)),
        ("app=", Some(false)),
        ("example.com/app=web", Some(false)),
        ("", None),
        ("app!=web", None),
        ("app>1", None),
        ("a=(b", None),
        ("app=web,", None),
        ("app in ()", Some(false)),
        ("app in (a", None),
        ("-bad-=x", None),
        ("app web", None),
        ("=", None),
    ] {
        let selector = Selector::parse(text);
        assert_eq!(selector.as_ref().ok().map(|s| s.matches(&labels)), expected, "{text:?}: {selector:?}");
    }
}

#[test]
fn a_namespace_has_vpas_as_long_as_one_is_left() {
    let vpa = |name: &str, target: &str| -> Arc<vpa_api::VerticalPodAutoscaler> {
        let object = serde_json::json!({
            "metadata": { "name": name, "namespace": "ns" },
            "spec": { "targetRef": { "kind": "Deployment", "name": target } },
        });
        Arc::new(serde_json::from_value(object).unwrap())
    };
    let mut index = VpaIndex::default();
    assert!(!index.any_in("ns"));
    index.insert(vpa("a", "d"));
    index.insert(vpa("a", "d"));
    index.insert(vpa("b", "d"));
    assert!(index.any_in("ns") && !index.any_in("other"));
    index.remove(&vpa("a", "d"));
    index.remove(&vpa("a", "d"));
    assert!(index.any_in("ns"), "b is left");
    index.remove(&vpa("b", "d"));
    assert!(!index.any_in("ns"));
    assert!(index.targeting("ns", "Deployment", "d").is_empty());
}
