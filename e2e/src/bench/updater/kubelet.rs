//! The one thing that kubelets do here: they tell which resources are in force after a resize. Without it, a pod that was
//! resized would look as before, and would be resized again in the next pass.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Time from a resize to what its kubelet tells. A kubelet needs some seconds; here it also keeps what a thousand nodes
/// write apart from what the updater writes, since all of it goes to an API server on the same few cores.
const TAKES: Duration = Duration::from_secs(5);

/// A pod, down to the resources of its containers.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = Pod)]
struct Resized {
    metadata: ObjectMeta,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    container_statuses: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    #[serde(default)]
    resources: Value,
}

impl Resized {
    /// The resources that its first container is to have, if others are told.
    fn wanted(&self) -> Option<&Value> {
        let (spec, told) = (self.spec.containers.first()?, self.status.container_statuses.first()?);
        (!told.resources.is_null() && spec.resources != told.resources).then_some(&spec.resources)
    }
}

/// Plays it until the task is ended.
pub(super) async fn run(client: Client) {
    let all: Api<Resized> = Api::all(client.clone());
    let mut events = std::pin::pin!(watcher::watcher(all, watcher::Config::default()));
    // Each pod is resized at most once, and an annotation that comes after it is no other resize.
    let mut known = HashSet::new();
    // Ends them with the task.
    let mut under_way = JoinSet::new();
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
        let Some(resources) = pod.wanted() else { continue };
        if known.insert(pod.metadata.uid.clone()) {
            under_way.spawn(tell(client.clone(), pod.metadata.clone(), resources.clone()));
        }
        while under_way.try_join_next().is_some() {}
    }
}

async fn tell(client: Client, pod: ObjectMeta, resources: Value) {
    tokio::time::sleep(TAKES).await;
    let pods: Api<Pod> = Api::namespaced(client, pod.namespace.as_deref().unwrap_or_default());
    let change =
        json!([{ "op": "replace", "path": "/status/containerStatuses/0/resources", "value": resources }]);
    let Ok(change) = serde_json::from_value(change) else { return };
    let name = pod.name.as_deref().unwrap_or_default();
    // A pod that is gone needs it no more; one that was refused shows in the figures as resized twice.
    let _ = pods.patch_status(name, &PatchParams::default(), &Patch::<()>::Json(change)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_resize_is_told() {
        let pod = |spec: Value, told: Value| -> Resized {
            let object = json!({
                "metadata": {},
                "spec": { "containers": [{ "resources": spec }] },
                "status": { "containerStatuses": [{ "resources": told }] },
            });
            serde_json::from_value(object).unwrap()
        };
        let (small, large) =
            (json!({ "requests": { "cpu": "50m" } }), json!({ "requests": { "cpu": "100m" } }));
        assert_eq!(pod(large.clone(), small.clone()).wanted(), Some(&large));
        assert_eq!(pod(large.clone(), large.clone()).wanted(), None);
        assert_eq!(pod(large, Value::Null).wanted(), None);
    }
}
