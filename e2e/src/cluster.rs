//! The cluster as a scenario sees it: two namespaces, an administrator's client, and the programs of the suite.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use vpa_api::VerticalPodAutoscaler;
use vpa_sim::simulate::Simulation;
use vpa_sim::simulate::usage::UsageRule;

use crate::access::Access;
use crate::chart;
use crate::error::{Doing, Error, OnFile, Result};
use crate::guard;
use crate::kubeconfig::Endpoint;
use crate::launch::Launch;
use crate::pki::{self, Authority};
use crate::pods::{describe, is_ready};
use crate::ports::free_port;
use crate::programs::{Program, Running};
use crate::runner::Backend;
use crate::wait::{Seen, wait_for};
use crate::workload::{Vpa, Workload, recommendation};

/// Time for what a controller, a simulator or a program of the suite does within a few of its intervals (1 s here).
/// Long against that, because the machine may be compiling meanwhile; a failure costs it, a pass does not.
pub const SOON: Duration = Duration::from_secs(40);

/// How long a scenario watches that something does not happen: several intervals of every program.
pub const A_WHILE: Duration = Duration::from_secs(6);

/// A cluster with two namespaces of the scenario's own: one for its workloads and VPAs, one for the suite.
pub struct Cluster {
    pub(crate) parts: Parts,
    pub(crate) access: Option<Access>,
    namespace: String,
    system: String,
    pub(crate) logs: PathBuf,
    dir: tempfile::TempDir,
}

/// What a cluster is made of.
pub struct Parts {
    /// Backend.
    pub backend: Backend,
    /// Client of an administrator.
    pub client: kube::Client,
    /// Kubeconfig of an administrator.
    pub kubeconfig: PathBuf,
    /// Where the API server listens.
    pub endpoint: Endpoint,
    /// The simulators; shared by all scenarios of a backend, or the scenario's own; none in a bare cluster.
    pub simulation: Option<Arc<Simulation>>,
    /// What has to live as long as the cluster.
    pub alive: Arc<dyn Send + Sync>,
}

impl Cluster {
    /// A cluster with the namespaces and service accounts of the scenario `name`.
    ///
    /// # Errors
    /// If the API server refuses an object.
    pub async fn new(parts: Parts, name: &str, logs: PathBuf) -> Result<Self> {
        let mut cluster = Self::bare(parts, name, logs)?;
        for namespace in [&cluster.namespace, &cluster.system] {
            let object =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            cluster.create(object).await?;
        }
        cluster.access = Some(Access::install(&cluster.parts.client, &cluster.system).await?);
        Ok(cluster)
    }

    /// A cluster in which nothing is created; programs act as administrators there.
    ///
    /// # Errors
    /// If there is no room for temporary files.
    pub fn bare(parts: Parts, name: &str, logs: PathBuf) -> Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("vpa-e2e-").tempdir().on_file(std::env::temp_dir(), "use")?;
        guard::remove_at_end(dir.path());
        let namespace = name.replace('_', "-");
        let system = format!("{namespace}-vpa");
        Ok(Self { parts, access: None, namespace, system, logs, dir })
    }

    /// Backend that it runs on.
    pub fn backend(&self) -> Backend {
        self.parts.backend
    }

    /// What it is made of.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Folder of the scenario's logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Client of an administrator.
    pub fn client(&self) -> &kube::Client {
        &self.parts.client
    }

    /// Kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.parts.kubeconfig
    }

    /// Namespace of the workloads and VPAs.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Namespace of the suite: its service accounts and leases.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// Folder for temporary files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Rights of the programs.
    ///
    /// # Errors
    /// If this cluster is a bare one.
    pub fn access(&self) -> Result<&Access> {
        self.access.as_ref().ok_or_else(|| Error::expectation("this cluster has no service accounts"))
    }

    /// API of a namespaced kind in the workloads' namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.parts.client.clone(), &self.namespace)
    }

    /// Creates an object.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn create(&self, object: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(object)
            .map_err(|error| Error::expectation(format!("not an object: {error}")))?;
        chart::create(&self.parts.client, &object).await
    }

    /// Creates a workload and waits until all its pods are ready.
    ///
    /// # Errors
    /// If it is refused or its pods do not become ready.
    pub async fn deploy(&self, workload: &Workload) -> Result<Vec<Pod>> {
        self.create(workload.object(&self.namespace)).await?;
        self.pods_ready(workload.name(), workload.replica_count()).await
    }

    /// Has each pod of the workload use this much from now on, in millicores and bytes.
    ///
    /// # Errors
    /// If this cluster has no simulators.
    pub fn use_up(&self, workload: &Workload, cpu_millis: i64, memory_bytes: i64) -> Result<()> {
        let simulation = self.parts.simulation.as_ref();
        let simulation = simulation.ok_or_else(|| Error::expectation("this cluster has no simulators"))?;
        simulation.usage().set(UsageRule {
            namespace: self.namespace.clone(),
            labels: BTreeMap::from([("app".to_owned(), workload.name().to_owned())]),
            container: None,
            cpu_millis,
            memory_bytes,
        });
        Ok(())
    }

    /// Creates a VPA.
    ///
    /// # Errors
    /// The API server's or the webhook's refusal.
    pub async fn create_vpa(&self, vpa: &Vpa) -> Result<()> {
        self.create(vpa.object(&self.namespace)).await
    }

    /// Writes a recommendation for the container `app` into the VPA's status, as the recommender would.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn recommend(&self, vpa: &str, cpu: &str, memory: &str) -> Result<()> {
        let status = json!({ "status": recommendation(cpu, memory) });
        self.api::<VerticalPodAutoscaler>()
            .patch_status(vpa, &PatchParams::default(), &Patch::Merge(status))
            .await
            .doing(format!("write the status of VPA {vpa}"))
            .map(drop)
    }

    /// The VPA as it is now.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn vpa(&self, name: &str) -> Result<VerticalPodAutoscaler> {
        self.api().get(name).await.doing(format!("get VPA {name}"))
    }

    /// Pods with the label `app=NAME` that are not on their way out, ordered by name.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn pods(&self, app: &str) -> Result<Vec<Pod>> {
        let labels = ListParams::default().labels(&format!("app={app}"));
        let mut pods = self.api::<Pod>().list(&labels).await.doing(format!("list the pods of {app}"))?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Ok(pods)
    }

    /// Waits until the workload has exactly `count` pods, all ready.
    ///
    /// # Errors
    /// If that does not happen soon.
    pub async fn pods_ready(&self, app: &str, count: usize) -> Result<Vec<Pod>> {
        self.pods_until(app, &format!("{count} ready pods"), |pods| {
            pods.len() == count && pods.iter().all(is_ready)
        })
        .await
    }

    /// Waits until the pods of a workload are as wanted.
    ///
    /// # Errors
    /// If that does not happen soon; with the pods last seen.
    pub async fn pods_until(
        &self,
        app: &str,
        what: &str,
        wanted: impl Fn(&[Pod]) -> bool,
    ) -> Result<Vec<Pod>> {
        wait_for(format!("{what} of {}/{app}", self.namespace), SOON, || async {
            let pods = self.pods(app).await?;
            Ok(if wanted(&pods) { Seen::Done(pods) } else { Seen::Not(describe(&pods)) })
        })
        .await
    }

    /// Waits until the VPA is as wanted.
    ///
    /// # Errors
    /// If that does not happen soon; with the status last seen.
    pub async fn vpa_until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&VerticalPodAutoscaler) -> bool,
    ) -> Result<VerticalPodAutoscaler> {
        wait_for(format!("{what} of VPA {}/{name}", self.namespace), SOON, || async {
            let vpa = self.vpa(name).await?;
            let status = serde_json::to_string(&vpa.status).unwrap_or_default();
            Ok(if wanted(&vpa) { Seen::Done(vpa) } else { Seen::Not(format!("status {status}")) })
        })
        .await
    }

    /// Reasons and messages of the events about objects of the workloads' namespace.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn events(&self) -> Result<Vec<(String, String)>> {
        let api = self.api::<k8s_openapi::api::core::v1::Event>();
        let events = api.list(&ListParams::default()).await.doing("list events")?.items;
        Ok(events
            .into_iter()
            .map(|e| (e.reason.unwrap_or_default(), e.message.unwrap_or_default()))
            .collect())
    }

    /// Prepares the start of a program with short intervals, seeing this scenario's namespace only.
    pub fn program(&self, program: Program) -> Launch<'_> {
        Launch::new(self, program)
    }

    /// Starts a program with the usual flags and waits until it is ready.
    ///
    /// # Errors
    /// If it does not start or become ready.
    pub async fn start(&self, program: Program) -> Result<Running> {
        let mut running = self.program(program).start().await?;
        running.ready().await?;
        Ok(running)
    }

    /// Starts the admission controller behind a webhook of its own and waits until both are in place.
    ///
    /// # Errors
    /// If it does not start or become ready, or the webhook is refused.
    pub async fn start_admission(&self) -> Result<Running> {
        let certificate = self.webhook_certificate()?;
        let port = free_port()?;
        let launch = self.program(Program::AdmissionController).webhook_files(port);
        let mut running = launch.arg("--register-webhook=false").start().await?;
        running.ready().await?;
        self.create(self.webhook_object(&certificate, port)).await?;
        Ok(running)
    }

    /// Makes the webhook's certificate and writes it where the admission controller looks; returns the authority.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn webhook_certificate(&self) -> Result<String> {
        let authority = Authority::new("e2e-webhook")?;
        authority.server("vpa-webhook", &["127.0.0.1", "localhost"])?.write(self.dir(), "webhook")?;
        pki::write(&self.dir().join("webhook-ca.crt"), authority.certificate())?;
        Ok(authority.certificate().to_owned())
    }

    /// The chart's webhook configuration, by URL and for this scenario's namespace only.
    fn webhook_object(&self, authority: &str, port: u16) -> Value {
        use base64::Engine;
        let bundle = base64::prelude::BASE64_STANDARD.encode(authority);
        let rule = |group: &str, version: &str, operations: &[&str], resource: &str| {
            json!({
                "apiGroups": [group], "apiVersions": [version], "operations": operations, "resources": [resource],
            })
        };
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": format!("vpa-webhook-{}", self.namespace) },
            "webhooks": [{
                "name": "vpa.k8s.io",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "timeoutSeconds": 5,
                "clientConfig": { "url": format!("https://127.0.0.1:{port}/"), "caBundle": bundle },
                "namespaceSelector": {
                    "matchLabels": { "kubernetes.io/metadata.name": self.namespace },
                },
                "rules": [
                    rule("", "v1", &["CREATE"], "pods"),
                    rule("autoscaling.k8s.io", "*", &["CREATE", "UPDATE"], "verticalpodautoscalers"),
                ],
            }],
        })
    }

    /// Removes what the scenario created outside its folder. On a shared cluster, the pods of a scenario that has
    /// ended would keep the simulators busy.
    pub async fn clean_up(&self) {
        use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
        let client = self.parts.client.clone();
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client);
        // Best effort: what is not there needs no removal, and the cluster goes away in the end.
        let _ = webhooks.delete(&format!("vpa-webhook-{}", self.namespace), &Default::default()).await;
        for namespace in [&self.namespace, &self.system] {
            let _ = namespaces.delete(namespace, &Default::default()).await;
        }
    }
}
