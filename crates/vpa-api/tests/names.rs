//! The names that the programs agree on with the Go suite, against the collected ones.

#![allow(clippy::unwrap_used)] // all of it is a test

use kube::Resource;
use serde_json::Value;
use vpa_api::names::{DEFAULT_RECOMMENDER, GROUP, annotation, lease, pod_condition};
use vpa_api::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};

fn collected() -> Value {
    let text = std::fs::read_to_string(golden::data_file("names.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn keys<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap()).collect()
}

#[test]
fn annotations_are_those_of_the_go_suite() {
    let names = collected();
    let boost = format!("{}<container name>", annotation::CPU_STARTUP_BOOST_PREFIX);
    let of_pods =
        [annotation::OBSERVED_CONTAINERS, annotation::UPDATES, annotation::IN_PLACE_UPDATED, boost.as_str()];
    assert_eq!(keys(&names["podAnnotations"], "key"), of_pods);
    let integer =
        format!("{}<container name>{}", annotation::INTEGER_CPU_PREFIX, annotation::INTEGER_CPU_SUFFIX);
    assert_eq!(keys(&names["vpaAnnotations"], "key"), [integer]);
}

#[test]
fn leases_are_those_of_the_go_suite() {
    let names = collected();
    assert_eq!(
        keys(&names["leases"], "name"),
        [lease::ADMISSION_CONTROLLER, lease::UPDATER, lease::RECOMMENDER]
    );
}

#[test]
fn kinds_are_those_of_the_go_suite() {
    let names = collected();
    let groups = &names["apiGroups"];
    assert_eq!(groups["vpa"]["group"], GROUP);
    let plurals = [VerticalPodAutoscaler::plural(&()), VerticalPodAutoscalerCheckpoint::plural(&())];
    assert_eq!(groups["vpa"]["resources"], serde_json::json!(plurals));
    assert_eq!(VerticalPodAutoscaler::version(&()), groups["vpa"]["storageVersion"].as_str().unwrap());
    assert_eq!(groups["defaultRecommenderName"], DEFAULT_RECOMMENDER);
}

#[test]
fn pod_conditions_are_those_of_kubernetes() {
    let names = collected();
    let text = names["podConditionsRead"].to_string();
    for name in [
        pod_condition::RESIZE_PENDING,
        pod_condition::RESIZE_IN_PROGRESS,
        pod_condition::REASON_DEFERRED,
        pod_condition::REASON_INFEASIBLE,
        pod_condition::REASON_ERROR,
    ] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
}
