//! The programs of the real control plane, and Helm: found, or built once into a cache of the user's.
//!
//! `e2e/tools/go.mod` names them with their versions. A program is taken from `KUBEBUILDER_ASSETS` if it is there,
//! else from the cache, else it is built into the cache with `go build`. The cache's folder carries a hash of
//! go.mod, go.sum and the build flags, so a change of any of them builds anew and never mixes. A lock file keeps two
//! runs from building at once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Version that kube-apiserver reports; the same as in go.mod.
const KUBERNETES_VERSION: &str = "v1.36.3";

/// How often a running build reports that it is alive: often enough for a person, rare enough for a CI log.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// Lines of a failed build that are shown; go prints the first error near the end.
const BUILD_TAIL_LINES: usize = 12;

/// A program that the Go module names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The store behind the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The controllers of Deployments, ReplicaSets, disruption budgets and so on.
    KubeControllerManager,
    /// The chart renderer.
    Helm,
}

impl Tool {
    /// All of them, in the order in which they are built: what compiles first is needed by those after it.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::Helm];

    /// File name of the program.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Helm => "helm",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
        }
    }

    /// Linker flags. Without a version kube-apiserver takes itself for v0.0.0 and refuses its own defaults.
    fn linker_flags(self) -> String {
        match self {
            Self::Etcd | Self::Helm => "-s -w".to_owned(),
            Self::KubeApiserver | Self::KubeControllerManager => {
                let version = "k8s.io/component-base/version";
                format!(
                    "-s -w -X {version}.gitVersion={KUBERNETES_VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor=36"
                )
            }
        }
    }
}

/// Why a program of the control plane is not to be had. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Neither Go nor ready programs are there.
    #[error(
        "go is not installed: the real control plane is built with Go {needed} or later (https://go.dev/dl), or is \
         taken from the folder in KUBEBUILDER_ASSETS; without it, run 'make test E2E=sim'"
    )]
    GoMissing {
        /// Lowest version that will do.
        needed: String,
    },
    /// The Go that is there refuses to work.
    #[error(
        "go {needed} or later is needed to build the real control plane: {text}; or run 'make test E2E=sim'"
    )]
    GoUnusable {
        /// Lowest version that will do.
        needed: String,
        /// What go said.
        text: String,
    },
    /// A build failed.
    #[error("go build of {program} failed ({log}):\n{tail}")]
    Build {
        /// The program.
        program: &'static str,
        /// Log of the build.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The cache cannot be used.
    #[error("cannot use the cache {path}: {source}")]
    Cache {
        /// File or folder of the cache.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No place for the cache.
    #[error("no place for the cache: set XDG_CACHE_HOME or HOME")]
    NoHome,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Tools {
    paths: BTreeMap<Tool, PathBuf>,
}

impl Tools {
    /// Finds all programs, building those that are missing. Blocks for as long as the builds take (from empty caches
    /// about ten minutes on two cores) and prints what it does to stderr.
    ///
    /// # Errors
    /// If go is missing or too old while something has to be built, if a build fails, or if the cache is not writable.
    pub fn locate() -> Result<Self, ToolError> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let cache = cache_root()?.join(cache_key(&source)?);
        let mut paths = BTreeMap::new();
        let mut missing = Vec::new();
        for tool in Tool::ALL {
            let places = assets.iter().chain(std::iter::once(&cache)).map(|dir| dir.join(tool.file_name()));
            match places.into_iter().find(|path| path.is_file()) {
                Some(path) => drop(paths.insert(tool, path)),
                None => missing.push(tool),
            }
        }
        if !missing.is_empty() {
            build_missing(&source, &cache, &missing)?;
            paths.extend(missing.into_iter().map(|tool| (tool, cache.join(tool.file_name()))));
        }
        Ok(Self { paths })
    }

    /// Path of a program.
    pub fn path(&self, tool: Tool) -> PathBuf {
        self.paths.get(&tool).cloned().unwrap_or_else(|| PathBuf::from(tool.file_name()))
    }
}

/// Where programs that are made or fetched once are kept.
pub(crate) fn cache_root() -> Result<PathBuf, ToolError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    Ok(base.ok_or(ToolError::NoHome)?.join("vpa-e2e"))
}

/// Names the folder by everything that shapes the programs.
fn cache_key(source: &Path) -> Result<String, ToolError> {
    let mut hash = Fnv1a::default();
    for name in ["go.mod", "go.sum"] {
        let path = source.join(name);
        hash.write(&fs::read(&path).map_err(|source| ToolError::Cache { path, source })?);
    }
    for tool in Tool::ALL {
        hash.write(tool.package().as_bytes());
        hash.write(tool.linker_flags().as_bytes());
    }
    hash.write(std::env::consts::ARCH.as_bytes());
    hash.write(std::env::consts::OS.as_bytes());
    Ok(format!("{:016x}", hash.0))
}

/// The FNV-1a hash: the same for ever, unlike the standard library's hasher. Names a folder, guards nothing.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().copied().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn build_missing(source: &Path, cache: &Path, missing: &[Tool]) -> Result<(), ToolError> {
    let on_cache = |path: &Path| {
        let path = path.to_owned();
        move |source| ToolError::Cache { path, source }
    };
    check_go(source)?;
    fs::create_dir_all(cache).map_err(on_cache(cache))?;
    let lock_path = cache.join("lock");
    let lock = fs::File::create(&lock_path).map_err(on_cache(&lock_path))?;
    if lock.try_lock().is_err() {
        say(&format!("waiting for another run that builds into {}", cache.display()));
        lock.lock().map_err(on_cache(&lock_path))?;
    }
    let names: Vec<_> = missing.iter().map(|tool| tool.file_name()).collect();
    say(&format!(
        "building {} once into {} (about ten minutes from empty caches)",
        names.join(", "),
        cache.display()
    ));
    for tool in missing {
        let target = cache.join(tool.file_name());
        // Another run may have built it while this one waited for the lock.
        if !target.is_file() {
            build(*tool, source, &target)?;
        }
    }
    Ok(())
}

/// Asks go for its version from inside the module: a go that is too old and may not fetch a newer one says so.
fn check_go(source: &Path) -> Result<(), ToolError> {
    let module = fs::read_to_string(source.join("go.mod")).unwrap_or_default();
    let needed = module.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("1.26").trim().to_owned();
    match Command::new("go").args(["env", "GOVERSION"]).current_dir(source).output() {
        Err(_) => Err(ToolError::GoMissing { needed }),
        Ok(out) if !out.status.success() => {
            let text = String::from_utf8_lossy(&out.stderr).trim().replace('\n', " ");
            Err(ToolError::GoUnusable { needed, text })
        }
        Ok(_) => Ok(()),
    }
}

fn build(tool: Tool, source: &Path, target: &Path) -> Result<(), ToolError> {
    let program = tool.file_name();
    let on = |path: &Path| {
        let path = path.to_owned();
        move |source| ToolError::Cache { path, source }
    };
    let log_path = target.with_extension("build.log");
    let log = fs::File::create(&log_path).map_err(on(&log_path))?;
    // Written beside its place and then renamed: a run that is cut off leaves no half program behind.
    let unfinished = target.with_extension("unfinished");
    let started = Instant::now();
    let mut child = Command::new("go")
        .args(["build", "-trimpath", "-ldflags", &tool.linker_flags(), "-o"])
        .arg(&unfinished)
        .arg(tool.package())
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(on(target))?;
    let mut reported = started;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(on(target))? {
            break status;
        }
        if reported.elapsed() >= PROGRESS_INTERVAL {
            reported = Instant::now();
            say(&format!("still building {program} ({}s)", started.elapsed().as_secs()));
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    if !status.success() {
        let tail = crate::process::tail(&log_path, BUILD_TAIL_LINES);
        return Err(ToolError::Build { program, log: log_path, tail });
    }
    fs::rename(&unfinished, target).map_err(on(target))?;
    say(&format!("built {program} in {}s", started.elapsed().as_secs()));
    Ok(())
}

fn say(text: &str) {
    eprintln!("e2e: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_changes_with_each_input() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("go.mod", "module a\n");
        write("go.sum", "");
        let first = cache_key(dir.path()).unwrap();
        assert_eq!(first, cache_key(dir.path()).unwrap());
        write("go.sum", "x");
        assert_ne!(first, cache_key(dir.path()).unwrap());
        // The border between two files counts too.
        write("go.mod", "module a\nx");
        write("go.sum", "");
        assert_ne!(first, cache_key(dir.path()).unwrap());
    }

    #[test]
    fn module_names_every_program() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
        let named = fs::read_to_string(source.join("tools.go")).unwrap();
        for tool in Tool::ALL {
            assert!(named.contains(&format!("\"{}\"", tool.package())), "{}", tool.package());
        }
        let module = fs::read_to_string(source.join("go.mod")).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION}")));
    }
}
