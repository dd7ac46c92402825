//! The harness itself.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::time::Duration;

use e2e::bed::Bed;
use e2e::cluster::SOON;
use e2e::error::{Doing, Error, Result};
use e2e::pods::{describe, is_ready, name, request, restarts};
use e2e::process::Process;
use e2e::programs::{Program, Running};
use e2e::wait::{Seen, wait_for};
use e2e::workload::Workload;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{EvictParams, Patch, PatchParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// Makes this program start a process and wait to be killed.
const HOLD: &str = "--hold-a-process";

/// A run that is killed with SIGKILL, and so can clean up nothing, leaves no process and no folder.
pub(crate) async fn nothing_outlives_a_killed_run(bed: Bed) -> Result<()> {
    let dir = bed.logs().join("held");
    let exe =
        std::env::current_exe().map_err(|source| Error::Spawn { program: "this".to_owned(), source })?;
    let mut command = Command::new(exe);
    command.arg(HOLD).arg(&dir);
    let mut run = Process::start("a run", command, &bed.logs().join("run.log"))?;
    let held = wait_for("the held process", Duration::from_secs(20), || async {
        let log = std::fs::read_to_string(bed.logs().join("run.log")).unwrap_or_default();
        let pid = log.lines().find_map(|line| line.strip_prefix("holding ")?.parse::<i32>().ok());
        Ok(pid.map_or_else(|| Seen::Not(log), Seen::Done))
    })
    .await?;
    run.kill();
    wait_for("the held process and folder to be gone", Duration::from_secs(20), || async {
        let process = kill(Pid::from_raw(held), None).is_ok();
        let folder = dir.exists();
        Ok(if process || folder {
            Seen::Not(format!("process there: {process}, folder there: {folder}"))
        } else {
            Seen::Done(())
        })
    })
    .await
}

/// The part of the run that is killed; `None` where this is not it.
pub(crate) fn helper_process(args: &[String]) -> Option<ExitCode> {
    let [flag, dir] = args else { return None };
    if flag != HOLD {
        return None;
    }
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let dir = std::path::Path::new(dir);
    e2e::guard::remove_at_end(dir);
    let Ok(mut process) = Process::start("sleep", sleep, &dir.join("sleep.log")) else {
        return Some(ExitCode::FAILURE);
    };
    println!("holding {}", process.id());
    while process.exit_status().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    process.signal(Signal::SIGKILL);
    Some(ExitCode::SUCCESS)
}

/// The cluster does its part without the suite: pods come up, their usage is told, an evicted one is replaced, one
/// that is resized stays.
pub(crate) async fn the_cluster_works_without_the_suite(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app").usage("120m", "130Mi");
    let pods = cluster.deploy(&app).await?;
    let [first, second] = [0, 1].map(|index| pods.get(index).map(name).unwrap_or_default().to_owned());
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods/{first}", cluster.namespace());
    wait_for("the usage of a pod", SOON, || async {
        let request = http::Request::get(&path).body(Vec::new()).map_err(|e| Error::Client(e.to_string()))?;
        Ok(match cluster.client().request_text(request).await {
            Ok(text) if text.contains(r#""cpu":"120"#) => Seen::Done(()),
            Ok(text) => Seen::Not(text),
            Err(error) => Seen::Not(error.to_string()),
        })
    })
    .await?;
    let api = cluster.api::<Pod>();
    let resources = json!({ "spec": { "containers": [{ "name": "app", "resources": { "requests": { "cpu": "150m" } } }] } });
    api.patch_resize(&second, &PatchParams::default(), &Patch::Strategic(resources))
        .await
        .doing("resize a pod")?;
    api.evict(&first, &EvictParams::default()).await.doing("evict a pod")?;
    let what = "a new pod beside the resized one";
    let pods = cluster
        .pods_until("app", what, |pods| {
            pods.len() == 2 && pods.iter().all(is_ready) && pods.iter().all(|pod| name(pod) != first)
        })
        .await?;
    let resized = pods.iter().find(|pod| name(pod) == second).map(|pod| (request(pod, "cpu"), restarts(pod)));
    if resized != Some(("150m".to_owned(), 0)) {
        return Err(Error::expectation(format!(
            "the resized pod {second} is not as it should be: {}",
            describe(&pods)
        )));
    }
    cluster.clean_up().await;
    Ok(())
}

/// The faults of the setting really reach the updater, each kind of them, and not the other programs.
pub(crate) async fn the_updater_meets_with_every_fault(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let mut admission = cluster.start_admission().await?;
    let mut updater = cluster.start(Program::Updater).await?;
    wait_for("answers of each kind of fault", SOON, || async {
        let answers = answers(&updater).await?;
        let all = ["500", "503", "429", "504"].iter().all(|code| answers.contains_key(*code));
        Ok(if all { Seen::Done(()) } else { Seen::Not(format!("{answers:?}")) })
    })
    .await?;
    let others = answers(&admission).await?;
    if others.keys().any(|code| code.starts_with('5') || code == "429") {
        return Err(Error::expectation(format!("faults reach the admission controller: {others:?}")));
    }
    updater.stop().await?;
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// How many requests of a program were answered with each status code.
async fn answers(program: &Running) -> Result<BTreeMap<String, f64>> {
    let page = program.get("/metrics").await;
    let (_, page) = page.map_err(|error| Error::expectation(format!("no metrics: {error}")))?;
    let mut answers = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("vpa_client_requests_total{")) {
        let code = line.split_once("code=\"").and_then(|(_, rest)| rest.split_once('"'));
        let count = line.rsplit_once(' ').and_then(|(_, count)| count.parse::<f64>().ok());
        if let Some(((code, _), count)) = code.zip(count) {
            *answers.entry(code.to_owned()).or_default() += count;
        }
    }
    Ok(answers)
}
