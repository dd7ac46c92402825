//! Runs the embedded cluster until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vpa_sim::{ApiServer, Options};

/// A Kubernetes API server on loopback with everything in memory, for trying things out.
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

async fn run(args: Args) -> Result<(), vpa_sim::ServerError> {
    let options = Options {
        port: args.port,
        history_max: args.history,
        services: args.webhook_service.into_iter().collect(),
        ..Options::default()
    };
    let server = ApiServer::start(options).await?;
    if let Some(path) = &args.kubeconfig_out {
        server.write_kubeconfig(path)?;
    }
    tracing::info!(url = %server.url(), "serving");
    wait_for_signal().await;
    server.shutdown().await;
    Ok(())
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
