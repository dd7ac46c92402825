use proptest::prelude::*;
use serde_json::{Value, json};
use vpa_api::limit_range::LimitRange;
use vpa_api::pod::Pod;
use vpa_api::{Quantity, VerticalPodAutoscaler};

use super::*;

fn vpa(spec: Value, recommendations: Value) -> VerticalPodAutoscaler {
    let object = json!({
        "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler", "metadata": { "name": "web" },
        "spec": spec, "status": { "recommendation": { "containerRecommendations": recommendations } },
    });
    serde_json::from_value(object).unwrap()
}

fn pod(containers: Value) -> Pod {
    serde_json::from_value(json!({ "spec": { "containers": containers } })).unwrap()
}

fn limits(items: Value) -> LimitRanges {
    let object: LimitRange =
        serde_json::from_value(json!({ "metadata": { "name": "l" }, "spec": { "limits": items } })).unwrap();
    LimitRanges::merge([&object])
}

#[test]
fn a_limit_range_on_pods_keeps_bounds_in_order() {
    // kubernetes/autoscaler 8776, 9935: the target stays above an upper bound that was scaled further, and the pod is
    // evicted for ever.
    let recommendation = json!([{
        "containerName": "main", "lowerBound": { "cpu": "100m" }, "target": { "cpu": "1" }, "upperBound": { "cpu": "8" },
    }, {
        "containerName": "side", "lowerBound": { "cpu": "100m" }, "target": { "cpu": "1" }, "upperBound": { "cpu": "64" },
    }]);
    let container = |name: &str| json!({ "name": name, "resources": { "requests": { "cpu": "1" }, "limits": { "cpu": "1" } } });
    let pod = pod(json!([container("main"), container("side")]));
    let processed = process(
        &vpa(json!({}), recommendation),
        &pod,
        &limits(json!([{ "type": "Pod", "max": { "cpu": "2" } }])),
    )
    .unwrap();
    for container in &processed.containers {
        let at = |list: &Option<vpa_api::ResourceList>| list.as_ref().unwrap()["cpu"].clone();
        let target = &container.target["cpu"];
        assert!(
            at(&container.lower_bound) <= *target && *target <= at(&container.upper_bound),
            "{container:?}"
        );
    }
    assert_eq!(processed.containers[0].target["cpu"].to_string(), "1");
    assert_eq!(processed.containers[0].upper_bound.as_ref().unwrap()["cpu"].to_string(), "1");
}

#[test]
fn what_is_recommended_is_never_scaled_away() {
    // kubernetes/autoscaler 7726: no zero, and no resource that was not recommended.
    let recommendation = json!([
        { "containerName": "main", "target": { "memory": "1" } },
        { "containerName": "side", "target": { "memory": "1Gi", "cpu": "1" } },
    ]);
    let container = |name: &str| json!({ "name": name, "resources": { "requests": { "memory": "1Gi", "cpu": "1" }, "limits": { "memory": "1Gi", "cpu": "1" } } });
    let pod = pod(json!([container("main"), container("side")]));
    let bounds = limits(json!([{ "type": "Pod", "max": { "memory": "1Mi", "cpu": "100m" } }]));
    let processed = process(&vpa(json!({}), recommendation), &pod, &bounds).unwrap();
    assert_eq!(processed.containers[0].target.keys().collect::<Vec<_>>(), ["memory"]);
    assert_eq!(processed.containers[0].target["memory"].to_string(), "1");
    assert_eq!(processed.containers[1].target["cpu"].to_string(), "100m");
}

#[test]
fn modes_mean_what_they_say() {
    for (text, expected) in [
        (None, Mode::Recreate),
        (Some(""), Mode::Recreate),
        (Some("Auto"), Mode::Recreate),
        (Some("InPlaceOnly"), Mode::InPlace),
        (Some("InPlace"), Mode::InPlace),
        (Some("Sometimes"), Mode::Unknown),
    ] {
        let spec = text.map_or(json!({}), |text| json!({ "updatePolicy": { "updateMode": text } }));
        let found = mode(&vpa(spec, json!([])));
        assert_eq!(found, expected, "{text:?}");
        assert_eq!(found.evicts(), expected == Mode::Recreate, "{text:?}");
    }
}

fn quantity() -> impl Strategy<Value = Quantity> {
    let suffix = proptest::sample::select(&["", "m", "u", "k", "M", "Gi", "E", "Ei", "e3"][..]);
    (0u64..=u64::MAX, 0u32..64, suffix)
        .prop_map(|(number, shift, suffix)| Quantity::parse(&format!("{}{suffix}", number >> shift)).unwrap())
}

proptest! {
    #[test]
    fn a_scaled_limit_is_never_negative_and_keeps_the_proportion(
        limit in quantity(), request in quantity(), target in quantity(),
        resource in proptest::sample::select(&["cpu", "memory"][..]),
    ) {
        let (scaled, note) = proportional_limit(resource, Some(&limit), Some(&request), Some(&target), None);
        let Some(scaled) = scaled else { return Ok(()) };
        prop_assert!(scaled.signum() >= 0);
        if note.is_some() {
            prop_assert!(scaled.signum() > 0);
        } else if limit >= request && !request.is_zero() {
            // Rounding of the inputs moves the result by less than one unit in proportion to them.
            let unit = Quantity::from_milli(if resource == "cpu" { 1 } else { 1000 }, vpa_api::quantity::Format::DecimalSi);
            let mut above = scaled.clone();
            above.add(&unit);
            prop_assert!(above >= target, "limit {scaled} below request {target}");
        }
    }
}
