//! An API server for tests and demonstrations: the part of the Kubernetes API that a vertical autoscaler and its
//! surroundings use, over plain HTTP on loopback, with all objects in memory.
//!
//! A request goes from [`handler`] (path, user, permission) to [`read`], [`watch`], [`write`] or [`delete`], which work
//! on the [`store`]; [`kinds`] says what is served, [`schema`] and [`defaults`] complete objects, [`webhook`] lets
//! admission webhooks review them.

mod auth;
mod cel;
mod convert;
mod crd;
mod defaults;
mod delete;
mod discovery;
pub(crate) mod error;
mod eviction;
mod external;
mod faults;
mod handler;
mod kinds;
mod names;
mod patch;
mod pods;
mod read;
pub(crate) mod request;
mod resize;
mod schema;
mod selector;
mod state;
mod store;
mod value;
mod warnings;
mod watch;
mod webhook;
mod write;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use parking_lot::RwLock;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use external::{ExternalMetrics, ExternalValue};
pub use faults::{Fault, FaultAction};

use crate::metrics_api::MetricsStore;
use kinds::Registry;
use state::State;
use store::Store;
use webhook::WebhookCaller;

/// How the server runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Changes kept for each kind; a watch that is further behind gets `410 Gone`.
    pub history_max: usize,
    /// Watches open at a time; more are refused with 429.
    pub watches_max: usize,
    /// Largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// Where webhooks of Services without an external name listen: `host:port` by `namespace/name`.
    pub services: BTreeMap<String, String>,
    /// Usage that `metrics.k8s.io` answers from.
    pub metrics: MetricsStore,
    /// Values that `external.metrics.k8s.io` answers from.
    pub external: Arc<ExternalMetrics>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            // A cluster of thousands of pods writes some hundred objects a second; this holds a minute of it.
            history_max: 20_000,
            // Three programs, two replicas each, a dozen watches a program, and the simulators.
            watches_max: 1_000,
            // The limit of a real API server.
            body_bytes_max: 3 * 1024 * 1024,
            services: BTreeMap::new(),
            metrics: MetricsStore::default(),
            external: Arc::default(),
        }
    }
}

/// Why the server did not start or could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The port is taken, or loopback is missing.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// Port that was asked for.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kubeconfig could not be written.
    #[error("cannot write the kubeconfig {path}")]
    Kubeconfig {
        /// File name.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No further token can be issued.
    #[error("too many tokens were issued; {namespace}/{name} gets none")]
    Tokens {
        /// Namespace of the service account.
        namespace: String,
        /// Name of the service account.
        name: String,
    },
}

/// The embedded API server.
#[derive(Debug)]
pub struct ApiServer;

/// A server that runs; it stops when this is dropped.
pub struct Running {
    address: SocketAddr,
    state: Arc<State>,
    tasks: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts the server. It serves when this returns, with the namespaces `default`, `kube-system`, `kube-public`
    /// and `kube-node-lease`.
    ///
    /// # Errors
    /// [`ServerError::Listen`] where the port cannot be had.
    pub async fn start(options: Options) -> Result<Running, ServerError> {
        let port = options.port;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|source| ServerError::Listen { port, source })?;
        let address = listener.local_addr().map_err(|source| ServerError::Listen { port, source })?;
        let state = Arc::new(State {
            store: Store::new(options.history_max),
            kinds: RwLock::new(Registry::built_in()),
            faults: faults::Faults::default(),
            tokens: auth::Tokens::default(),
            metrics: options.metrics,
            external: options.external,
            webhooks: WebhookCaller { services: options.services },
            deleted: Notify::new(),
            watches: Arc::new(Semaphore::new(options.watches_max.min(Semaphore::MAX_PERMITS))),
            body_bytes_max: options.body_bytes_max,
            shutdown: CancellationToken::new(),
        });
        create_namespaces(&state);
        let shared = Arc::clone(&state);
        let router = Router::new().fallback(move |request: axum::extract::Request| {
            let state = Arc::clone(&shared);
            async move { handler::handle(state, request).await }
        });
        let stop = state.shutdown.clone();
        let serve = tokio::spawn(async move {
            let served =
                axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
            if let Err(error) = served.await {
                tracing::error!(%error, "the API server ended");
            }
        });
        let collect = tokio::spawn(delete::collect_garbage(Arc::clone(&state)));
        Ok(Running { address, state, tasks: vec![serve, collect] })
    }
}

fn create_namespaces(state: &State) {
    let kind = state.kinds.read().get("", "namespaces").cloned();
    let Some(kind) = kind else { return };
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let mut namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "uid": names::uid(), "creationTimestamp": value::now_text()},
        });
        defaults::fill(&kind, &mut namespace);
        if let Ok(stored) = state.store.create("namespaces", namespace) {
            write::after_write(state, &kind, &stored);
        }
    }
}

impl Running {
    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Text of a kubeconfig for the administrator.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_with(auth::ADMIN_TOKEN)
    }

    /// Text of a kubeconfig for a service account; it is held to the cluster's roles from its first request on.
    ///
    /// # Errors
    /// [`ServerError::Tokens`] after too many of them.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<String, ServerError> {
        let user = auth::User::service_account(namespace, name);
        let token = self
            .state
            .tokens
            .issue(user)
            .ok_or_else(|| ServerError::Tokens { namespace: namespace.to_owned(), name: name.to_owned() })?;
        Ok(self.kubeconfig_with(&token))
    }

    fn kubeconfig_with(&self, token: &str) -> String {
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "vpa-sim",
            "clusters": [{"name": "vpa-sim", "cluster": {"server": self.url()}}],
            "users": [{"name": "vpa-sim", "user": {"token": token}}],
            "contexts": [{"name": "vpa-sim", "context": {"cluster": "vpa-sim", "user": "vpa-sim"}}],
        });
        format!("{config:#}\n")
    }

    /// Writes [`Running::kubeconfig`] to a file.
    ///
    /// # Errors
    /// [`ServerError::Kubeconfig`] with the file's name.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<(), ServerError> {
        std::fs::write(path, self.kubeconfig())
            .map_err(|source| ServerError::Kubeconfig { path: path.display().to_string(), source })
    }

    /// Usage that `metrics.k8s.io` answers from.
    pub fn metrics(&self) -> &MetricsStore {
        &self.state.metrics
    }

    /// Values that `external.metrics.k8s.io` answers from.
    pub fn external(&self) -> &Arc<ExternalMetrics> {
        &self.state.external
    }

    /// Adds a scripted fault; `false` if there are too many already.
    pub fn add_fault(&self, fault: Fault) -> bool {
        self.state.faults.add(fault)
    }

    /// Removes all scripted faults.
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }

    /// Forgets the history of changes, as a compaction of etcd does: every watch gets `410 Gone` and lists again.
    pub fn compact(&self) {
        self.state.store.compact();
    }

    /// Stops the server and waits for its tasks; open watches end.
    pub async fn shutdown(mut self) {
        self.state.shutdown.cancel();
        for task in std::mem::take(&mut self.tasks) {
            let abort = task.abort_handle();
            // A client that keeps its connection busy must not hold up the end.
            if tokio::time::timeout(std::time::Duration::from_secs(2), task).await.is_err() {
                abort.abort();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.state.shutdown.cancel();
    }
}
