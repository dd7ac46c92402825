//! Runs the embedded cluster, or the simulators alone against another API server, until it is told to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use vpa_sim::simulate::{NodeSpec, Simulation, SimulationOptions};
use vpa_sim::{ApiServer, Options, ServerError};

/// Memory of a simulated node: 4 GiB for each core, a usual machine type.
const MEMORY_PER_CORE: i64 = 4 << 30;

/// A cluster on loopback with everything in memory, for trying things out: a Kubernetes API server, and simulated
/// controllers, nodes and programs.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where to write a kubeconfig for the administrator.
    #[arg(long, value_name = "FILE")]
    kubeconfig_out: Option<PathBuf>,
    /// Changes kept for each kind; a watch that is further behind is told to list again (410 Gone).
    #[arg(long, default_value_t = Options::default().history_max)]
    history: usize,
    /// Where the webhook of a Service listens, as namespace/name=host:port. May be given more than once. A Service
    /// of type ExternalName needs none.
    #[arg(long, value_name = "NAMESPACE/NAME=HOST:PORT", value_parser = service)]
    webhook_service: Vec<(String, String)>,
    /// Simulate in the cluster of this kubeconfig instead of starting an API server. Only for clusters without nodes
    /// of their own: the simulators bind its pods and say that they run.
    #[arg(long, value_name = "FILE")]
    simulate_in: Option<PathBuf>,
    /// Leave the workload controllers out, because a kube-controller-manager runs.
    #[arg(long)]
    no_controllers: bool,
    /// Simulated nodes; 0 simulates nothing.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Cores of each simulated node; it has 4 GiB of memory for each.
    #[arg(long, default_value_t = 8)]
    node_cores: i64,
    /// Simulated seconds in a real one, for usage and cron schedules.
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("kubeconfig {path} cannot be used: {source}")]
    Kubeconfig { path: PathBuf, source: kube::config::KubeconfigError },
    #[error("no client for {url}: {source}")]
    Client { url: String, source: kube::Error },
}

fn service(text: &str) -> Result<(String, String), String> {
    let (name, address) = text.split_once('=').ok_or("expected namespace/name=host:port")?;
    Ok((name.to_owned(), address.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(
                "{error}: {}",
                std::error::Error::source(&error).map_or(String::new(), ToString::to_string)
            );
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    if let Some(path) = &args.simulate_in {
        let file = kube::config::Kubeconfig::read_from(path)
            .map_err(|source| Failure::Kubeconfig { path: path.clone(), source })?;
        let simulation = simulate(&args, client_config(file, path).await?, SimulationOptions::default())?;
        wait_for_signal().await;
        simulation.stop().await;
        return Ok(());
    }
    let options = Options {
        port: args.port,
        history_max: args.history,
        services: args.webhook_service.iter().cloned().collect(),
        ..Options::default()
    };
    let server = ApiServer::start(options).await?;
    if let Some(path) = &args.kubeconfig_out {
        server.write_kubeconfig(path)?;
    }
    tracing::info!(url = %server.url(), "serving");
    let simulation = match args.nodes {
        0 => None,
        _ => {
            let options =
                SimulationOptions { metrics: server.metrics().clone(), ..SimulationOptions::default() };
            let own = Path::new("of this server");
            let failed = |source| Failure::Kubeconfig { path: own.to_owned(), source };
            let file = kube::config::Kubeconfig::from_yaml(&server.kubeconfig()).map_err(failed)?;
            Some(simulate(&args, client_config(file, own).await?, options)?)
        }
    };
    wait_for_signal().await;
    if let Some(simulation) = simulation {
        simulation.stop().await;
    }
    server.shutdown().await;
    Ok(())
}

async fn client_config(file: kube::config::Kubeconfig, path: &Path) -> Result<kube::Config, Failure> {
    kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
        .await
        .map_err(|source| Failure::Kubeconfig { path: path.to_owned(), source })
}

fn simulate(args: &Args, config: kube::Config, options: SimulationOptions) -> Result<Simulation, Failure> {
    let url = config.cluster_url.to_string();
    let client =
        kube::Client::try_from(config).map_err(|source| Failure::Client { url: url.clone(), source })?;
    let options = SimulationOptions {
        controllers: !args.no_controllers,
        nodes: NodeSpec::several(args.nodes, args.node_cores * 1000, args.node_cores * MEMORY_PER_CORE),
        time_scale: args.time_scale,
        ..options
    };
    tracing::info!(%url, nodes = args.nodes, "simulating");
    Ok(Simulation::start(client, options))
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => {
            let _interrupted = tokio::signal::ctrl_c().await;
        }
    }
}
