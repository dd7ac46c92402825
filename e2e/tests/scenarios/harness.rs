//! The harness itself.

use std::process::{Command, ExitCode};
use std::time::Duration;

use e2e::bed::Bed;
use e2e::error::{Error, Result};
use e2e::process::Process;
use e2e::wait::{Seen, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
