//! Writes that the simulators plan, and how they are carried out.

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::world::World;

/// Writes under way together. An API server answers a write in a few milliseconds; more callers than this only queue
/// there.
const CONCURRENT_WRITES: usize = 16;

/// Kinds that the simulators write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pod,
    Node,
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
    PodDisruptionBudget,
}

impl Kind {
    fn resource(self) -> ApiResource {
        match self {
            Self::Pod => ApiResource::erase::<Pod>(&()),
            Self::Node => ApiResource::erase::<Node>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::ReplicaSet => ApiResource::erase::<ReplicaSet>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::CronJob => ApiResource::erase::<CronJob>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
        }
    }
}

/// What to do with one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    /// Create it; the value is the whole object.
    Create(Value),
    /// Merge patch of its status subresource; the value is the whole patch.
    Status(Value),
    /// Merge patch of the object; the value is the whole patch.
    Patch(Value),
    /// Delete it if it still has this UID, with this many seconds of grace (`None`: its own).
    Delete { uid: String, grace_seconds: Option<u32> },
    /// Bind a pod to a node.
    Bind { node: String },
}

/// A planned write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    pub(crate) kind: Kind,
    /// Empty for kinds of the whole cluster.
    pub(crate) namespace: String,
    /// Name, or the prefix of a generated one.
    pub(crate) name: String,
    pub(crate) op: Op,
}

impl Write {
    pub(crate) fn new(kind: Kind, meta: &kube::api::ObjectMeta, op: Op) -> Self {
        let name = meta.name.clone().or_else(|| meta.generate_name.clone());
        Self {
            kind,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: name.unwrap_or_default(),
            op,
        }
    }

    /// Deletes the object of `meta`, with its own grace.
    pub(crate) fn delete(kind: Kind, meta: &kube::api::ObjectMeta) -> Self {
        let uid = meta.uid.clone().unwrap_or_default();
        Self::new(kind, meta, Op::Delete { uid, grace_seconds: None })
    }

    /// Sets `status` on condition that nobody has written the object in between.
    pub(crate) fn status(kind: Kind, meta: &kube::api::ObjectMeta, status: &Value) -> Self {
        let patch = json!({ "metadata": { "resourceVersion": meta.resource_version }, "status": status });
        Self::new(kind, meta, Op::Status(patch))
    }
}

/// Carries out `writes`, independently of each other, and takes the answers into `world`. What fails is planned again
/// from the state that is found then.
pub(crate) async fn perform(client: &Client, world: &World, writes: Vec<Write>) {
    futures::stream::iter(writes)
        .for_each_concurrent(CONCURRENT_WRITES, |write| async move {
            if let Err(error) = perform_one(client, world, &write).await {
                report(&write, &error);
            }
        })
        .await;
}

async fn perform_one(client: &Client, world: &World, write: &Write) -> kube::Result<()> {
    let api = api(client, write.kind, &write.namespace);
    match &write.op {
        Op::Create(object) => {
            let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
            seen(world, write.kind, api.create(&PostParams::default(), &object).await?)
        }
        Op::Status(patch) => {
            let patch = Patch::Merge(patch);
            seen(world, write.kind, api.patch_status(&write.name, &PatchParams::default(), &patch).await?)
        }
        Op::Patch(patch) => {
            let patch = Patch::Merge(patch);
            seen(world, write.kind, api.patch(&write.name, &PatchParams::default(), &patch).await?)
        }
        Op::Delete { uid, grace_seconds } => delete(&api, world, write, uid, *grace_seconds).await,
        Op::Bind { node } => {
            let binding = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": { "name": write.name, "namespace": write.namespace },
                "target": { "apiVersion": "v1", "kind": "Node", "name": node },
            });
            let _: Value =
                api.create_subresource("binding", &write.name, &PostParams::default(), &binding).await?;
            seen(world, write.kind, api.get(&write.name).await?)
        }
    }
}

async fn delete(
    api: &Api<DynamicObject>,
    world: &World,
    write: &Write,
    uid: &str,
    grace_seconds: Option<u32>,
) -> kube::Result<()> {
    let uid = uid.to_owned();
    let params = DeleteParams {
        grace_period_seconds: grace_seconds,
        preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
        ..DeleteParams::background()
    };
    match api.delete(&write.name, &params).await {
        // Without grace the object is gone; with grace its last state comes back.
        Ok(either) => match either.left() {
            Some(object) if grace_seconds != Some(0) && object.metadata.deletion_timestamp.is_some() => {
                return seen(world, write.kind, object);
            }
            _ => world.remove(write.kind, &write.namespace, &write.name, &uid),
        },
        Err(kube::Error::Api(status)) if status.code == 404 => {
            world.remove(write.kind, &write.namespace, &write.name, &uid);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn api(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    let resource = kind.resource();
    match namespace.is_empty() {
        true => Api::all_with(client.clone(), &resource),
        false => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

fn seen(world: &World, kind: Kind, object: DynamicObject) -> kube::Result<()> {
    world.observe(kind, serde_json::to_value(object).map_err(kube::Error::SerdeError)?);
    Ok(())
}

fn report(write: &Write, error: &kube::Error) {
    let Write { kind, namespace, name, .. } = write;
    match error {
        // Somebody else was faster, or the namespace is going: the next pass sees it.
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => {
            tracing::debug!(?kind, namespace, name, %error, "write to be planned again");
        }
        _ => tracing::warn!(?kind, namespace, name, %error, "write failed"),
    }
}

/// Whether two states say the same. Zero, null and empty are what an API server leaves out, so they equal a missing
/// field.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    let mut one = one.clone();
    let mut other = other.clone();
    prune(&mut one);
    prune(&mut other);
    one == other
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, value| !is_nothing(value));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_leaves_out_is_no_difference() {
        assert!(same(&json!({"replicas": 0, "conditions": [], "x": null}), &json!({})));
        assert!(!same(&json!({"replicas": 1}), &json!({})));
        assert!(!same(&json!({"ready": false}), &json!({})), "a boolean is always written");
    }
}
