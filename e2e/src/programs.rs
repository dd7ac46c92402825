//! The three programs of the suite as processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::{Error, Result};
use crate::process::Process;

/// Time for a program to become ready: caches have to fill, and the machine may be busy.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// Time for a program to drain after SIGTERM.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// Time that one request to a program's own server may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read at most; metrics of a scenario are far below.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// How often readiness is asked for.
const POLL: Duration = Duration::from_millis(50);

/// A program of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Computes recommendations.
    Recommender,
    /// Brings them to running pods.
    Updater,
    /// Brings them to new pods.
    AdmissionController,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Recommender, Self::Updater, Self::AdmissionController];

    /// Name of the component, as in the chart's objects.
    pub fn component(self) -> &'static str {
        match self {
            Self::Recommender => "recommender",
            Self::Updater => "updater",
            Self::AdmissionController => "admission-controller",
        }
    }

    /// Name of the package and of the file.
    pub fn file_name(self) -> String {
        format!("vpa-{}", self.component())
    }
}

/// Folder with the programs: `VPA_BIN_DIR`, or the folder of this build. In the latter case cargo is asked to bring
/// them up to date first, once a run, so that a scenario never tests an older program.
///
/// # Errors
/// If they are not there or do not build.
pub fn folder() -> Result<&'static Path> {
    static FOLDER: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| find_folder().map_err(|error| error.to_string())) {
        Ok(path) => Ok(path),
        Err(text) => Err(Error::expectation(text.clone())),
    }
}

fn find_folder() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("VPA_BIN_DIR") {
        return check_built(PathBuf::from(dir));
    }
    // target/<profile>/deps/<test> or target/<profile>/<program>
    let own = std::env::current_exe().map_err(|source| Error::Spawn { program: "e2e".to_owned(), source })?;
    let dir = own.parent().map(Path::to_owned).unwrap_or_default();
    let dir = if dir.ends_with("deps") { dir.parent().map(Path::to_owned).unwrap_or_default() } else { dir };
    if let Some(cargo) = std::env::var_os("CARGO") {
        build(Path::new(&cargo), &dir)?;
    }
    check_built(dir)
}

fn build(cargo: &Path, dir: &Path) -> Result<()> {
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked"]);
    if dir.ends_with("release") {
        command.arg("--release");
    }
    for program in Program::ALL {
        command.args(["-p", &program.file_name()]);
    }
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    if let Some(target) = dir.parent() {
        command.env("CARGO_TARGET_DIR", target);
    }
    let status =
        command.status().map_err(|source| Error::Spawn { program: cargo.display().to_string(), source })?;
    if status.success() { Ok(()) } else { Err(Error::expectation("the programs of the suite do not build")) }
}

fn check_built(dir: PathBuf) -> Result<PathBuf> {
    for program in Program::ALL {
        let path = dir.join(program.file_name());
        if !path.is_file() {
            return Err(Error::NotBuilt(path));
        }
    }
    Ok(dir)
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    process: Process,
    port: u16,
}

impl Running {
    /// Starts `program` with `args`; its metrics are served on `port` of loopback.
    ///
    /// # Errors
    /// If it is not built or cannot be started.
    pub fn start(
        program: Program,
        title: &str,
        args: &[String],
        env: &[(String, String)],
        port: u16,
        log: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(folder()?.join(program.file_name()));
        command.args(args).envs(env.iter().map(|(name, value)| (name, value)));
        Ok(Self { process: Process::start(title, command, log)?, port })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// If the program ends, or is not ready in time.
    pub async fn ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            self.process.check_running()?;
            let last = match self.get("/readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((code, text)) => format!("{code} {text}"),
                Err(error) => error.to_string(),
            };
            if started.elapsed() >= READY_DEADLINE {
                let what = format!(
                    "{} to be ready (its log: {})",
                    self.process.name(),
                    self.process.log().display()
                );
                return Err(Error::Timeout { what, waited: READY_DEADLINE, last });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end and expects exit code 0.
    ///
    /// # Errors
    /// If it does not end in time or ends otherwise.
    pub async fn stop(&mut self) -> Result<()> {
        let status = self.process.terminate(DRAIN_DEADLINE).await?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Ended {
            program: self.process.name().to_owned(),
            status: format!("{} after SIGTERM", crate::process::describe(status)),
            log: self.process.log().to_owned(),
            tail: crate::process::tail(self.process.log(), 15),
        })
    }

    /// Expects it to end by itself with `code` and `texts` in its log.
    ///
    /// # Errors
    /// If it goes on, ends otherwise, or a text is missing.
    pub async fn ends_with(&mut self, code: i32, texts: &[&str]) -> Result<()> {
        let status = self.process.wait(READY_DEADLINE).await?;
        let log = self.process.log_text();
        let missing: Vec<_> = texts.iter().filter(|text| !log.contains(**text)).collect();
        if status.code() == Some(code) && missing.is_empty() {
            return Ok(());
        }
        Err(Error::expectation(format!(
            "{}: expected exit code {code} and {texts:?} in its log; found {} and, without {missing:?}:\n{}",
            self.process.name(),
            crate::process::describe(status),
            crate::process::tail(self.process.log(), 15),
        )))
    }

    /// The value of a metric, given its name with labels exactly as in the output; none if it is not there.
    ///
    /// # Errors
    /// If the program does not answer.
    pub async fn metric(&self, name: &str) -> Result<Option<f64>> {
        let (_, text) = self.get("/metrics").await.map_err(|source| Error::Spawn {
            program: format!("a request for the metrics of {}", self.process.name()),
            source,
        })?;
        Ok(text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok()))
    }

    /// Status code and body of a GET request to the program's own server.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub async fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        tokio::time::timeout(REQUEST_DEADLINE, get(self.port, path))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

/// One HTTP/1.0 request: the answer ends with the connection, so nothing has to be parsed but its first line.
async fn get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    code.zip(body).ok_or_else(|| std::io::Error::other("not an HTTP answer"))
}
