//! Certificates that the admission controller makes and keeps, its place in the cluster, and the end of both.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use e2e::bed::Bed;
use e2e::cluster::{Cluster, SOON};
use e2e::error::{Doing, Error, Result};
use e2e::ports::free_port;
use e2e::process::Process;
use e2e::programs::{self, Program, Running};
use e2e::wait::{Seen, wait_for};
use e2e::workload::Workload;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::admit::{deploy_with, registered_by_url};

const CONFIGURATION: &str = "vpa-webhook-config";
const SECRET: &str = "vpa-webhook-certificates";
const LEASE: &str = "vpa-admission-controller";

/// Time for the removal, which looks on for some seconds.
const REMOVAL: Duration = Duration::from_secs(30);

/// Two replicas behind one address, with the failure policy Fail: they serve by one authority; a Secret that is deleted
/// and a configuration that is changed come back, while each pod that is created meanwhile is reviewed; and in the end
/// nothing is left.
pub(crate) async fn replicas_share_certificates_that_nobody_has_to_look_after(bed: Bed) -> Result<()> {
    let _alone = crate::sole_webhook(&bed).await;
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app");
    cluster.create_vpa(&app.vpa("Initial")).await?;
    cluster.recommend("app", "250m", "300Mi").await?;
    let ports = [free_port()?, free_port()?];
    let balancer = Balancer::start(ports).await?;
    let [mut first, mut second] = [
        start_replica(&cluster, &balancer, "first", ports[0]).await?,
        start_replica(&cluster, &balancer, "second", ports[1]).await?,
    ];
    first.ready().await?;
    second.ready().await?;
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(cluster.client().clone());
    let secrets: Api<Secret> = Api::namespaced(cluster.client().clone(), cluster.system());
    wait_for(format!("the webhook configuration {CONFIGURATION}"), SOON, || async {
        let found = webhooks.get_opt(CONFIGURATION).await.doing(format!("get {CONFIGURATION}"))?;
        Ok(found.map_or_else(|| Seen::Not("none".to_owned()), Seen::Done))
    })
    .await?;
    let authorities = bundle(&webhooks).await?.matches("BEGIN CERTIFICATE").count();
    if authorities != 1 {
        return Err(Error::expectation(format!(
            "two replicas should share one authority; there are {authorities}"
        )));
    }
    deploy_with(&cluster, &app, "250m").await?;

    let deletions = Deletions::watch(&webhooks).await?;
    let stream = Creations::start(&cluster);
    delete_secret(&secrets).await?;
    change_configuration(&webhooks).await?;
    stream.reviewed_by_both(&balancer).await?;
    let (created, failures) = stream.stop();
    if created < 20 || !failures.is_empty() {
        let failure = failures.first();
        return Err(Error::expectation(format!(
            "expected all pods to be created; of {created} {} were not, such as: {failure:?}",
            failures.len()
        )));
    }
    if deletions.seen() {
        return Err(Error::expectation(format!("{CONFIGURATION} was deleted at some time")));
    }
    first.stop().await?;
    second.stop().await?;
    removal(&cluster, &balancer).await?;
    cluster.clean_up().await;
    Ok(())
}

async fn start_replica(cluster: &Cluster, balancer: &Balancer, title: &str, port: u16) -> Result<Running> {
    let launch = cluster.program(Program::AdmissionController).title(title);
    let launch = launch.arg(format!("--port={port}")).arg("--bind-address=127.0.0.1");
    registered_by_url(launch, balancer.port).arg("--webhook-failure-policy-fail").start().await
}

/// The Secret goes and comes back, with what it held and an authority to follow.
async fn delete_secret(secrets: &Api<Secret>) -> Result<()> {
    let data = |secret: &Secret, key: &str| secret.data.as_ref().and_then(|data| data.get(key).cloned());
    let before = secrets.get(SECRET).await.doing(format!("get Secret {SECRET}"))?;
    secrets.delete(SECRET, &DeleteParams::default()).await.doing(format!("delete Secret {SECRET}"))?;
    let after = wait_for(format!("Secret {SECRET} to come back"), SOON, || async {
        let found = secrets.get_opt(SECRET).await.doing(format!("get Secret {SECRET}"))?;
        Ok(found.map_or_else(|| Seen::Not("none".to_owned()), Seen::Done))
    })
    .await?;
    if data(&after, "tls.crt") != data(&before, "tls.crt") || data(&after, "next-ca.key").is_none() {
        return Err(Error::expectation(
            "a deleted Secret should come back with the certificate that is served, and another authority to follow",
        ));
    }
    Ok(())
}

/// Somebody changes the configuration by hand.
async fn change_configuration(webhooks: &Api<MutatingWebhookConfiguration>) -> Result<()> {
    let changed = |found: &MutatingWebhookConfiguration| {
        let webhook = found.webhooks.as_ref().and_then(|webhooks| webhooks.first());
        webhook.map(|webhook| (webhook.timeout_seconds, webhook.failure_policy.clone()))
    };
    let before = webhooks.get(CONFIGURATION).await.doing(format!("get {CONFIGURATION}"))?;
    let mut webhook = serde_json::to_value(&before.webhooks).unwrap_or_default()[0].clone();
    json_patch::merge(&mut webhook, &json!({ "timeoutSeconds": 7, "failurePolicy": "Ignore" }));
    let patch = Patch::Merge(json!({ "webhooks": [webhook] }));
    webhooks
        .patch(CONFIGURATION, &PatchParams::default(), &patch)
        .await
        .doing(format!("change {CONFIGURATION}"))?;
    wait_for(format!("{CONFIGURATION} to be as it was"), SOON, || async {
        let found = webhooks.get(CONFIGURATION).await.doing(format!("get {CONFIGURATION}"))?;
        let same = changed(&found) == changed(&before) && found.metadata.uid == before.metadata.uid;
        Ok(if same { Seen::Done(()) } else { Seen::Not(format!("{:?}", changed(&found))) })
    })
    .await
}

async fn bundle(webhooks: &Api<MutatingWebhookConfiguration>) -> Result<String> {
    let found = webhooks.get(CONFIGURATION).await.doing(format!("get {CONFIGURATION}"))?;
    let webhook = found.webhooks.and_then(|webhooks| webhooks.into_iter().next());
    let bundle = webhook.and_then(|webhook| webhook.client_config.ca_bundle);
    Ok(bundle.map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned()).unwrap_or_default())
}

/// What the chart's hook does, under its account: a configuration that leads elsewhere stays, the program's own goes with all
/// that belongs to it, and there is no harm in doing it twice.
async fn removal(cluster: &Cluster, balancer: &Balancer) -> Result<()> {
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(cluster.client().clone());
    let secrets: Api<Secret> = Api::namespaced(cluster.client().clone(), cluster.system());
    let leases: Api<Lease> = Api::namespaced(cluster.client().clone(), cluster.system());
    let there = || async {
        let webhook = webhooks.get_opt(CONFIGURATION).await.doing("look for the configuration")?.is_some();
        let secret = secrets.get_opt(SECRET).await.doing("look for the Secret")?.is_some();
        let lease = leases.get_opt(LEASE).await.doing("look for the lease")?.is_some();
        Ok::<_, Error>([webhook, secret, lease])
    };
    let cases = [
        ("elsewhere", balancer.port.wrapping_add(1), false, "left alone", [true, true, true]),
        ("ours", balancer.port, true, "removed", [false, false, false]),
        ("again", balancer.port, true, "is not there", [false, false, false]),
    ];
    for (title, port, purge, text, left) in cases {
        let log = deregister(cluster, title, port, purge).await?;
        let found = there().await?;
        if !log.contains(&format!("{CONFIGURATION} {text}")) || found != left {
            return Err(Error::expectation(format!(
                "{title}: expected {text:?} and {left:?} (configuration, Secret, lease); found {found:?} and:\n{log}"
            )));
        }
    }
    Ok(())
}

/// Runs the removal to its end; what it printed.
async fn deregister(cluster: &Cluster, title: &str, port: u16, purge: bool) -> Result<String> {
    let (parts, dir) = (cluster.parts(), cluster.dir());
    let access = cluster.access()?;
    let kubeconfig = access.kubeconfig_of(&parts.client, &parts.endpoint, "deregister", dir).await?;
    let mut command = Command::new(programs::folder()?.join(Program::AdmissionController.file_name()));
    command.env("NAMESPACE", cluster.system()).arg("deregister");
    command.arg(format!("--kubeconfig={}", kubeconfig.display())).arg(format!("--purge={purge}"));
    command.args(["--register-by-url", "--webhook-address=https://127.0.0.1"]);
    command.arg(format!("--webhook-port={port}")).arg("--settle=1s");
    let log = cluster.logs().join(format!("deregister-{title}.log"));
    let mut process = Process::start(format!("deregister ({title})"), command, &log)?;
    let status = process.wait(REMOVAL).await?;
    if status.success() {
        return Ok(process.log_text());
    }
    Err(Error::expectation(format!("{title}: {}: {}", e2e::process::describe(status), process.log_text())))
}

/// One address for two replicas, as a service is: each new connection goes to the other one.
struct Balancer {
    port: u16,
    /// Connections that each replica got.
    counts: Arc<[AtomicUsize; 2]>,
    _task: AbortOnDropHandle<()>,
}

impl Balancer {
    async fn start(ports: [u16; 2]) -> Result<Self> {
        let failed = |error: std::io::Error| Error::expectation(format!("the balancer: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let counted = counts.clone();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((mut client, _)) = listener.accept().await {
                turn = 1 - turn;
                let (counts, replica) = (counted.clone(), turn);
                tokio::spawn(async move {
                    let address = SocketAddr::from(([127, 0, 0, 1], ports[replica]));
                    if let Ok(mut server) = TcpStream::connect(address).await {
                        counts[replica].fetch_add(1, Ordering::Relaxed);
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        }));
        Ok(Self { port, counts, _task: task })
    }

    fn counts(&self) -> [usize; 2] {
        [0, 1].map(|replica: usize| self.counts[replica].load(Ordering::Relaxed))
    }
}

/// Pods that are created, one after the other, without being kept.
struct Creations {
    created: Arc<AtomicUsize>,
    failures: Arc<std::sync::Mutex<Vec<String>>>,
    task: AbortOnDropHandle<()>,
}

impl Creations {
    fn start(cluster: &Cluster) -> Self {
        let (created, failures) =
            (Arc::<AtomicUsize>::default(), Arc::<std::sync::Mutex<Vec<String>>>::default());
        let (count, told, api) = (created.clone(), failures.clone(), cluster.api::<Pod>());
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let params = PostParams { dry_run: true, ..PostParams::default() };
            loop {
                let pod = json!({
                    "metadata": { "generateName": "stream-" },
                    "spec": { "containers": [{ "name": "app", "image": "app" }] },
                });
                // This cannot fail, and if it did the count would say so.
                let Ok(pod) = serde_json::from_value(pod) else { return };
                let result = api.create(&params, &pod).await;
                count.fetch_add(1, Ordering::Relaxed);
                if let (Err(error), Ok(mut failures)) = (result, told.lock()) {
                    failures.push(error.to_string());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
        Self { created, failures, task }
    }

    /// Waits until both replicas were called and some more pods went by.
    async fn reviewed_by_both(&self, balancer: &Balancer) -> Result<()> {
        let before = self.created.load(Ordering::Relaxed);
        wait_for("reviews by both replicas", SOON, || async {
            let (counts, created) = (balancer.counts(), self.created.load(Ordering::Relaxed));
            let done = counts.iter().all(|count| *count > 0) && created >= before + 20;
            Ok(if done {
                Seen::Done(())
            } else {
                Seen::Not(format!("connections {counts:?}, pods {created}"))
            })
        })
        .await
    }

    fn stop(self) -> (usize, Vec<String>) {
        drop(self.task);
        let failures = self.failures.lock().map(|failures| failures.clone()).unwrap_or_default();
        (self.created.load(Ordering::Relaxed), failures)
    }
}

/// Whether the configuration is deleted at any time.
struct Deletions {
    seen: Arc<AtomicBool>,
    task: AbortOnDropHandle<()>,
}

impl Deletions {
    async fn watch(webhooks: &Api<MutatingWebhookConfiguration>) -> Result<Self> {
        let found = webhooks.get(CONFIGURATION).await.doing(format!("get {CONFIGURATION}"))?;
        let version = found.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().fields(&format!("metadata.name={CONFIGURATION}"));
        let events = webhooks.watch(&params, &version).await.doing(format!("watch {CONFIGURATION}"))?;
        let seen = Arc::<AtomicBool>::default();
        let saw = seen.clone();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut events = events.boxed();
            while let Ok(Some(event)) = events.try_next().await {
                if matches!(event, WatchEvent::Deleted(_)) {
                    saw.store(true, Ordering::Relaxed);
                }
            }
        }));
        Ok(Self { seen, task })
    }

    /// True also where the watch has ended, since then nobody knows.
    fn seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed) || self.task.is_finished()
    }
}
