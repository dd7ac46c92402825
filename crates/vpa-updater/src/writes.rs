//! The calls that carry out a step.

use std::time::Duration;

use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use vpa_api::pod::Pod;
use vpa_core::update::{Action, Outcome, PatchOp, Refusal};
use vpa_runtime::client::{chain, repeat, server_failed};

/// Waits before a write that may be sent twice is sent again to a server that failed.
pub(crate) const FAILED_SERVER_WAITS: [Duration; 2] =
    [Duration::from_millis(250), Duration::from_millis(500)];

/// Carries out what a step asks for.
pub async fn perform(client: &Client, pod: &Pod, action: &Action) -> Outcome {
    let pods: Api<Pod> =
        Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    match action {
        Action::Evict { .. } => evict(&pods, pod).await,
        Action::Resize { resize, annotate } | Action::Unboost { resize, annotate } => {
            update(&pods, pod, resize, annotate).await
        }
    }
}

/// Resizes the pod, then annotates it. An annotation that fails is no failure of the resize: it says nothing that the
/// pod does not show, or, at the end of a boost, is removed in the next pass.
async fn update(pods: &Api<Pod>, pod: &Pod, resize: &[PatchOp], annotate: &[PatchOp]) -> Outcome {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if !resize.is_empty() {
        let patch = match guarded(pod, resize) {
            Ok(patch) => Patch::<()>::Json(patch),
            Err(error) => return Outcome::Transient(format!("the patch cannot be written: {error}")),
        };
        let result = pods.patch_subresource("resize", name, &PatchParams::default(), &patch).await;
        if let Err(error) = result {
            return outcome(&error, false);
        }
    }
    let patch = match guarded(pod, annotate) {
        Ok(patch) => Patch::<()>::Json(patch),
        Err(error) => return Outcome::Transient(format!("the patch cannot be written: {error}")),
    };
    // Again where the server failed: nothing else writes the annotation of a resize that is done.
    let params = PatchParams::default();
    match repeat(&FAILED_SERVER_WAITS, server_failed, || pods.patch(name, &params, &patch)).await {
        Err(error) if resize.is_empty() => outcome(&error, false),
        Err(error) => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            tracing::warn!(namespace, pod = name, error = chain(&error), "resized, but not annotated");
            Outcome::Done
        }
        Ok(_) => Outcome::Done,
    }
}

/// The patch, on the condition that the pod is still the one that was looked at: a StatefulSet may have another one
/// under its name by now.
fn guarded(pod: &Pod, ops: &[PatchOp]) -> Result<json_patch::Patch, serde_json::Error> {
    let uid = pod.metadata.uid.as_ref();
    let test = uid.map(|uid| json!({ "op": "test", "path": "/metadata/uid", "value": uid }));
    let ops = ops.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>()?;
    serde_json::from_value(Value::Array(test.into_iter().chain(ops).collect()))
}

async fn evict(pods: &Api<Pod>, pod: &Pod) -> Outcome {
    let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
    let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
    let eviction = Eviction {
        metadata: kube::api::ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..Default::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteOptions::default()
        }),
    };
    let result: Result<Value, kube::Error> =
        pods.create_subresource("eviction", name, &PostParams::default(), &eviction).await;
    result.map_or_else(|error| outcome(&error, true), |_| Outcome::Done)
}

/// What an error of a call means.
fn outcome(error: &kube::Error, eviction: bool) -> Outcome {
    let kube::Error::Api(status) = error else {
        // It may have arrived all the same.
        return Outcome::Unknown(chain(error));
    };
    let details = status.details.as_ref();
    let causes = details.map(|details| details.causes.as_slice()).unwrap_or_default();
    let names_pod = details.is_some_and(|details| !details.name.is_empty());
    if status.code == 404 && !eviction && !names_pod {
        return Outcome::Refused(Refusal {
            code: 404,
            reason: status.reason.clone(),
            message: "the cluster does not know pods/resize; it needs Kubernetes 1.33 or later".to_owned(),
            node_capacity: false,
        });
    }
    let refusal = Refusal {
        code: status.code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        node_capacity: status.code == 403 && causes.iter().any(|cause| cause.reason == "NodeCapacity"),
    };
    Outcome::of_status(refusal, eviction)
}
