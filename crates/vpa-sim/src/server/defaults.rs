//! What the API server fills in for built in kinds, as far as programs of the suite can see it.

use serde_json::{Value, json};
use vpa_api::Quantity;

use super::kinds::Kind;
use super::value::{at_mut, map_mut, set_default, text};

/// Fills in defaults of a built in kind and brings its quantities into canonical form.
pub(crate) fn fill(kind: &Kind, object: &mut Value) {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => pod_spec(&mut object["spec"]),
        ("", "Node") => node(object),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => {
            set_default(object, &["spec", "replicas"], 1);
            template(object, &["spec", "template"]);
        }
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => {
            set_default(object, &["spec", "updateStrategy", "type"], "RollingUpdate");
            set_default(object, &["spec", "revisionHistoryLimit"], 10);
            template(object, &["spec", "template"]);
        }
        ("batch", "Job") => job_spec(&mut object["spec"]),
        ("batch", "CronJob") => {
            set_default(object, &["spec", "concurrencyPolicy"], "Allow");
            set_default(object, &["spec", "suspend"], false);
            set_default(object, &["spec", "successfulJobsHistoryLimit"], 3);
            set_default(object, &["spec", "failedJobsHistoryLimit"], 1);
            job_spec(at_mut(object, &["spec", "jobTemplate", "spec"]));
        }
        ("", "LimitRange") => limit_range(object),
        ("", "Namespace") => {
            set_default(object, &["spec", "finalizers"], json!(["kubernetes"]));
            set_default(object, &["status", "phase"], "Active");
            let name = object["metadata"]["name"].clone();
            *at_mut(object, &["metadata", "labels", "kubernetes.io/metadata.name"]) = name;
        }
        ("admissionregistration.k8s.io", _) => webhooks(object),
        _ => {}
    }
}

/// What the status of a new object of a built in kind says; numbers that are always there are 0.
pub(crate) fn first_status(kind: &Kind) -> Option<Value> {
    let zeros = |names: &[&str]| {
        let zeros = names.iter().map(|name| ((*name).to_owned(), Value::from(0)));
        Some(Value::Object(zeros.collect()))
    };
    match kind.plural.as_str() {
        _ if kind.custom => None,
        "replicasets" | "replicationcontrollers" => zeros(&["replicas"]),
        "statefulsets" => zeros(&["replicas", "availableReplicas"]),
        "daemonsets" => {
            zeros(&["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"])
        }
        "poddisruptionbudgets" => {
            zeros(&["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"])
        }
        "deployments" | "jobs" | "cronjobs" => Some(json!({})),
        _ => None,
    }
}

fn template(object: &mut Value, path: &[&str]) {
    let template = at_mut(object, path);
    map_mut(template).entry("metadata").or_insert_with(|| json!({}));
    pod_spec(&mut template["spec"]);
}

fn deployment(object: &mut Value) {
    set_default(object, &["spec", "replicas"], 1);
    set_default(object, &["spec", "strategy", "type"], "RollingUpdate");
    if text(object, &["spec", "strategy", "type"]) == "RollingUpdate" {
        set_default(object, &["spec", "strategy", "rollingUpdate", "maxSurge"], "25%");
        set_default(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"], "25%");
    }
    set_default(object, &["spec", "revisionHistoryLimit"], 10);
    set_default(object, &["spec", "progressDeadlineSeconds"], 600);
    template(object, &["spec", "template"]);
}

fn stateful_set(object: &mut Value) {
    set_default(object, &["spec", "replicas"], 1);
    set_default(object, &["spec", "podManagementPolicy"], "OrderedReady");
    set_default(object, &["spec", "updateStrategy", "type"], "RollingUpdate");
    set_default(object, &["spec", "revisionHistoryLimit"], 10);
    template(object, &["spec", "template"]);
}

fn job_spec(spec: &mut Value) {
    // A work queue (parallelism without completions) keeps completions unset.
    if spec["parallelism"].is_null() {
        set_default(spec, &["completions"], 1);
    }
    set_default(spec, &["parallelism"], 1);
    set_default(spec, &["backoffLimit"], 6);
    set_default(spec, &["completionMode"], "NonIndexed");
    set_default(spec, &["suspend"], false);
    template(spec, &["template"]);
}

/// Defaults of a pod's specification, in a pod or a template.
pub(crate) fn pod_spec(spec: &mut Value) {
    set_default(spec, &["restartPolicy"], "Always");
    set_default(spec, &["terminationGracePeriodSeconds"], 30);
    set_default(spec, &["dnsPolicy"], "ClusterFirst");
    set_default(spec, &["schedulerName"], "default-scheduler");
    set_default(spec, &["securityContext"], json!({}));
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            default_container(container);
        }
    }
    if spec["resources"].is_object() {
        canonical_resources(&mut spec["resources"]);
    }
}

fn default_container(container: &mut Value) {
    set_default(container, &["resources"], json!({}));
    set_default(container, &["imagePullPolicy"], "IfNotPresent");
    set_default(container, &["terminationMessagePath"], "/dev/termination-log");
    set_default(container, &["terminationMessagePolicy"], "File");
    canonical_resources(&mut container["resources"]);
    // A limit without a request asks for as much.
    let limits = container["resources"]["limits"].clone();
    for (name, limit) in limits.as_object().into_iter().flatten() {
        set_default(container, &["resources", "requests", name], limit.clone());
    }
}

fn canonical_resources(resources: &mut Value) {
    for list in ["requests", "limits"] {
        canonical_list(&mut resources[list]);
        if resources[list].is_null() {
            map_mut(resources).remove(list);
        }
    }
}

/// Brings a resource list into canonical form; what is no quantity stays, for validation to name it.
pub(crate) fn canonical_list(list: &mut Value) {
    for value in list.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        let parsed = match &*value {
            Value::String(text) => Quantity::parse(text).ok(),
            Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
            _ => None,
        };
        if let Some(quantity) = parsed {
            *value = Value::from(quantity.to_string());
        }
    }
}

fn node(object: &mut Value) {
    for list in ["capacity", "allocatable"] {
        if object["status"][list].is_object() {
            canonical_list(&mut object["status"][list]);
        }
    }
    if object["status"]["allocatable"].is_null() && object["status"]["capacity"].is_object() {
        object["status"]["allocatable"] = object["status"]["capacity"].clone();
    }
}

fn limit_range(object: &mut Value) {
    for limit in object["spec"]["limits"].as_array_mut().into_iter().flatten() {
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if limit[list].is_object() {
                canonical_list(&mut limit[list]);
            } else {
                map_mut(limit).remove(list);
            }
        }
    }
}

fn webhooks(object: &mut Value) {
    for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
        set_default(webhook, &["failurePolicy"], "Fail");
        set_default(webhook, &["matchPolicy"], "Equivalent");
        set_default(webhook, &["timeoutSeconds"], 10);
        set_default(webhook, &["reinvocationPolicy"], "Never");
        set_default(webhook, &["namespaceSelector"], json!({}));
        set_default(webhook, &["objectSelector"], json!({}));
        if webhook["clientConfig"]["service"].is_object() {
            set_default(webhook, &["clientConfig", "service", "port"], 443);
        }
        for rule in webhook["rules"].as_array_mut().into_iter().flatten() {
            set_default(rule, &["scope"], "*");
        }
    }
}
