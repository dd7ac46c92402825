//! A started program: its log, its end, and that it never outlives its handle.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Error, OnFile, Result};
use crate::guard;

/// How often a wait looks at the process.
const POLL: Duration = Duration::from_millis(20);

/// Lines of a log shown with a failure: enough for the cause, short enough to be read.
const TAIL_LINES: usize = 15;

/// A program that runs in a process group of its own, with stdout and stderr in one log file. Dropping the handle
/// kills the group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`, appending its output to `log`. `name` is what messages call it.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn start(name: impl Into<String>, mut command: Command, log: &Path) -> Result<Self> {
        let name = name.into();
        if let Some(dir) = log.parent() {
            fs::create_dir_all(dir).on_file(dir, "create")?;
        }
        let out = fs::OpenOptions::new().create(true).append(true).open(log).on_file(log, "open")?;
        let err = out.try_clone().on_file(log, "open")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { program: name.clone(), source })?;
        guard::watch(child.id());
        Ok(Self { name, child, log: log.to_owned(), ended: None })
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number, which is also that of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The whole log so far; empty if it cannot be read.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
            if self.ended.is_some() {
                guard::forget(self.child.id());
            }
        }
        self.ended
    }

    /// Fails if it has ended by itself.
    ///
    /// # Errors
    /// [`Error::Ended`] with the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match self.exit_status() {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                program: self.name.clone(),
                status: describe(status),
                log: self.log.clone(),
                tail: tail(&self.log, TAIL_LINES),
            }),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            if started.elapsed() >= deadline {
                return Err(Error::Timeout {
                    what: format!("{} to end", self.name),
                    waited: deadline,
                    last: format!("still running; the end of its log:\n{}", tail(&self.log, TAIL_LINES)),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it has not ended after `grace`.
    pub async fn terminate(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        self.wait(grace).await
    }

    /// Sends a signal to its group; does nothing once it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none()
            && let Ok(group) = i32::try_from(self.child.id())
        {
            // The group can only be gone if the process ended this very moment, which is what was wanted.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }

    /// Kills it (SIGKILL) and waits for the kernel to be done with it.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if self.ended.is_none() {
            self.ended = self.child.wait().ok();
            guard::forget(self.child.id());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An exit status in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}

/// The last `lines` lines of a file; says so when there are none.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    if all.is_empty() {
        return format!("({} is empty)", path.display());
    }
    all[all.len().saturating_sub(lines)..].join("\n")
}
