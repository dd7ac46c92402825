use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use vpa_api::VerticalPodAutoscaler;

use super::*;
use crate::policy::LimitRanges;
use crate::target::{Controller, Lookup, Selector, VpaIndex};

struct NoLimits;

impl LimitRangeSource for NoLimits {
    fn limit_ranges(&self, _: &str) -> Arc<LimitRanges> {
        Arc::default()
    }
}

fn key() -> ControllerKey {
    ControllerKey {
        namespace: "ns".into(),
        api_version: "apps/v1".into(),
        kind: "StatefulSet".into(),
        name: "web".into(),
    }
}

fn controllers() -> BTreeMap<ControllerKey, Lookup> {
    let controller = Controller {
        key: key(),
        uid: None,
        owner: None,
        selector: Ok(Selector::All([].into())),
        replicas: None,
        containers: None,
    };
    BTreeMap::from([(key(), Lookup::Found(Arc::new(controller)))])
}

fn vpa(mode: &str) -> VerticalPodAutoscaler {
    let object = json!({
        "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler",
        "metadata": { "name": "web", "namespace": "ns" },
        "spec": {
            "targetRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web" },
            "updatePolicy": { "updateMode": mode },
        },
        "status": { "recommendation": { "containerRecommendations": [
            { "containerName": "main", "target": { "cpu": "250m", "memory": "200M" } },
        ] } },
    });
    serde_json::from_value(object).unwrap()
}

fn decide(
    review: &Value,
    vpas: Vec<VerticalPodAutoscaler>,
    controllers: &BTreeMap<ControllerKey, Lookup>,
) -> Decision {
    let body = serde_json::to_vec(review).unwrap();
    let request = decode(&body).unwrap();
    let config = Config {
        gates: Gates { in_place: true, per_vpa_config: true, cpu_startup_boost: true },
        max_allowed_cpu_boost: None,
    };
    let index = VpaIndex::new(vpas.into_iter().map(Arc::new));
    let snapshot =
        Snapshot { vpas: &index, controllers, limit_ranges: &NoLimits, surroundings: None, config: &config };
    review_of(&request, &snapshot)
}

use super::review as review_of;

fn pod_review(containers: Value) -> Value {
    json!({ "request": {
        "uid": "u", "operation": "CREATE", "namespace": "ns", "name": "web-0",
        "resource": { "group": "", "version": "v1", "resource": "pods" },
        "requestKind": { "group": "", "version": "v1", "kind": "Pod" },
        "object": {
            "metadata": { "name": "web-0", "namespace": "ns", "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "w", "controller": true },
            ] },
            "spec": { "containers": containers },
        },
    } })
}

fn patched(review: &Value, decision: &Decision) -> Value {
    let mut object = review["request"]["object"].clone();
    let patch: json_patch::Patch = serde_json::from_value(json!(decision.patches)).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    object
}

#[test]
fn a_pod_gets_its_recommendation() {
    let review = pod_review(
        json!([{ "name": "main", "resources": { "requests": { "cpu": "100m" }, "limits": { "cpu": "1" } } }]),
    );
    let decision = decide(&review, vec![vpa("Initial")], &controllers());
    assert_eq!(decision.report.vpa.as_deref(), Some("web"));
    let pod = patched(&review, &decision);
    let expected = json!({ "requests": { "cpu": "250m", "memory": "200M" }, "limits": { "cpu": "2500m" } });
    assert_eq!(pod["spec"]["containers"][0]["resources"], expected);
    assert_eq!(pod["metadata"]["annotations"]["vpaObservedContainers"], "main");
}

#[test]
fn resource_claims_survive() {
    let claims = json!([{ "name": "gpu" }]);
    let review = pod_review(json!([{ "name": "main", "resources": { "claims": claims } }]));
    let pod = patched(&review, &decide(&review, vec![vpa("Initial")], &controllers()));
    let resources = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(resources["claims"], claims);
    assert_eq!(resources["requests"]["cpu"], "250m");
}

#[test]
fn mode_off_and_other_operations_change_nothing() {
    let review = pod_review(json!([{ "name": "main" }]));
    assert!(decide(&review, vec![vpa("Off")], &controllers()).patches.is_empty());
    for (field, value) in [("operation", "UPDATE"), ("subResource", "eviction")] {
        let mut review = review.clone();
        review["request"][field] = value.into();
        let decision = decide(&review, vec![vpa("Initial")], &controllers());
        assert!(decision.allowed() && decision.patches.is_empty(), "{field}={value}");
    }
}

#[test]
fn a_controller_that_is_not_there_yet_is_asked_for() {
    let review = pod_review(json!([{ "name": "main" }]));
    for lookup in [Lookup::Pending, Lookup::NotFound] {
        let decision = decide(&review, vec![vpa("Initial")], &BTreeMap::from([(key(), lookup)]));
        assert!(decision.allowed() && decision.patches.is_empty());
        assert_eq!(decision.report.outcome, Outcome::Pending(key()));
    }
}

fn vpa_review(operation: &str, object: Value) -> Value {
    json!({ "request": {
        "uid": "u", "operation": operation, "namespace": "ns", "name": "web", "object": object,
        "resource": { "group": "autoscaling.k8s.io", "version": "v1", "resource": "verticalpodautoscalers" },
        "requestKind": { "kind": "VerticalPodAutoscaler" },
    } })
}

#[test]
fn a_vpa_that_cannot_be_read_is_refused_with_the_path() {
    for (object, path) in [
        (
            json!({ "spec": { "updatePolicy": { "minReplicas": "two" } } }),
            "object.spec.updatePolicy.minReplicas",
        ),
        (json!({ "spec": { "resourcePolicy": [] } }), "object.spec.resourcePolicy"),
        (json!({ "spec": { "resourcePolicy": { "containerPolicies": [[]] } } }), "containerPolicies[0]"),
        (
            json!({ "spec": { "resourcePolicy": { "containerPolicies": [{ "minAllowed": { "cpu": "lots" } }] } } }),
            "containerPolicies[0].minAllowed.cpu",
        ),
    ] {
        let decision = decide(&vpa_review("CREATE", object), vec![], &controllers());
        let message = decision.denial.as_ref().map(Denial::message).unwrap_or_default();
        assert!(message.contains(path), "{message:?} does not name {path:?}");
    }
}

#[test]
fn both_names_of_in_place_are_taken_and_deletion_is_allowed() {
    for mode in ["InPlace", "InPlaceOnly"] {
        let object = json!({ "spec": { "updatePolicy": { "updateMode": mode } } });
        let decision = decide(&vpa_review("CREATE", object), vec![], &controllers());
        assert!(decision.allowed() && decision.patches.is_empty(), "{mode}: {decision:?}");
    }
    assert!(decide(&vpa_review("DELETE", Value::Null), vec![], &controllers()).allowed());
}

#[test]
fn equal_texts_stand_in_the_message_once() {
    let error = FieldError::required("spec.a", "");
    let denial = |causes| Denial { group: "g".into(), kind: "K".into(), name: "n".into(), causes };
    assert_eq!(
        denial(vec![error.clone(), error.clone()]).message(),
        "K.g \"n\" is invalid: spec.a: Required value"
    );
    let other = FieldError::forbidden("spec.b", "no");
    assert_eq!(
        denial(vec![error, other]).message(),
        "K.g \"n\" is invalid: [spec.a: Required value, spec.b: Forbidden: no]"
    );
}

/// Any JSON, mostly with the names and words that occur in reviews.
pub(super) fn any_json() -> impl Strategy<Value = Value> {
    const WORDS: [&str; 24] = [
        "",
        "cpu",
        "memory",
        "100m",
        "1Gi",
        "-1",
        "9223372036854775807",
        "1e30",
        "0",
        "Off",
        "InPlace",
        "Factor",
        "Quantity",
        "main",
        "web",
        "ns",
        "StatefulSet",
        "apps/v1",
        "v1",
        "CREATE",
        "UPDATE",
        "pods",
        "*",
        "lots",
    ];
    const NAMES: [&str; 27] = [
        "request",
        "object",
        "oldObject",
        "metadata",
        "annotations",
        "ownerReferences",
        "spec",
        "containers",
        "name",
        "namespace",
        "resources",
        "requests",
        "limits",
        "status",
        "containerStatuses",
        "resourcePolicy",
        "containerPolicies",
        "minAllowed",
        "maxAllowed",
        "cpu",
        "memory",
        "updatePolicy",
        "updateMode",
        "startupBoost",
        "factor",
        "type",
        "quantity",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(&WORDS[..]).prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let name = prop_oneof![4 => proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), 1 => ".{0,4}".prop_map(String::from)];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Puts `value` at a path of the object, as far as the path is there.
fn put(object: &mut Value, path: &str, value: Value) {
    if let Some(place) = object.pointer_mut(path) {
        *place = value;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_body_makes_the_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&body);
    }

    #[test]
    fn no_review_panics_and_each_patch_applies(
        part in any_json(),
        place in proptest::sample::select(&[
            "", "/request", "/request/object", "/request/object/metadata", "/request/object/spec",
            "/request/object/spec/containers", "/request/object/spec/containers/0",
            "/request/object/spec/containers/0/resources", "/request/object/spec/containers/0/resources/requests",
        ][..]),
        recommendation in any_json(),
    ) {
        let mut review = pod_review(json!([{ "name": "main", "resources": { "requests": { "cpu": "1" } } }]));
        put(&mut review, place, part);
        let mut vpa_object = json!(vpa("Initial"));
        put(&mut vpa_object, "/status/recommendation/containerRecommendations/0/target", recommendation);
        let vpa = serde_json::from_value(vpa_object).unwrap_or_else(|_| vpa("Initial"));
        if decode(&serde_json::to_vec(&review).unwrap()).is_ok() {
            let decision = decide(&review, vec![vpa], &controllers());
            prop_assert!(decision.allowed());
            if !decision.patches.is_empty() {
                let mut object = review["request"]["object"].clone();
                let patch: json_patch::Patch = serde_json::from_value(json!(decision.patches)).unwrap();
                prop_assert!(json_patch::patch(&mut object, &patch).is_ok(), "{:?} on {}", decision.patches, review);
            }
        }
    }

    #[test]
    fn no_vpa_makes_validation_panic(spec in any_json(), old in any_json(), operation in proptest::sample::select(&["CREATE", "UPDATE"][..])) {
        let mut review = vpa_review(operation, json!({ "spec": spec }));
        review["request"]["oldObject"] = json!({ "spec": old });
        let decision = decide(&review, vec![], &controllers());
        prop_assert!(decision.denial.is_none_or(|denial| !denial.causes.is_empty()));
    }
}

/// Found by fuzzing: a status with negative amounts, which the API server does not look at, led to a negative request,
/// for which it would have refused the pod.
#[test]
fn a_pod_is_never_given_a_negative_amount() {
    let mut review = pod_review(json!([{ "name": "main", "resources": {
        "limits": { "cpu": "1", "memory": "2621" }, "requests": { "cpu": "1" } } }]));
    let status = json!({ "containerStatuses": [{ "name": "main", "resources": {
        "limits": { "cpu": "7", "memory": "-522m" }, "requests": { "cpu": "331m", "memory": "1e9" } } }] });
    review["request"]["object"]["status"] = status;
    let decision = decide(&review, vec![vpa("Initial")], &controllers());
    assert!(decision.allowed());
    for patch in &decision.patches {
        assert!(!patch.value.as_str().unwrap_or_default().starts_with('-'), "{patch:?}");
    }
}
