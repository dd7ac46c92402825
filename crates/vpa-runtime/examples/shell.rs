//! The shell without decisions: connects, checks, watches VPAs, pods and targets, leads, and counts. For looking at a
//! cluster's answers and for measuring what the shell itself costs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_core::target::topmost_of_pod;
use vpa_runtime::flags::{CommonFlags, GoDuration, LeaderElectFlags};
use vpa_runtime::store::wait_all;
use vpa_runtime::targets::{self, Targets};
use vpa_runtime::{Component, Error, Shell, StoreOptions, preflight};

#[derive(clap::Parser, Debug)]
struct Args {
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    leader: LeaderElectFlags,
    /// How often to count
    #[arg(long, default_value = "5s")]
    interval: GoDuration,
}

impl AsRef<CommonFlags> for Args {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

const COMPONENT: Component = Component {
    name: "shell",
    about: "Watches what the suite watches, and counts.",
    default_address: ":8950",
    lease_name: Some("vpa-shell-example"),
};

async fn run(args: Args, shell: Shell) -> Result<(), Error> {
    let Args { common, leader, interval } = args;
    let CommonFlags { kube, scope, log: _, address, profiling, feature_gates: _ } = common;
    shell.serve(&address, profiling).await?;
    let scope = scope.scope()?;
    let cluster = shell.connect(&kube).await?;
    preflight::crds(&cluster, &[preflight::VPA_CRD]).await?;
    let mut rights = targets::permissions(&scope);
    rights.extend(preflight::Permission::read("", "pods", "find pods"));
    preflight::permissions(&cluster, &rights).await?;

    let began = Instant::now();
    let vpas = shell.watch::<VerticalPodAutoscaler>(&cluster, StoreOptions::named("vpas").scope(&scope));
    let pods = shell.watch::<Pod>(&cluster, StoreOptions::named("pods").scope(&scope));
    let targets = Targets::start(&shell, &cluster, &scope);
    if !wait_all(&[&vpas, &pods, &targets], &shell.stopping()).await {
        return Ok(());
    }
    println!("listed after {:?}", began.elapsed());
    let Some(leadership) = shell.lead(&cluster, &leader).await? else { return Ok(()) };
    shell.health().monitor(interval.as_std() * 5);
    loop {
        let began = Instant::now();
        let all = pods.snapshot();
        let settled = futures::future::join_all(
            all.iter()
                .map(|pod| targets.settled(Duration::from_secs(1), |targets| topmost_of_pod(targets, pod))),
        );
        let known = settled.await.iter().filter(|top| matches!(top, Ok(Some(_)))).count();
        println!(
            "{} VPAs, {} pods, {known} of them with a controller, in {:?}; leading: {}",
            vpas.len(),
            all.len(),
            began.elapsed(),
            leadership.holds()
        );
        shell.health().active();
        if !shell.sleep(interval.as_std()).await {
            break;
        }
    }
    leadership.release().await;
    Ok(())
}

fn main() -> ExitCode {
    vpa_runtime::run_main(&COMPONENT, run)
}
