//! The process: flags, log, runtime, signals, vital tasks and the exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::flags::{self, Flags, KubeFlags, LeaderElectFlags, ListenAddress, Parsed};
use crate::metrics::RuntimeMetrics;
use crate::{
    Cluster, Error, Health, Leadership, Pages, Store, StoreOptions, client, lease, preflight, server, store,
    telemetry,
};

/// Longest time from the first signal to the end. Kubernetes kills after 30 s by default.
const DRAIN_MAX: Duration = Duration::from_secs(25);
/// Threads that carry tasks. The programs wait far more than they compute; a second thread keeps health answers
/// coming while a cycle is computed, and more would only cost memory.
const WORKERS_MAX: usize = 4;

/// What a program is.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    /// Name of the binary, and of the client to the API server.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Default of `--address`.
    pub default_address: &'static str,
    /// Default of `--leader-elect-resource-name`, for programs that elect a leader.
    pub lease_name: Option<&'static str>,
}

/// Runs a program: reads its flags, starts the log and the runtime, hands over to `body`, and turns what comes back into
/// an exit code, with one line on standard error if that is not 0.
///
/// The first SIGTERM or SIGINT cancels [`Shell::stopping`]; `body` then has 25 s to finish what it is at. A second
/// signal, or the end of that time, ends the process at once with exit code 1. So does the end of a vital task.
pub fn run_main<A, F, Fut>(component: &'static Component, body: F) -> ExitCode
where
    A: Flags + Send + 'static,
    F: FnOnce(A, Shell) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    run_main_with(component, std::env::args_os().collect(), body)
}

/// [`run_main`] with this command line, the program's name first, for a program that has several commands.
pub fn run_main_with<A, F, Fut>(component: &'static Component, argv: Vec<OsString>, body: F) -> ExitCode
where
    A: Flags + Send + 'static,
    F: FnOnce(A, Shell) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let parsed = match flags::parse::<A>(component, argv) {
        Ok(Ok(parsed)) => parsed,
        Ok(Err(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return report(component, &error),
    };
    match start(component, parsed, body) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(component, &error),
    }
}

fn report(component: &Component, error: &Error) -> ExitCode {
    eprintln!("{}: {error}", component.name);
    ExitCode::from(error.exit_code())
}

fn start<A, F, Fut>(component: &'static Component, parsed: Parsed<A>, body: F) -> Result<(), Error>
where
    A: Flags + Send + 'static,
    F: FnOnce(A, Shell) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let Parsed { args, warnings } = parsed;
    telemetry::init(args.log())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    client::install_crypto();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|e| Error::other("starting the runtime", e))?;
    // As a task among the others: connections wake it, and it them, and on a thread of its own each time would be a
    // switch of threads.
    let main = runtime.spawn(async move {
        let (shell, deaths) = Shell::new(component)?;
        tracing::info!(component = component.name, version = env!("CARGO_PKG_VERSION"), "starting");
        supervise(shell.clone(), deaths, body(args, shell)).await
    });
    let result = runtime.block_on(main).unwrap_or_else(|panic| Err(Error::other("the program", panic)));
    // Tasks that are still there wait for nobody.
    runtime.shutdown_background();
    result
}

/// Runs `body` to its end, unless a vital task dies, a second signal comes or draining takes too long.
async fn supervise(
    shell: Shell,
    mut deaths: mpsc::UnboundedReceiver<Error>,
    body: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let mut body = std::pin::pin!(body);
    loop {
        let drain_over = async {
            shell.stop.cancelled().await;
            tokio::time::sleep(DRAIN_MAX).await;
        };
        tokio::select! {
            result = &mut body => {
                shell.stop.cancel();
                if result.is_ok() {
                    tracing::info!("stopped");
                }
                return result;
            }
            Some(death) = deaths.recv() => return Err(death),
            signal = signals.next() => {
                if shell.stop.is_cancelled() {
                    return Err(Error::Aborted(format!("a second signal came ({signal})")));
                }
                tracing::info!(signal, "finishing what is under way; a second signal ends at once");
                shell.health.phase("stopping");
                shell.stop.cancel();
            }
            () = drain_over => {
                return Err(Error::Aborted(format!("draining took longer than {} s", DRAIN_MAX.as_secs())));
            }
        }
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        use tokio::signal::unix::{SignalKind, signal};
        let make = |kind| signal(kind).map_err(|e| Error::other("listening for signals", e));
        Ok(Self { terminate: make(SignalKind::terminate())?, interrupt: make(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The process, as a program's body sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shell {
    component: &'static Component,
    registry: Registry,
    metrics: Arc<RuntimeMetrics>,
    health: Health,
    pages: Pages,
    stop: CancellationToken,
    deaths: mpsc::UnboundedSender<Error>,
}

impl Shell {
    /// A shell without signals, for tests; a death of a vital task comes out of the receiver.
    ///
    /// # Errors
    /// The metrics cannot be registered.
    pub fn new(component: &'static Component) -> Result<(Self, mpsc::UnboundedReceiver<Error>), Error> {
        let registry = Registry::new();
        let metrics = Arc::new(RuntimeMetrics::new(&registry)?);
        // Unbounded, but each vital task sends one message at most.
        let (deaths, receiver) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let (health, pages) = (Health::default(), Pages::default());
        let shell = Self { component, registry, metrics, health, pages, stop, deaths };
        Ok((shell, receiver))
    }

    /// What this program is.
    pub fn component(&self) -> &'static Component {
        self.component
    }

    /// Registry of the program's metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The shell's own metrics.
    pub fn metrics(&self) -> Arc<RuntimeMetrics> {
        self.metrics.clone()
    }

    /// How the program feels.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What the program shows under `/debug`, with `--profiling`.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Cancelled when the program has to come to its end.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits. Returns `false`, at once, when the program has to come to its end.
    pub async fn sleep(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(time) => !self.stop.is_cancelled(),
        }
    }

    /// Starts a task that the program cannot do without: its end while the program is not stopping, and a failure at any
    /// time, ends the process with an error that names it.
    pub fn vital(
        &self,
        task: impl Into<String>,
        work: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let (task, deaths, stop) = (task.into(), self.deaths.clone(), self.stop.clone());
        tokio::spawn(async move {
            // In a task of its own, so that a panic is seen as the end that it is.
            let death = match tokio::spawn(work).await {
                Ok(Ok(())) if stop.is_cancelled() => return,
                Ok(Ok(())) => Error::VitalTask { task, reason: "it came to an end".to_owned() },
                Ok(Err(error)) => error,
                Err(crash) => Error::VitalTask { task, reason: crash.to_string() },
            };
            // Nobody listens any more when the process is already ending.
            let _ = deaths.send(death);
        });
    }

    /// Starts the server for metrics and health.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn serve(&self, address: &ListenAddress, profiling: bool) -> Result<(), Error> {
        let listener = server::listen(address).await?;
        if let Some(local) = server::local(&listener) {
            tracing::info!(address = %local, "serving /metrics, /health-check, /healthz and /readyz");
        }
        let pages = profiling.then(|| self.pages.clone());
        let router = server::router(self.registry.clone(), self.health.clone(), pages);
        // Ends with the process: health has to be visible while the program drains.
        self.vital("metrics server", async move {
            server::serve(listener, router, CancellationToken::new())
                .await
                .map_err(|e| Error::other("serving metrics and health", e))
        });
        Ok(())
    }

    /// The cluster that the flags name, once it answers.
    ///
    /// # Errors
    /// [`Error::ClusterConfig`], [`Error::ClusterUnreachable`] or [`Error::Unauthorized`].
    pub async fn connect(&self, kube: &KubeFlags) -> Result<Cluster, Error> {
        self.health.phase("connecting");
        let agent = format!("{}/{}", self.component.name, env!("CARGO_PKG_VERSION"));
        let mut cluster = client::connect(kube, &agent, &self.metrics).await?;
        cluster.version = preflight::reachable(&cluster).await?;
        tracing::info!(url = cluster.url, version = cluster.version, "connected");
        Ok(cluster)
    }

    /// Starts a store, as a vital task, and makes readiness wait for it unless it is [`StoreOptions::optional`].
    pub fn watch<K>(&self, cluster: &Cluster, options: StoreOptions<K>) -> Store<K>
    where
        K: store::Stored,
    {
        let optional = options.is_optional();
        let (store, feed) = store::feed(cluster, options, self.metrics.clone(), self.stop.clone());
        if !optional {
            let watched = store.clone();
            self.health.check(store.name(), move || watched.ready());
        }
        self.vital(format!("watch of {}", store.name()), async move {
            feed.await;
            Ok(())
        });
        store
    }

    /// Waits until this replica leads; at once without `--leader-elect`. `None` when the program has to end before that.
    ///
    /// From then on loss of leadership cancels [`Leadership::token`] and ends the process with
    /// [`Error::LeadershipLost`].
    ///
    /// # Errors
    /// The flags contradict each other, or a permission on leases is missing.
    pub async fn lead(
        &self,
        cluster: &Cluster,
        flags: &LeaderElectFlags,
    ) -> Result<Option<Leadership>, Error> {
        lease::lead(self, cluster, flags).await
    }
}

#[cfg(test)]
mod tests;
