//! Objects of the scenarios: workloads and VPAs.

use serde_json::{Value, json};

/// A controller with pods of one container, called `app`.
#[derive(Clone, Debug)]
pub struct Workload {
    name: String,
    kind: &'static str,
    replicas: u32,
    requests: Value,
    limits: Value,
    annotations: serde_json::Map<String, Value>,
    resize_policy: Value,
}

impl Workload {
    /// A Deployment of two pods that request 100m CPU and 128Mi of memory each, without limits.
    pub fn deployment(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: "Deployment",
            replicas: 2,
            requests: json!({ "cpu": "100m", "memory": "128Mi" }),
            limits: json!({}),
            annotations: serde_json::Map::new(),
            resize_policy: Value::Null,
        }
    }

    /// Like [`Workload::deployment`], a StatefulSet.
    pub fn stateful_set(name: &str) -> Self {
        Self { kind: "StatefulSet", ..Self::deployment(name) }
    }

    /// Number of pods.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// Requests of the container.
    pub fn requests(mut self, cpu: &str, memory: &str) -> Self {
        self.requests = json!({ "cpu": cpu, "memory": memory });
        self
    }

    /// Limits of the container.
    pub fn limits(mut self, limits: Value) -> Self {
        self.limits = limits;
        self
    }

    /// What each pod uses, all the time.
    pub fn usage(self, cpu: &str, memory: &str) -> Self {
        self.annotation("sim.vpa/cpu", cpu).annotation("sim.vpa/memory", memory)
    }

    /// An annotation of the pods.
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.into());
        self
    }

    /// What a resize of `resource` does to the container: `NotRequired` or `RestartContainer`.
    pub fn resize_policy(mut self, policy: Value) -> Self {
        self.resize_policy = policy;
        self
    }

    /// Name of the controller, and the value of the `app` label of its pods.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of pods it asks for.
    pub fn replica_count(&self) -> usize {
        self.replicas as usize
    }

    /// The controller as an object.
    pub fn object(&self, namespace: &str) -> Value {
        let labels = json!({ "app": self.name });
        let mut container = json!({
            "name": "app",
            "image": "registry.k8s.io/pause:3.10",
            "resources": { "requests": self.requests, "limits": self.limits },
        });
        if !self.resize_policy.is_null() {
            container["resizePolicy"] = self.resize_policy.clone();
        }
        let mut spec = json!({
            "replicas": self.replicas,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels, "annotations": self.annotations },
                "spec": { "containers": [container], "terminationGracePeriodSeconds": 1 },
            },
        });
        if self.kind == "StatefulSet" {
            spec["serviceName"] = self.name.clone().into();
            spec["podManagementPolicy"] = "Parallel".into();
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": self.kind,
            "metadata": { "name": self.name, "namespace": namespace },
            "spec": spec,
        })
    }

    /// A VPA for this workload, with its name, in `mode`.
    pub fn vpa(&self, mode: &str) -> Vpa {
        Vpa::new(&self.name, self.kind, &self.name, mode)
    }
}

/// A VPA.
#[derive(Clone, Debug)]
pub struct Vpa {
    name: String,
    spec: Value,
}

impl Vpa {
    /// A VPA for the target `kind` `target` of apps/v1 in `mode`.
    pub fn new(name: &str, kind: &str, target: &str, mode: &str) -> Self {
        let spec = json!({
            "targetRef": { "apiVersion": "apps/v1", "kind": kind, "name": target },
            "updatePolicy": { "updateMode": mode },
        });
        Self { name: name.to_owned(), spec }
    }

    /// Sets a field of the spec, by the name it has there.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    /// Lowest number of live pods at which pods are evicted.
    pub fn min_replicas(mut self, replicas: u32) -> Self {
        self.spec["updatePolicy"]["minReplicas"] = replicas.into();
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The VPA as an object.
    pub fn object(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "autoscaling.k8s.io/v1",
            "kind": "VerticalPodAutoscaler",
            "metadata": { "name": self.name, "namespace": namespace },
            "spec": self.spec,
        })
    }
}

/// A status with a recommendation for the container `app` whose bounds lie on the target, so that any pod that
/// requests something else is out of bounds.
pub fn recommendation(cpu: &str, memory: &str) -> Value {
    let amounts = json!({ "cpu": cpu, "memory": memory });
    json!({
        "recommendation": { "containerRecommendations": [{
            "containerName": "app",
            "target": amounts,
            "lowerBound": amounts,
            "upperBound": amounts,
            "uncappedTarget": amounts,
        }]},
        "conditions": [{
            "type": "RecommendationProvided",
            "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    })
}
