//! A real Prometheus: found, or fetched once from Debian's archive, and filled with history.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, OnFile, Result};
use crate::process::Process;
use crate::tools::cache_root;

/// Password of [`USER`], and its bcrypt hash.
pub const PASSWORD: &str = "correct horse";
const PASSWORD_HASH: &str = "$2b$04$lHQSbgLYliEqJAOEPrD1GudJqvwC5JpGiyz0YGWK3blSE3hE.1xmW";
/// Who may ask.
pub const USER: &str = "recommender";

/// The folder with `prometheus` and `promtool`: that of the program that `PROMETHEUS` names, one on the `PATH`, or that of
/// the Debian package, unpacked into the cache without being installed.
///
/// # Errors
/// There is none, with what to do.
pub fn locate() -> Result<PathBuf> {
    let named =
        std::env::var_os("PROMETHEUS").map(PathBuf::from).and_then(|path| Some(path.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = cache_root()?.join("prometheus");
    let unpacked = cache.join("usr/bin");
    let places = named.into_iter().chain(std::env::split_paths(&path)).chain([unpacked.clone()]);
    let complete =
        |folder: &PathBuf| ["prometheus", "promtool"].iter().all(|name| folder.join(name).is_file());
    if let Some(found) = places.into_iter().find(complete) {
        return Ok(found);
    }
    fetch(&cache)?;
    if complete(&unpacked) {
        Ok(unpacked)
    } else {
        Err(missing("its package has no prometheus and promtool"))
    }
}

fn fetch(cache: &Path) -> Result<()> {
    let parent = cache.parent().unwrap_or(cache);
    fs::create_dir_all(parent).on_file(parent, "create")?;
    let dir =
        tempfile::Builder::new().prefix("prometheus-").tempdir_in(parent).on_file(parent, "write to")?;
    eprintln!("e2e: fetching Debian's package prometheus once into {}", cache.display());
    run(Command::new("apt-get").args(["download", "prometheus"]).current_dir(dir.path()))?;
    let entries = fs::read_dir(dir.path()).on_file(dir.path(), "list")?;
    let package =
        entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "deb"));
    let package = package.ok_or_else(|| missing("apt-get downloaded no package"))?;
    let root = dir.path().join("root");
    run(Command::new("dpkg").arg("-x").arg(package).arg(&root))?;
    // Put in place as a whole, so that a run that is cut off leaves no half of it behind.
    match fs::rename(&root, cache) {
        Ok(()) => Ok(()),
        // Another run was faster.
        Err(_) if cache.is_dir() => Ok(()),
        Err(source) => Err(source).on_file(cache, "move to"),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|error| missing(&format!("{name}: {error}")))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(missing(&format!("{name}: {}", said.lines().last().unwrap_or("failed"))))
}

fn missing(why: &str) -> Error {
    Error::expectation(format!(
        "no Prometheus ({why}): install it (Debian and Ubuntu: apt-get install prometheus), or name the program in \
         PROMETHEUS, with promtool beside it"
    ))
}

/// A series to fill in: labels as in `{a="b"}`, and a value at each moment that is a number of seconds ago.
pub struct Series {
    /// Name of the metric.
    pub metric: &'static str,
    /// Its labels.
    pub labels: String,
    /// Its value by the number of seconds since the span began.
    pub value: fn(i64) -> f64,
}

/// A Prometheus that scrapes nothing and knows the past alone.
pub struct Prometheus {
    folder: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    /// Where it listens, or will.
    pub port: u16,
}

impl Prometheus {
    /// Makes its files under `dir`, with these series from `seconds` ago until now, a sample every two minutes.
    ///
    /// # Errors
    /// There is no Prometheus, or its tool does not take the series.
    pub fn filled(dir: &Path, log: &Path, port: u16, seconds: i64, series: &[Series]) -> Result<Self> {
        let folder = locate()?;
        let dir = dir.join("prometheus");
        fs::create_dir_all(&dir).on_file(&dir, "create")?;
        let now = jiff::Timestamp::now().as_second();
        let mut text = String::new();
        for Series { metric, labels, value } in series {
            // A counter's family is named without its suffix.
            let (family, kind) = match metric.strip_suffix("_total") {
                Some(family) => (family, "counter"),
                None => (*metric, "gauge"),
            };
            // Series of one family stand together, under one head.
            let head = format!("# TYPE {family} {kind}\n");
            if !text.contains(&head) {
                text.push_str(&head);
            }
            for second in (0..=seconds).step_by(120) {
                let _ = writeln!(text, "{metric}{labels} {} {}", value(second), now - seconds + second);
            }
        }
        text.push_str("# EOF\n");
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).on_file(&path, "write").map(|()| path)
        };
        let past = write("past.om", &text)?;
        write("prometheus.yml", "scrape_configs: []\n")?;
        write("web.yml", &format!("basic_auth_users:\n  {USER}: {PASSWORD_HASH}\n"))?;
        let mut promtool = Command::new(folder.join("promtool"));
        promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&past).arg(dir.join("data"));
        run(&mut promtool)?;
        Ok(Self { folder, dir, log: log.to_owned(), port })
    }

    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self) -> Result<Process> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut command = Command::new(self.folder.join("prometheus"));
        command.args([
            format!("--config.file={}", file("prometheus.yml")),
            format!("--web.config.file={}", file("web.yml")),
            format!("--storage.tsdb.path={}", file("data")),
            format!("--web.listen-address=127.0.0.1:{}", self.port),
            "--storage.tsdb.retention.time=30d".to_owned(),
        ]);
        Process::start("prometheus", command, &self.log)
    }
}
