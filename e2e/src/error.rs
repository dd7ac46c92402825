//! What can go wrong in the harness and in a scenario.

use std::path::PathBuf;
use std::time::Duration;

/// A failure of the harness or of a scenario. Its text is the whole message: what was tried, on what, what was
/// found, and where more is to be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool of the real control plane is missing or cannot be built.
    #[error(transparent)]
    Tool(#[from] crate::tools::ToolError),
    /// A file or folder cannot be used.
    #[error("{path}: cannot {doing}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program of the suite has not been built.
    #[error("{0} is not there: build the programs with 'make build', or name their folder in VPA_BIN_DIR")]
    NotBuilt(PathBuf),
    /// A program ended by itself.
    #[error("{program} ended ({status}); the end of its log {log}:\n{tail}")]
    Ended {
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A certificate or key cannot be made.
    #[error("cannot make the certificate for {subject}: {source}")]
    Certificate {
        /// Whom it was for.
        subject: String,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// A call of the Kubernetes API failed.
    #[error("cannot {doing}: {source}")]
    Api {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// A kubeconfig cannot be turned into a client.
    #[error("cannot make a client: {0}")]
    Client(String),
    /// Something did not become true in time.
    #[error("waited {}s for {what}; last seen: {last}", waited.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// The last observation.
        last: String,
    },
    /// A chart cannot be rendered or its output cannot be read.
    #[error("chart: {0}")]
    Chart(String),
    /// An expectation of a scenario does not hold.
    #[error("{0}")]
    Expectation(String),
}

/// Shorthand for results of the harness.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An expectation that does not hold.
    pub fn expectation(text: impl Into<String>) -> Self {
        Self::Expectation(text.into())
    }
}

/// Says what was tried when a call of the API fails.
pub trait Doing<T> {
    /// Adds what was tried, in words that follow "cannot".
    ///
    /// # Errors
    /// The call's own error, with what was tried.
    fn doing(self, what: impl Into<String>) -> Result<T>;
}

impl<T> Doing<T> for kube::Result<T> {
    fn doing(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Api { doing: what.into(), source: Box::new(source) })
    }
}

/// Says which file was concerned when an operation on it fails.
pub trait OnFile<T> {
    /// Adds the file and what was tried.
    ///
    /// # Errors
    /// The operation's own error, with the file.
    fn on_file(self, path: impl Into<PathBuf>, doing: &'static str) -> Result<T>;
}

impl<T> OnFile<T> for std::io::Result<T> {
    fn on_file(self, path: impl Into<PathBuf>, doing: &'static str) -> Result<T> {
        self.map_err(|source| Error::File { path: path.into(), doing, source })
    }
}
