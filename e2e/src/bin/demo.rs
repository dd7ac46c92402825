//! Shows the suite at work: `make demo`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use e2e::demo::{self, advise};
use e2e::runner::Backend;

/// Shows the suite at work.
///
/// Without a cluster given it starts one of its own. With KUBECONFIG in the environment it changes nothing there and
/// prints what the suite would recommend.
#[derive(Debug, Parser)]
struct Args {
    /// Cluster to be started: `sim` (embedded, needs nothing but this program) or `real` (etcd, kube-apiserver and
    /// kube-controller-manager). Without it, the cluster of KUBECONFIG is looked at where that is set, else `sim` is
    /// started.
    #[arg(long, env = "CLUSTER", value_parser = ["sim", "real", ""], hide_possible_values = true, default_value = "")]
    cluster: String,
    /// A cluster to look at.
    #[arg(long, env = "KUBECONFIG", hide_env_values = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Seconds to show at most; it ends earlier once everything promised has happened.
    #[arg(long, default_value_t = 105)]
    seconds: u64,
    /// Seconds over which a cluster of one's own is looked at.
    #[arg(long, default_value_t = 60)]
    sample_seconds: u64,
    /// Writes a picture of the last screen and the summary to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let kubeconfig = args.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty());
    let done = match (args.cluster.as_str(), kubeconfig) {
        ("", Some(kubeconfig)) => {
            advise::run(&kubeconfig, Duration::from_secs(args.sample_seconds)).await.map(|()| true)
        }
        (cluster, _) => {
            let backend = if cluster == "real" { Backend::Real } else { Backend::Sim };
            demo::run(&options(&args, backend)).await
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: &Args, backend: Backend) -> demo::Options {
    let own =
        std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned())).unwrap_or_default();
    demo::Options {
        backend,
        show_max: Duration::from_secs(args.seconds),
        logs: own.join("demo-logs"),
        svg: args.svg.clone(),
    }
}
