//! A real control plane on loopback: etcd, kube-apiserver and, where wanted, kube-controller-manager.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{Error, OnFile, Result};
use crate::guard;
use crate::kubeconfig::{self, Endpoint, Identity};
use crate::pki::{self, Authority};
use crate::ports::free_port;
use crate::process::Process;
use crate::tools::{Tool, Tools};

/// Time for the API server to become ready: 5 s on an idle machine, more while the machine compiles.
const READY_DEADLINE: Duration = Duration::from_secs(120);

/// How often readiness is asked for.
const READY_POLL: Duration = Duration::from_millis(100);

/// Starts before giving up. A port found free can be taken by another process before its owner binds it.
const START_ATTEMPTS_MAX: u32 = 3;

/// What the controller manager runs: what workloads, disruption budgets and namespaces need, and nothing that
/// would act on simulated nodes.
const CONTROLLERS: &str = "deployment,replicaset,replicationcontroller,statefulset,daemonset,job,cronjob,disruption,\
                           garbage-collector-controller,namespace,serviceaccount";

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether to run kube-controller-manager.
    pub controllers: bool,
    /// Folder for the logs of the programs; must exist or be creatable.
    pub logs: PathBuf,
}

/// A running control plane. Dropping it kills its programs and removes its data.
pub struct ControlPlane {
    // The order is that of the end: clients of a program before the program.
    controllers: Option<Process>,
    apiserver: Process,
    etcd: Process,
    endpoint: Endpoint,
    kubeconfig: PathBuf,
    client: kube::Client,
    _dir: tempfile::TempDir,
}

impl ControlPlane {
    /// Starts everything and waits until the API server is ready.
    ///
    /// # Errors
    /// If a program cannot be started, ends by itself, or is not ready in time.
    pub async fn start(tools: &Tools, options: &Options) -> Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::start_once(tools, options).await {
                Err(Error::Ended { tail, .. })
                    if tail.contains("address already in use") && attempt < START_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn start_once(tools: &Tools, options: &Options) -> Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("vpa-e2e-").tempdir().on_file(std::env::temp_dir(), "use")?;
        guard::remove_at_end(dir.path());
        let pki = Pki::make(dir.path())?;
        let [clients, peers, secure] = [free_port()?, free_port()?, free_port()?];
        let mut etcd = start_etcd(tools, options, dir.path(), clients, peers)?;
        let mut apiserver = start_apiserver(tools, options, dir.path(), clients, secure)?;
        let endpoint = Endpoint {
            url: format!("https://127.0.0.1:{secure}"),
            authority: Some(pki.cluster.certificate().to_owned()),
        };
        let kubeconfig = kubeconfig::path(dir.path(), "admin");
        let admin = pki.cluster.client("e2e-admin", Some("system:masters"))?;
        kubeconfig::write(&kubeconfig, &endpoint, &Identity::Certificate(admin))?;
        let client = kubeconfig::client(&kubeconfig).await?;
        wait_ready(&client, &mut etcd, &mut apiserver).await?;
        let controllers = match options.controllers {
            true => Some(start_controllers(tools, options, dir.path(), &kubeconfig)?),
            false => None,
        };
        Ok(Self { controllers, apiserver, etcd, endpoint, kubeconfig, client, _dir: dir })
    }

    /// Kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Client of an administrator.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Where the API server listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Process numbers of the programs.
    pub fn process_ids(&self) -> Vec<u32> {
        [Some(&self.etcd), Some(&self.apiserver), self.controllers.as_ref()]
            .into_iter()
            .flatten()
            .map(Process::id)
            .collect()
    }

    /// Fails if one of the programs has ended.
    ///
    /// # Errors
    /// [`Error::Ended`] with the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        self.etcd.check_running()?;
        self.apiserver.check_running()?;
        self.controllers.as_mut().map_or(Ok(()), Process::check_running)
    }
}

/// The files that the API server is started with.
struct Pki {
    cluster: Authority,
}

impl Pki {
    /// Client certificates and aggregation have authorities of their own: a client of the one must not pass for the
    /// front proxy of the other.
    fn make(dir: &Path) -> Result<Self> {
        let cluster = Authority::new("e2e-cluster")?;
        let front_proxy = Authority::new("e2e-front-proxy")?;
        pki::write(&dir.join("cluster-ca.crt"), cluster.certificate())?;
        pki::write(&dir.join("front-proxy-ca.crt"), front_proxy.certificate())?;
        let hosts = ["127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"];
        cluster.server("kube-apiserver", &hosts)?.write(dir, "apiserver")?;
        front_proxy.client("front-proxy-client", None)?.write(dir, "front-proxy-client")?;
        let tokens = pki::signing_key()?;
        pki::write(&dir.join("tokens.key"), &tokens.serialize_pem())?;
        pki::write(&dir.join("tokens.pub"), &tokens.public_key_pem())?;
        Ok(Self { cluster })
    }
}

fn log(options: &Options, program: &str) -> PathBuf {
    options.logs.join(format!("{program}.log"))
}

fn start_etcd(tools: &Tools, options: &Options, dir: &Path, clients: u16, peers: u16) -> Result<Process> {
    let data = dir.join("etcd");
    fs::create_dir_all(&data).on_file(&data, "create")?;
    let (clients, peers) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
    let mut command = Command::new(tools.path(Tool::Etcd));
    command.args([
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // The data die with the run, so nothing is gained by waiting for the disk.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]);
    Process::start("etcd", command, &log(options, "etcd"))
}

fn start_apiserver(tools: &Tools, options: &Options, dir: &Path, etcd: u16, port: u16) -> Result<Process> {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new(tools.path(Tool::KubeApiserver));
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", file("apiserver-made")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("cluster-ca.crt")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("tokens.pub")),
        format!("--service-account-signing-key-file={}", file("tokens.key")),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        // No endpoints of the server itself: nothing in here goes through its Service.
        "--endpoint-reconciler-type=none".to_owned(),
        // Pods of the scenarios need no tokens, so they need not wait for their namespace's service account.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
        "--profiling=false".to_owned(),
    ]);
    Process::start("kube-apiserver", command, &log(options, "kube-apiserver"))
}

fn start_controllers(tools: &Tools, options: &Options, dir: &Path, kubeconfig: &Path) -> Result<Process> {
    let mut command = Command::new(tools.path(Tool::KubeControllerManager));
    command.args([
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--controllers={CONTROLLERS}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        format!("--service-account-private-key-file={}", dir.join("tokens.key").display()),
        // Scenarios wait on the controllers, not on their rate limit.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        "--profiling=false".to_owned(),
    ]);
    Process::start("kube-controller-manager", command, &log(options, "kube-controller-manager"))
}

async fn wait_ready(client: &kube::Client, etcd: &mut Process, apiserver: &mut Process) -> Result<()> {
    let started = Instant::now();
    loop {
        etcd.check_running()?;
        apiserver.check_running()?;
        let request = http::Request::get("/readyz").body(Vec::new());
        let request = request.map_err(|error| Error::Client(error.to_string()))?;
        let last = match client.request_text(request).await {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        if started.elapsed() >= READY_DEADLINE {
            let what = "kube-apiserver to be ready".to_owned();
            return Err(Error::Timeout { what, waited: READY_DEADLINE, last });
        }
        tokio::time::sleep(READY_POLL).await;
    }
}
