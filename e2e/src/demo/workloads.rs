//! The workloads of the demonstration: a dozen programs of different shape, and how each is to be autoscaled.

use serde_json::{Value, json};

use crate::runner::Backend;

/// Simulated seconds in a real one: a day of the cluster passes in a minute and a half.
pub const TIME_SCALE: f64 = 960.0;

/// Kind of a workload's controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Deployment.
    Deployment,
    /// StatefulSet.
    StatefulSet,
    /// DaemonSet: one pod on each node.
    DaemonSet,
    /// CronJob: pods that come and go.
    CronJob,
}

/// A workload and its VPA.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Name of the controller and of the VPA, and the `app` label of the pods.
    pub name: &'static str,
    /// What it is like, for people.
    pub shape: &'static str,
    /// Kind of its controller.
    pub kind: Kind,
    /// Update mode of its VPA.
    pub mode: &'static str,
    /// Pods; of a DaemonSet there are as many as nodes.
    pub replicas: u32,
    /// CPU and memory that the template requests.
    pub requests: (&'static str, &'static str),
    /// Memory limit of the template.
    pub memory_limit: Option<&'static str>,
    /// What each pod uses.
    pub usage: &'static str,
    /// Further annotations of the pods.
    pub annotations: &'static [(&'static str, &'static str)],
    /// Whether a PodDisruptionBudget forbids every eviction.
    pub guarded: bool,
}

const PLAIN: Workload = Workload {
    name: "",
    shape: "",
    kind: Kind::Deployment,
    mode: "Recreate",
    replicas: 2,
    requests: ("100m", "128Mi"),
    memory_limit: None,
    usage: "",
    annotations: &[],
    guarded: false,
};

/// All of them.
pub const ALL: [Workload; 12] = [
    Workload {
        name: "shop-frontend",
        shape: "daily wave",
        mode: "InPlaceOrRecreate",
        replicas: 3,
        requests: ("1000m", "1Gi"),
        usage: "wave cpu=60m..420m memory=220Mi..360Mi period=24h",
        ..PLAIN
    },
    Workload {
        name: "reports",
        shape: "over-provisioned",
        requests: ("2000m", "4Gi"),
        usage: "steady cpu=88m memory=304Mi",
        ..PLAIN
    },
    Workload {
        name: "session-cache",
        shape: "leaking",
        kind: Kind::StatefulSet,
        mode: "InPlace",
        requests: ("200m", "256Mi"),
        usage: "leak cpu=60m memory=200Mi..900Mi over=20h",
        ..PLAIN
    },
    Workload {
        name: "image-resizer",
        shape: "bursty batch",
        mode: "InPlaceOrRecreate",
        requests: ("250m", "512Mi"),
        usage: "burst cpu=80m..1200m memory=200Mi..400Mi period=5h busy=2h",
        ..PLAIN
    },
    Workload {
        name: "billing-api",
        shape: "slow-starting",
        mode: "Initial",
        requests: ("1500m", "1536Mi"),
        usage: "slow-start cpu=150m start-cpu=900m for=2h memory=620Mi",
        annotations: &[("sim.vpa/ready-after", "3s")],
        ..PLAIN
    },
    Workload {
        name: "importer",
        shape: "OOM-killed",
        requests: ("200m", "200Mi"),
        memory_limit: Some("256Mi"),
        usage: "climb cpu=120m memory=120Mi..330Mi over=1h",
        ..PLAIN
    },
    Workload {
        name: "ledger",
        shape: "guarded by a PDB",
        replicas: 3,
        requests: ("500m", "1Gi"),
        usage: "steady cpu=40m memory=280Mi",
        guarded: true,
        ..PLAIN
    },
    Workload {
        name: "search",
        shape: "over-provisioned",
        mode: "Off",
        requests: ("500m", "1Gi"),
        usage: "wave cpu=40m..180m memory=300Mi..420Mi period=24h phase=0.5",
        ..PLAIN
    },
    Workload {
        name: "node-agent",
        shape: "under-provisioned",
        kind: Kind::DaemonSet,
        mode: "InPlaceOrRecreate",
        replicas: 3,
        requests: ("20m", "64Mi"),
        usage: "steady cpu=118m memory=280Mi",
        ..PLAIN
    },
    Workload {
        name: "scheduler",
        shape: "single replica",
        replicas: 1,
        requests: ("400m", "800Mi"),
        usage: "steady cpu=50m memory=260Mi",
        ..PLAIN
    },
    Workload {
        name: "ml-trainer",
        shape: "node is full",
        kind: Kind::StatefulSet,
        mode: "InPlace",
        requests: ("400m", "512Mi"),
        usage: "steady cpu=900m memory=900Mi",
        annotations: &[("sim.vpa/resize", "deferred")],
        ..PLAIN
    },
    Workload {
        name: "nightly-etl",
        shape: "bursty batch job",
        kind: Kind::CronJob,
        mode: "Initial",
        replicas: 1,
        requests: ("1000m", "1Gi"),
        usage: "steady cpu=350m memory=330Mi",
        annotations: &[("sim.vpa/run-for", "8s")],
        ..PLAIN
    },
];

/// The workload of this name.
pub fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

impl Workload {
    /// Whether its pods end by themselves.
    pub fn is_batch(&self) -> bool {
        self.kind == Kind::CronJob
    }

    /// The objects to be created: the controller, its VPA, and its PodDisruptionBudget where it has one.
    pub fn objects(&self, namespace: &str, backend: Backend) -> Vec<Value> {
        let meta = json!({ "name": self.name, "namespace": namespace });
        let selector = json!({ "matchLabels": { "app": self.name } });
        let mut objects = vec![self.controller(&meta, &selector, backend), self.vpa(&meta)];
        if self.guarded {
            objects.push(json!({
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": meta,
                "spec": { "minAvailable": "100%", "selector": selector },
            }));
        }
        objects
    }

    fn controller(&self, meta: &Value, selector: &Value, backend: Backend) -> Value {
        let template = self.template();
        match self.kind {
            Kind::Deployment => json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": meta,
                "spec": { "replicas": self.replicas, "selector": selector, "template": template },
            }),
            Kind::StatefulSet => json!({
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "metadata": meta,
                "spec": {
                    "replicas": self.replicas,
                    "serviceName": self.name,
                    "podManagementPolicy": "Parallel",
                    "selector": selector,
                    "template": template,
                },
            }),
            Kind::DaemonSet => json!({
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": meta,
                "spec": { "selector": selector, "template": template },
            }),
            Kind::CronJob => json!({
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": meta,
                "spec": {
                    // The simulated controller goes by simulated time, in which four hours pass in 15 s; a
                    // kube-controller-manager goes by the clock on the wall.
                    "schedule": if backend == Backend::Sim { "0 */4 * * *" } else { "* * * * *" },
                    "concurrencyPolicy": "Forbid",
                    "jobTemplate": { "spec": { "template": template } },
                },
            }),
        }
    }

    fn template(&self) -> Value {
        let mut annotations = json!({ "sim.vpa/usage": self.usage });
        for (name, value) in self.annotations {
            annotations[*name] = (*value).into();
        }
        let mut resources = json!({ "requests": { "cpu": self.requests.0, "memory": self.requests.1 } });
        if let Some(limit) = self.memory_limit {
            resources["limits"] = json!({ "memory": limit });
        }
        json!({
            "metadata": { "labels": { "app": self.name }, "annotations": annotations },
            "spec": {
                "restartPolicy": if self.is_batch() { "OnFailure" } else { "Always" },
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "app",
                    "image": "registry.k8s.io/pause:3.10",
                    "resources": resources,
                }],
            },
        })
    }

    fn vpa(&self, meta: &Value) -> Value {
        let (api_version, kind) = match self.kind {
            Kind::Deployment => ("apps/v1", "Deployment"),
            Kind::StatefulSet => ("apps/v1", "StatefulSet"),
            Kind::DaemonSet => ("apps/v1", "DaemonSet"),
            Kind::CronJob => ("batch/v1", "CronJob"),
        };
        json!({
            "apiVersion": "autoscaling.k8s.io/v1",
            "kind": "VerticalPodAutoscaler",
            "metadata": meta,
            "spec": {
                "targetRef": { "apiVersion": api_version, "kind": kind, "name": self.name },
                "updatePolicy": { "updateMode": self.mode },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use vpa_sim::simulate::usage::Profile;

    use super::*;

    #[test]
    fn every_mode_and_every_shape_is_there() {
        let modes: BTreeSet<&str> = ALL.iter().map(|workload| workload.mode).collect();
        assert_eq!(modes, BTreeSet::from(["InPlace", "InPlaceOrRecreate", "Initial", "Off", "Recreate"]));
        let names: BTreeSet<&str> = ALL.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().any(|workload| workload.guarded));
    }

    #[test]
    fn what_they_use_can_be_read() {
        for workload in &ALL {
            let profile =
                Profile::parse(workload.usage).unwrap_or_else(|error| panic!("{}: {error}", workload.name));
            assert!(profile.cpu_millis.1 > 0.0 && profile.memory_bytes.1 > 0.0, "{}", workload.name);
            for backend in [Backend::Sim, Backend::Real] {
                assert!(workload.objects("ns", backend).len() >= 2);
            }
        }
    }
}
