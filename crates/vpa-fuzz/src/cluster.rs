//! The cluster that reviews of any form are decided against.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::{Value, json};
use vpa_api::VerticalPodAutoscaler;
use vpa_api::limit_range::LimitRange;
use vpa_core::policy::LimitRanges;
use vpa_core::target::{Controller, ControllerKey, Lookup, Selector, VpaIndex};

use crate::glue::{self, Cluster};

/// VPAs of each kind that matters on controllers of each kind, in a namespace with limits and in one without. The names are
/// those that the golden reviews use.
pub(crate) static FIXED: LazyLock<Cluster> = LazyLock::new(fixed);

fn fixed() -> Cluster {
    let vpas: Vec<VerticalPodAutoscaler> = parsed(vpas());
    let mut limit_ranges = BTreeMap::new();
    limit_ranges
        .insert("default".to_owned(), Arc::new(LimitRanges::merge(&parsed::<Vec<LimitRange>>(limits()))));
    Cluster {
        vpas: VpaIndex::new(vpas.into_iter().map(Arc::new)),
        controllers: controllers(),
        limit_ranges,
        config: glue::config(true, true, true, vpa_api::Quantity::parse("6").ok()),
    }
}

/// A VPA with the given name, target, spec and recommendations.
fn vpa(namespace: &str, name: &str, kind: &str, spec: Value, recommendations: Value) -> Value {
    let mut spec = spec;
    spec["targetRef"] = json!({ "apiVersion": "apps/v1", "kind": kind, "name": name });
    json!({
        "metadata": { "namespace": namespace, "name": format!("{name}-vpa") },
        "spec": spec,
        "status": { "recommendation": { "containerRecommendations": recommendations } },
    })
}

fn vpas() -> Value {
    let recommendations = json!([
        { "containerName": "main", "lowerBound": { "cpu": "100m", "memory": "128Mi" },
          "target": { "cpu": "250m", "memory": "200M" }, "upperBound": { "cpu": "3", "memory": "1500Mi" } },
        { "containerName": "sidecar", "target": { "cpu": "17m", "memory": "77777777" } },
        { "containerName": "c", "target": { "cpu": "1500m", "memory": "3Gi" } },
    ]);
    let policies = json!({ "containerPolicies": [
        { "containerName": "main", "minAllowed": { "cpu": "333m" }, "maxAllowed": { "memory": "180M" },
          "startupBoost": { "cpu": { "type": "Factor", "factor": 3 } } },
        { "containerName": "*", "controlledValues": "RequestsOnly" },
        { "containerName": "off", "mode": "Off" },
    ] });
    let boost = json!({ "cpu": { "type": "Quantity", "quantity": "700m" } });
    let of = |namespace, name, kind, spec| vpa(namespace, name, kind, spec, recommendations.clone());
    json!([
        of("default", "web", "StatefulSet", json!({ "resourcePolicy": policies, "startupBoost": boost })),
        of("default", "web", "Deployment", json!({ "updatePolicy": { "updateMode": "InPlace" } })),
        of(
            "default",
            "db",
            "StatefulSet",
            json!({ "updatePolicy": { "updateMode": "Off" }, "startupBoost": boost })
        ),
        of("default", "train", "Training", json!({ "updatePolicy": { "updateMode": "Initial" } })),
        of("plain", "web", "StatefulSet", json!({ "startupBoost": boost })),
        of("plain", "web", "Deployment", json!({ "resourcePolicy": policies })),
    ])
}

fn limits() -> Value {
    json!([{
        "metadata": { "name": "limits", "namespace": "default" },
        "spec": { "limits": [
            { "type": "Container", "min": { "cpu": "20m", "memory": "16Mi" }, "max": { "cpu": "4", "memory": "2Gi" },
              "default": { "cpu": "500m", "memory": "512Mi" } },
            { "type": "Pod", "max": { "cpu": "6", "memory": "3Gi" } },
        ] },
    }])
}

fn key(namespace: &str, kind: &str, name: &str) -> ControllerKey {
    let api_version = if kind == "Training" { "ml.example.com/v1" } else { "apps/v1" };
    ControllerKey {
        namespace: namespace.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

fn controllers() -> BTreeMap<ControllerKey, Lookup> {
    let found = |key: &ControllerKey, owner: Option<ControllerKey>, selector: &str| {
        Lookup::Found(Arc::new(Controller {
            key: key.clone(),
            uid: None,
            owner,
            selector: Selector::parse(selector),
            replicas: Some(3),
            containers: Some(vec!["main".to_owned(), "sidecar".to_owned()]),
        }))
    };
    let mut controllers = BTreeMap::new();
    for namespace in ["default", "plain"] {
        for (kind, name, owner, selector) in [
            ("StatefulSet", "web", None, "app=web"),
            ("StatefulSet", "db", None, "app in (db, web)"),
            ("Deployment", "web", None, "app=web,!canary"),
            ("ReplicaSet", "web-1", Some(("Deployment", "web")), "app=web"),
            ("Training", "train", None, "app=web"),
            ("Job", "train-1", Some(("Training", "train")), "app=web"),
            ("ReplicaSet", "loop", Some(("ReplicaSet", "loop")), "app=web"),
        ] {
            let key_of = |(kind, name): (&str, &str)| key(namespace, kind, name);
            let own = key_of((kind, name));
            let lookup = found(&own, owner.map(key_of), selector);
            controllers.insert(own, lookup);
        }
        controllers.insert(key(namespace, "Job", "soon"), Lookup::Pending);
        controllers.insert(key(namespace, "Secretive", "web"), Lookup::Forbidden);
    }
    controllers
}

/// A cluster with the one controller `StatefulSet/web` in `default`, whose pods have any labels.
pub(crate) fn with(
    vpa: VerticalPodAutoscaler,
    limits: LimitRanges,
    config: vpa_core::admit::Config,
) -> Cluster {
    let own = key("default", "StatefulSet", "web");
    let controller = Controller {
        key: own.clone(),
        uid: None,
        owner: None,
        selector: Ok(Selector::All([].into())),
        replicas: None,
        containers: None,
    };
    Cluster {
        vpas: VpaIndex::new([Arc::new(vpa)]),
        controllers: BTreeMap::from([(own, Lookup::Found(Arc::new(controller)))]),
        limit_ranges: BTreeMap::from([("default".to_owned(), Arc::new(limits))]),
        config,
    }
}

/// Makes a VPA and a pod belong to `StatefulSet/web` in `default`. Nothing where they have no place for that.
pub(crate) fn bind(vpa: &mut Value, pod: &mut Value) -> Option<()> {
    let target = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web" });
    vpa.get_mut("spec")?.as_object_mut()?.insert("targetRef".to_owned(), target);
    let metadata = vpa.as_object_mut()?.entry("metadata").or_insert_with(|| json!({}));
    metadata.as_object_mut()?.insert("namespace".to_owned(), "default".into());
    let owner = json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "w", "controller": true }]);
    let metadata = pod.as_object_mut()?.entry("metadata").or_insert_with(|| json!({}));
    let metadata = metadata.as_object_mut()?;
    metadata.insert("ownerReferences".to_owned(), owner);
    metadata.insert("namespace".to_owned(), "default".into());
    Some(())
}

/// Of the JSON above, which has the right form; the tests would notice a cluster without objects.
fn parsed<T: for<'de> Deserialize<'de> + Default>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpa_core::target::VpaSource;

    #[test]
    fn the_fixed_cluster_is_complete() {
        let cluster = fixed();
        for (namespace, kind, name) in [
            ("default", "StatefulSet", "web"),
            ("default", "Training", "train"),
            ("plain", "Deployment", "web"),
        ] {
            assert_eq!(cluster.vpas.targeting(namespace, kind, name).len(), 1, "{namespace} {kind}/{name}");
        }
        assert!(
            cluster.limit_ranges["default"].container.is_some()
                && cluster.limit_ranges["default"].pod.is_some()
        );
        assert!(cluster.config.max_allowed_cpu_boost.is_some());
        assert!(cluster.controllers.len() > 12);
    }
}
