//! Files that follow from the code.

use std::io;
use std::path::PathBuf;

use crate::workspace;

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A generated file is not what would be written now.
    #[error("{path} is stale: run `cargo xtask {task}` and commit the result")]
    Stale {
        /// The file, from the root of the workspace.
        path: String,
        /// The task that writes it.
        task: &'static str,
    },
    /// A type could not be turned into text.
    #[error("{what} cannot be written as text: {reason}")]
    Text {
        /// What should have been written.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// Checks that failed, one a line.
    #[error("{}", .0.join("\n"))]
    Findings(Vec<String>),
    /// A tool could not be run.
    #[error("`{command}` failed: {reason}")]
    Tool {
        /// The command.
        command: String,
        /// What it said.
        reason: String,
    },
}

/// A file and what it should hold.
#[derive(Debug)]
pub struct Generated {
    /// Path from the root of the workspace.
    pub path: String,
    /// Its content.
    pub content: String,
}

/// Writes the files, or with `check` compares them with what is on disk.
///
/// # Errors
/// A file cannot be written, or differs.
pub(crate) fn apply(files: &[Generated], check: bool, task: &'static str) -> Result<(), TaskError> {
    for file in files {
        let path = workspace().join(&file.path);
        let on_disk = std::fs::read_to_string(&path).ok();
        if on_disk.as_deref() == Some(&file.content) {
            continue;
        }
        if check {
            return Err(TaskError::Stale { path: file.path.clone(), task });
        }
        let wrap = |source| TaskError::File { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(wrap)?;
        }
        std::fs::write(&path, &file.content).map_err(wrap)?;
    }
    Ok(())
}
