//! The recommenders that are measured, all started alike.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ports::free_port;
use crate::process::Process;
use crate::programs::Program;

/// File names of the Go suite's recommender: as its Makefile and its images name it.
const PEER_FILES: [&str; 3] = ["recommender", "recommender-amd64", "recommender-arm64"];

/// Default of `--checkpoints-write-interval` in default cycles: 10 min of 1 min each.
const CHECKPOINT_CYCLES: u32 = 10;

/// How the chart has the program's allocator hold memory.
const CHART_ENV: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "1000000")];

/// Whose recommender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// This suite's.
    Own,
    /// The one to compare with.
    Peer,
}

/// A recommender that can be started.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Whose it is.
    pub suite: Suite,
    path: PathBuf,
}

impl Subject {
    /// This suite's, from `VPA_BIN_DIR` or the folder of the running program.
    ///
    /// # Errors
    /// If it is not built.
    pub fn own() -> Result<Self> {
        let folder = match std::env::var_os("VPA_BIN_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => {
                let own = std::env::current_exe();
                let own = own.map_err(|source| Error::Spawn { program: "bench".to_owned(), source })?;
                own.parent().map(Path::to_owned).unwrap_or_default()
            }
        };
        let path = folder.join(Program::Recommender.file_name());
        if path.is_file() { Ok(Self { suite: Suite::Own, path }) } else { Err(Error::NotBuilt(path)) }
    }

    /// The Go suite's, from a folder with its programs.
    ///
    /// # Errors
    /// If it is not there.
    pub fn peer(folder: &Path) -> Result<Self> {
        let found = PEER_FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        let path = found.ok_or_else(|| {
            let names = PEER_FILES.join(", ");
            Error::expectation(format!("PEER={}: none of {names} is in this folder", folder.display()))
        })?;
        Ok(Self { suite: Suite::Peer, path })
    }

    /// What messages and logs call it.
    pub fn name(&self) -> &'static str {
        match self.suite {
            Suite::Own => "recommender",
            Suite::Peer => "peer-recommender",
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts it with default flags and the environment of its chart, but for the cluster and the port, and the interval
    /// where one is given.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, kubeconfig: &Path, interval: Option<Duration>, log: &Path) -> Result<Process> {
        let mut command = Command::new(&self.path);
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        command.arg(format!("--address=127.0.0.1:{}", free_port()?));
        if self.suite == Suite::Own {
            command.envs(CHART_ENV);
        }
        if let Some(interval) = interval {
            command.arg(format!("--recommender-interval={}ms", interval.as_millis()));
            if self.suite == Suite::Own {
                // What may wait for minutes waits for as many cycles as it does by default.
                let wait = interval * CHECKPOINT_CYCLES;
                command.arg(format!("--checkpoints-write-interval={}ms", wait.as_millis()));
            }
        }
        Process::start(self.name(), command, log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_that_of_the_chart() {
        let template = crate::chart::folder().join("templates/_component.tpl");
        let template = std::fs::read_to_string(template).unwrap();
        for (name, value) in CHART_ENV {
            let lines = format!("- name: {name}\n              value: \"{value}\"\n");
            assert!(template.contains(&lines), "{lines}");
        }
    }
}
