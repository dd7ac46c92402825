//! The objects that a program works on: Deployments with their ReplicaSets and running pods, and a VPA for each.
//!
//! Nothing runs behind them: the programs read only what the API server holds, and no controller is there that would
//! change it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vpa_api::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};

use super::pool::for_each;
use crate::error::{Doing, Error, Result};

/// Name of the container of each pod.
pub const CONTAINER: &str = "app";

/// VPAs in a namespace: large clusters have many namespaces.
const PER_NAMESPACE: usize = 100;

/// Pods of a Deployment.
pub const PODS_PER_VPA: usize = 2;

/// Pods on a node: below the usual limit of 110.
const PER_NODE: usize = 50;

/// CPU and memory that a container requests.
pub const REQUESTS: (&str, &str) = ("100m", "128Mi");

/// Name that the pods' status is written under.
const KUBELET: &str = "kubelet";

/// So many workloads, each with its VPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Number of VPAs.
    pub vpas: usize,
}

/// How its objects are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Make {
    /// Update mode of the VPAs.
    pub mode: &'static str,
    /// What the first pod of each workload requests; the others request [`REQUESTS`].
    pub first: (&'static str, &'static str),
    /// Whether pods can be resized: their nodes are there, and their status tells the resources in force.
    pub resizable: bool,
}

impl Default for Make {
    fn default() -> Self {
        Self { mode: "Off", first: REQUESTS, resizable: false }
    }
}

impl Fleet {
    /// Number of pods.
    pub fn pods(&self) -> usize {
        self.vpas * PODS_PER_VPA
    }

    /// Names of the namespaces.
    pub fn namespaces(&self) -> Vec<String> {
        (0..self.vpas.div_ceil(PER_NAMESPACE)).map(|n| namespace(n * PER_NAMESPACE)).collect()
    }

    fn nodes(&self) -> usize {
        self.pods().div_ceil(PER_NODE)
    }

    /// Namespace of a pod.
    pub fn namespace_of_pod(&self, pod: usize) -> String {
        namespace(pod / PODS_PER_VPA)
    }

    /// Name of a pod.
    pub fn pod_name(&self, pod: usize) -> String {
        format!("{}-x{:04x}", replica_set(pod / PODS_PER_VPA), pod % PODS_PER_VPA)
    }

    /// Labels of a pod.
    pub fn labels_of_pod(&self, pod: usize) -> BTreeMap<String, String> {
        let workload = pod / PODS_PER_VPA;
        [("app".to_owned(), name(workload)), ("pod-template-hash".to_owned(), hash(workload))].into()
    }

    /// Creates what is missing above the first `present` workloads. Pods get the status of running ones in a second
    /// request, as the API server wants it.
    ///
    /// # Errors
    /// If the API server refuses an object.
    pub async fn create(&self, client: &Client, present: usize, make: Make) -> Result<()> {
        let known = Self { vpas: present }.namespaces();
        let missing = self.namespaces().into_iter().filter(|name| !known.contains(name));
        for_each(missing, |name| async move {
            let api: Api<Namespace> = Api::all(client.clone());
            create(&api, json!({ "metadata": { "name": name } })).await.map(drop)
        })
        .await?;
        if make.resizable {
            let known = Self { vpas: present }.nodes();
            for_each(known..self.nodes(), |number| async move {
                let api: Api<Node> = Api::all(client.clone());
                create(&api, node_object(number)).await.map(drop)
            })
            .await?;
        }
        for_each(present..self.vpas, |workload| self.create_workload(client, workload, make)).await
    }

    async fn create_workload(&self, client: &Client, workload: usize, make: Make) -> Result<()> {
        let namespace = namespace(workload);
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
        let deployment = create(&deployments, deployment_object(workload)).await?;
        let replica_sets: Api<ReplicaSet> = Api::namespaced(client.clone(), &namespace);
        let owner = owner("Deployment", &name(workload), deployment.metadata.uid);
        let replica_set = create(&replica_sets, replica_set_object(workload, &owner)).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let owner = self::owner("ReplicaSet", &self::replica_set(workload), replica_set.metadata.uid);
        for pod in workload * PODS_PER_VPA..(workload + 1) * PODS_PER_VPA {
            let resources = resources(if pod % PODS_PER_VPA == 0 { make.first } else { REQUESTS });
            create(&pods, self.pod_object(pod, &owner, &resources)).await?;
            let status = running(make.resizable.then_some(&resources));
            let status = Patch::Merge(json!({ "status": status }));
            let params = PatchParams { field_manager: Some(KUBELET.to_owned()), ..PatchParams::default() };
            let pod = self.pod_name(pod);
            pods.patch_status(&pod, &params, &status)
                .await
                .doing(format!("write the status of pod {pod}"))?;
        }
        let vpas: Api<VerticalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
        let mut vpa = vpa_object(workload);
        vpa["spec"]["updatePolicy"]["updateMode"] = make.mode.into();
        create(&vpas, vpa).await.map(drop)
    }

    fn pod_object(&self, pod: usize, owner: &Value, resources: &Value) -> Value {
        let mut spec = template_spec(resources);
        spec["nodeName"] = node(pod / PER_NODE).into();
        json!({
            "metadata": {
                "name": self.pod_name(pod),
                "namespace": self.namespace_of_pod(pod),
                "labels": self.labels_of_pod(pod),
                "ownerReferences": [owner],
            },
            "spec": spec,
        })
    }

    /// Takes back what a recommender has written: statuses and checkpoints.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn reset(&self, client: &Client) -> Result<()> {
        for_each(self.namespaces(), |namespace| async move {
            let api: Api<VerticalPodAutoscalerCheckpoint> = Api::namespaced(client.clone(), &namespace);
            let (delete, all) = (DeleteParams::default(), ListParams::default());
            let done = api.delete_collection(&delete, &all).await;
            done.doing(format!("delete the checkpoints of {namespace}")).map(drop)
        })
        .await?;
        for_each(0..self.vpas, |workload| async move {
            let (namespace, name) = (namespace(workload), name(workload));
            let api: Api<VerticalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
            let nothing = Patch::Merge(json!({ "status": null }));
            let done = api.patch_status(&name, &PatchParams::default(), &nothing).await;
            done.doing(format!("empty the status of VPA {namespace}/{name}")).map(drop)
        })
        .await
    }
}

fn namespace(workload: usize) -> String {
    format!("bench-{:03}", workload / PER_NAMESPACE)
}

/// Name of a workload: its Deployment, its VPA and the value of its pods' label `app`.
pub fn name(workload: usize) -> String {
    format!("service-{workload:05}")
}

/// A number that looks like the hash that the Deployment controller gives.
pub(super) fn hash(workload: usize) -> String {
    format!("{:09x}", workload.wrapping_mul(0x9E37_79B9) & 0xF_FFFF_FFFF)
}

fn node(number: usize) -> String {
    format!("node-{number}")
}

fn replica_set(workload: usize) -> String {
    format!("{}-{}", name(workload), hash(workload))
}

/// A reference to a controller.
pub(super) fn owner(kind: &str, name: &str, uid: Option<String>) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Resources of a container.
fn resources((cpu, memory): (&str, &str)) -> Value {
    json!({
        "requests": { "cpu": cpu, "memory": memory },
        "limits": { "cpu": "2", "memory": "4Gi" },
    })
}

/// The pods' spec without its node.
fn template_spec(resources: &Value) -> Value {
    json!({
        "containers": [{
            "name": CONTAINER,
            "image": "registry.k8s.io/pause:3.10",
            "args": ["--port=8080", "--log-level=info"],
            "env": [{ "name": "REGION", "value": "somewhere" }, { "name": "MODE", "value": "production" }],
            "ports": [{ "name": "http", "containerPort": 8080 }],
            "resources": resources,
            "volumeMounts": [{ "name": "config", "mountPath": "/etc/config", "readOnly": true }],
        }],
        "volumes": [{ "name": "config", "configMap": { "name": "config" } }],
    })
}

/// A node with room for more than its pods.
fn node_object(number: usize) -> Value {
    let room = json!({ "cpu": "64", "memory": "512Gi", "pods": "110" });
    json!({ "metadata": { "name": node(number) }, "status": { "capacity": room, "allocatable": room } })
}

/// The Deployment of a workload.
pub(super) fn deployment_object(workload: usize) -> Value {
    let labels = json!({ "app": name(workload) });
    json!({
        "metadata": { "name": name(workload), "namespace": namespace(workload), "labels": labels },
        "spec": {
            "replicas": PODS_PER_VPA,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": template_spec(&resources(REQUESTS)) },
        },
    })
}

/// Its ReplicaSet.
pub(super) fn replica_set_object(workload: usize, owner: &Value) -> Value {
    let labels = json!({ "app": name(workload), "pod-template-hash": hash(workload) });
    json!({
        "metadata": {
            "name": replica_set(workload),
            "namespace": namespace(workload),
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": PODS_PER_VPA,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": template_spec(&resources(REQUESTS)) },
        },
    })
}

/// A VPA without a policy.
pub fn vpa_object(workload: usize) -> Value {
    json!({
        "metadata": { "name": name(workload), "namespace": namespace(workload) },
        "spec": {
            "targetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name(workload) },
            "updatePolicy": { "updateMode": "Off" },
        },
    })
}

/// The status of a running pod, with the resources in force where they are given.
fn running(resources: Option<&Value>) -> Value {
    let since = "2026-01-01T00:00:00Z";
    let condition = |type_: &str| json!({ "type": type_, "status": "True", "lastTransitionTime": since });
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let mut status = json!({
        "phase": "Running",
        "startTime": since,
        "hostIP": "10.1.0.1",
        "podIP": "10.2.0.1",
        "podIPs": [{ "ip": "10.2.0.1" }],
        "conditions": conditions,
        "containerStatuses": [{
            "name": CONTAINER,
            "image": "registry.k8s.io/pause:3.10",
            "imageID": "registry.k8s.io/pause@sha256:ee6521f290b2168b6e0935a181d4cff9be1ac3f505666ef0e3c98fae8199917a",
            "containerID": "containerd://8a3f1b9f6f1d4c2a9a41b5a2f8f36c0a6a9b5f0c7c1b4f5c9d0e1a2b3c4d5e6f",
            "ready": true,
            "started": true,
            "restartCount": 0,
            "state": { "running": { "startedAt": since } },
        }],
    });
    if let Some(resources) = resources {
        status["containerStatuses"][0]["resources"] = resources.clone();
    }
    status
}

/// Creates an object.
///
/// # Errors
/// If it is not one of its kind, or the API server refuses it.
pub(super) async fn create<K>(api: &Api<K>, object: Value) -> Result<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let title = format!("{} {}", K::kind(&()), object["metadata"]["name"].as_str().unwrap_or_default());
    let object: K = serde_json::from_value(object)
        .map_err(|error| Error::expectation(format!("{title} is not an object of its kind: {error}")))?;
    api.create(&PostParams::default(), &object).await.doing(format!("create {title}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_has_namespaces_and_names_of_its_own() {
        let fleet = Fleet { vpas: 101 };
        assert_eq!((fleet.pods(), fleet.namespaces()), (202, vec!["bench-000".into(), "bench-001".into()]));
        let names: std::collections::BTreeSet<_> = (0..fleet.pods()).map(|pod| fleet.pod_name(pod)).collect();
        assert_eq!(names.len(), 202);
        assert_eq!(fleet.namespace_of_pod(201), "bench-001");
        assert_eq!(fleet.labels_of_pod(3)["app"], vpa_object(1)["spec"]["targetRef"]["name"]);
    }
}
