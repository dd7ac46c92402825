//! Starting the programs of the suite in a cluster: whose rights they have, what they see, and how often they act.

use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, Parts};
use crate::error::Result;
use crate::ports::free_port;
use crate::programs::{Program, Running};

/// The start of a program, before it happens.
pub struct Launch<'a> {
    cluster: &'a Cluster,
    program: Program,
    title: String,
    kubeconfig: Option<PathBuf>,
    args: Vec<String>,
}

impl<'a> Launch<'a> {
    /// Prepares the start of `program` in `cluster`.
    pub fn new(cluster: &'a Cluster, program: Program) -> Self {
        Self { cluster, program, title: program.component().to_owned(), kubeconfig: None, args: Vec::new() }
    }

    /// Adds a flag.
    pub fn arg(mut self, flag: impl Into<String>) -> Self {
        self.args.push(flag.into());
        self
    }

    /// Calls it `title` in messages and names its log so; for a second process of the same program.
    pub fn title(mut self, title: &str) -> Self {
        self.title = title.to_owned();
        self
    }

    /// Starts it with this kubeconfig instead of one of its service account.
    pub fn kubeconfig(mut self, path: &Path) -> Self {
        self.kubeconfig = Some(path.to_owned());
        self
    }

    /// Elects a leader, with short times.
    pub fn leader_election(self) -> Self {
        let namespace = format!("--leader-elect-resource-namespace={}", self.cluster.system());
        self.arg("--leader-elect=true")
            .arg(namespace)
            .arg("--leader-elect-lease-duration=3s")
            .arg("--leader-elect-renew-deadline=2s")
            .arg("--leader-elect-retry-period=500ms")
    }

    /// Serves the webhook on `port` with the files of [`Cluster::webhook_certificate`].
    pub fn webhook_files(self, port: u16) -> Self {
        let file = |name: &str| self.cluster.dir().join(name).display().to_string();
        let flags = [
            format!("--port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--tls-cert-file={}", file("webhook.crt")),
            format!("--tls-private-key={}", file("webhook.key")),
            format!("--client-ca-file={}", file("webhook-ca.crt")),
        ];
        flags.into_iter().fold(self, Launch::arg)
    }

    /// Starts it. It is not waited for.
    ///
    /// # Errors
    /// If it is not built, cannot be started, or gets no token.
    pub async fn start(self) -> Result<Running> {
        let cluster = self.cluster;
        let Parts { client, endpoint, kubeconfig: admin, .. } = &cluster.parts;
        let kubeconfig = match (self.kubeconfig, &cluster.access) {
            (Some(path), _) => path,
            (None, Some(access)) => access.kubeconfig(client, endpoint, self.program, cluster.dir()).await?,
            (None, None) => admin.clone(),
        };
        let port = free_port()?;
        let mut args = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--address=127.0.0.1:{port}"),
            format!("--vpa-object-namespace={}", cluster.namespace()),
            // The scenarios wait on the programs, not on their rate limit.
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ];
        args.extend(short_intervals(self.program).iter().map(ToString::to_string));
        args.extend(self.args);
        let env = [("NAMESPACE".to_owned(), cluster.system().to_owned())];
        let log = cluster.logs.join(format!("{}.log", self.title));
        Running::start(self.program, &self.title, &args, &env, port, &log)
    }
}

/// Flags that make a program act within seconds instead of minutes.
fn short_intervals(program: Program) -> &'static [&'static str] {
    match program {
        Program::Recommender => &[
            "--recommender-interval=1s",
            // History fades within a scenario, so that a recommendation can follow usage down as well as up.
            "--cpu-histogram-decay-half-life=5s",
            "--memory-histogram-decay-half-life=5s",
            "--memory-aggregation-interval=3s",
            // Low enough to let small workloads have small recommendations.
            "--pod-recommendation-min-cpu-millicores=5",
            "--pod-recommendation-min-memory-mb=10",
        ],
        Program::Updater => &[
            "--updater-interval=1s",
            "--in-recommendation-bounds-eviction-lifetime-threshold=1s",
            "--admission-controller-status-lease-timeout=5s",
        ],
        Program::AdmissionController => &["--status-lease-update-interval=1s"],
    }
}
