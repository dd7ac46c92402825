//! Objects as the Go suite and its users write them.

use serde_json::{Value, json};

use super::*;

fn read(object: &Value) -> VerticalPodAutoscaler {
    serde_json::from_value(object.clone()).unwrap()
}

#[test]
fn every_field_survives() {
    let boost = json!({"cpu": {"type": "Factor", "factor": 3, "durationSeconds": 30}});
    let amounts = json!({"cpu": "1.500", "memory": "256Mi"});
    let object = json!({
        "apiVersion": "autoscaling.k8s.io/v1",
        "kind": "VerticalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop", "generation": 3},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "updatePolicy": {
                "updateMode": "InPlaceOrRecreate",
                "minReplicas": 1,
                "evictionRequirements": [{"resources": ["cpu"], "changeRequirement": "TargetHigherThanRequests"}],
                "evictAfterOOMSeconds": 60,
            },
            "resourcePolicy": {"containerPolicies": [{
                "containerName": "*",
                "mode": "Auto",
                "minAllowed": amounts,
                "maxAllowed": amounts,
                "controlledResources": [],
                "controlledValues": "RequestsOnly",
                "oomBumpUpRatio": "1500m",
                "oomMinBumpUp": "100Mi",
                "memoryAggregationIntervalSeconds": 3600,
                "memoryAggregationIntervalCount": 8,
                "startupBoost": {"cpu": {"type": "Quantity", "quantity": "2"}},
            }]},
            "recommenders": [{"name": "night"}],
            "startupBoost": boost,
        },
        "status": {
            "recommendation": {"containerRecommendations": [{
                "containerName": "app",
                "target": amounts,
                "lowerBound": amounts,
                "upperBound": amounts,
                "uncappedTarget": amounts,
            }]},
            "conditions": [{
                "type": "RecommendationProvided",
                "status": "True",
                "lastTransitionTime": "2026-08-15T12:00:00Z",
                "reason": "r",
                "message": "m",
                "observedGeneration": 3,
            }],
            "observedGeneration": 3,
        },
    });
    assert_eq!(serde_json::to_value(read(&object)).unwrap(), object);
}

#[test]
fn unknown_values_are_kept_as_they_were() {
    let vpa = read(&json!({
        "metadata": {"name": "web"},
        "spec": {"targetRef": null, "updatePolicy": {"updateMode": "Sideways"}},
    }));
    let policy = vpa.spec.update_policy.as_ref().unwrap();
    assert_eq!(policy.update_mode, Some(UpdateMode::Unknown("Sideways".to_owned())));
    let written = serde_json::to_value(&vpa).unwrap();
    assert_eq!(written["spec"], json!({"targetRef": null, "updatePolicy": {"updateMode": "Sideways"}}));
}

#[test]
fn nulls_and_gaps_are_read_as_go_reads_them() {
    let vpa = read(&json!({
        "metadata": {"name": "web"},
        "spec": {
            "updatePolicy": {"updateMode": null, "minReplicas": null, "evictionRequirements": [{"resources": null}]},
            "resourcePolicy": {"containerPolicies": [{"minAllowed": null, "maxAllowed": {"cpu": 2, "memory": null}}]},
            "recommenders": [{}],
            "startupBoost": {"cpu": {}},
        },
        "status": {
            "recommendation": {"containerRecommendations": [{"target": null}]},
            "conditions": [{"lastTransitionTime": null}],
        },
    }));
    assert_eq!(vpa.spec.startup_boost.unwrap().cpu.unwrap().kind.as_str(), "");
    let policies = vpa.spec.resource_policy.unwrap().container_policies.unwrap();
    assert_eq!(policies[0].max_allowed.as_ref().unwrap()["cpu"].to_string(), "2");
    assert!(policies[0].min_allowed.is_none());
}

#[test]
fn empty_lists_and_maps_are_left_out() {
    let status = VerticalPodAutoscalerStatus {
        recommendation: Some(RecommendedPodResources { container_recommendations: Some(Vec::new()) }),
        conditions: Some(Vec::new()),
        observed_generation: None,
    };
    assert_eq!(serde_json::to_value(status).unwrap(), json!({"recommendation": {}}));
    let policy = ContainerResourcePolicy {
        min_allowed: Some(ResourceList::new()),
        controlled_resources: Some(Vec::new()),
        ..ContainerResourcePolicy::default()
    };
    assert_eq!(serde_json::to_value(policy).unwrap(), json!({"controlledResources": []}));
}
