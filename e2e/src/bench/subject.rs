//! The programs that are measured, all started alike.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ports::free_port;
use crate::process::Process;
use crate::programs::Program;

/// What follows the name of a program of the Go suite in its file's: as its Makefile and its images name it.
const PEER_ENDINGS: [&str; 3] = ["", "-amd64", "-arm64"];

/// Default of `--checkpoints-write-interval` in default cycles: 10 min of 1 min each.
const CHECKPOINT_CYCLES: u32 = 10;

/// How the chart has the allocator of recommender and updater hold memory.
const CHART_ENV: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "1000000")];

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// This suite's.
    Own,
    /// The one to compare with.
    Peer,
}

/// A program that can be started.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Whose it is.
    pub suite: Suite,
    program: Program,
    path: PathBuf,
}

/// A program that was started.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub process: Process,
    /// Port on loopback where it serves its metrics.
    pub port: u16,
}

impl Subject {
    /// This suite's, from `VPA_BIN_DIR` or the folder of the running program.
    ///
    /// # Errors
    /// If it is not built.
    pub fn own(program: Program) -> Result<Self> {
        let folder = match std::env::var_os("VPA_BIN_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => {
                let own = std::env::current_exe();
                let own = own.map_err(|source| Error::Spawn { program: "bench".to_owned(), source })?;
                own.parent().map(Path::to_owned).unwrap_or_default()
            }
        };
        let path = folder.join(program.file_name());
        if path.is_file() {
            Ok(Self { suite: Suite::Own, program, path })
        } else {
            Err(Error::NotBuilt(path))
        }
    }

    /// The Go suite's, from a folder with its programs.
    ///
    /// # Errors
    /// If it is not there.
    pub fn peer(folder: &Path, program: Program) -> Result<Self> {
        let names = PEER_ENDINGS.map(|ending| format!("{}{ending}", program.component()));
        let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        let path = found.ok_or_else(|| {
            let names = names.join(", ");
            Error::expectation(format!("PEER={}: none of {names} is in this folder", folder.display()))
        })?;
        Ok(Self { suite: Suite::Peer, program, path })
    }

    /// What messages and logs call it.
    pub fn name(&self) -> String {
        let component = self.program.component();
        match self.suite {
            Suite::Own => component.to_owned(),
            Suite::Peer => format!("peer-{component}"),
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
    pub fn start(&self, kubeconfig: &Path, interval: Option<Duration>, log: &Path) -> Result<Started> {
        let mut flags = Vec::new();
        if let Some(interval) = interval {
            flags.push(format!("--{}-interval={}ms", self.program.component(), interval.as_millis()));
            if self.suite == Suite::Own && self.program == Program::Recommender {
                // What may wait for minutes waits for as many cycles as it does by default.
                let wait = interval * CHECKPOINT_CYCLES;
                flags.push(format!("--checkpoints-write-interval={}ms", wait.as_millis()));
            }
        }
        self.start_with(kubeconfig, &flags, log)
    }

    /// The same with these flags.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_with(&self, kubeconfig: &Path, flags: &[String], log: &Path) -> Result<Started> {
        let port = free_port()?;
        let mut command = Command::new(&self.path);
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        command.arg(format!("--address=127.0.0.1:{port}"));
        command.args(flags);
        // It would move the admission controller's lease, and where an updater looks for it.
        command.env_remove("NAMESPACE");
        if self.suite == Suite::Own && self.program != Program::AdmissionController {
            command.envs(CHART_ENV);
        }
        Ok(Started { process: Process::start(self.name(), command, log)?, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_that_of_the_chart() {
        let template = crate::chart::folder().join("templates/_component.tpl");
        let template = std::fs::read_to_string(template).unwrap();
        let condition = "            {{- if ne .component \"admission-controller\" }}\n";
        let (_, template) = template.split_once(condition).unwrap();
        let (template, _) = template.split_once("            {{- end }}\n").unwrap();
        for (name, value) in CHART_ENV {
            let lines = format!("- name: {name}\n              value: \"{value}\"\n");
            assert!(template.contains(&lines), "{lines}");
        }
    }

    #[test]
    fn the_programs_of_the_go_suite_have_names_with_and_without_an_architecture() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Subject::peer(dir.path(), Program::Updater).unwrap_err().to_string();
        assert!(
            missing.contains("none of updater, updater-amd64, updater-arm64 is in this folder"),
            "{missing}"
        );
        std::fs::write(dir.path().join("updater-amd64"), "").unwrap();
        let found = Subject::peer(dir.path(), Program::Updater).unwrap();
        assert_eq!((found.name().as_str(), found.suite), ("peer-updater", Suite::Peer));
    }
}
