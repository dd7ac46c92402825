//! Who may depend on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

use super::Report;
use crate::{TaskError, workspace};

/// Crates without clock, task, client, network or chance, and so without these packages anywhere below them.
const PURE: [&str; 2] = ["vpa-api", "vpa-core"];

/// Packages whose presence means that a crate is not pure: async runtimes, servers and clients, TLS, random numbers.
const IMPURE: [&str; 22] = [
    "async-std",
    "axum",
    "fastrand",
    "getrandom",
    "h2",
    "hyper",
    "hyper-util",
    "kube-client",
    "kube-runtime",
    "mio",
    "openssl",
    "prometheus",
    "rand",
    "rand_core",
    "reqwest",
    "rustls",
    "signal-hook-registry",
    "socket2",
    "tokio",
    "tokio-util",
    "tower",
    "tracing-subscriber",
];

/// What each crate of the workspace may use of the others, apart from tests.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("vpa-api", &[]),
    ("vpa-core", &["vpa-api"]),
    ("vpa-runtime", &["vpa-api", "vpa-core"]),
    ("vpa-recommender", &["vpa-api", "vpa-core", "vpa-runtime"]),
    ("vpa-updater", &["vpa-api", "vpa-core", "vpa-runtime"]),
    ("vpa-admission-controller", &["vpa-api", "vpa-core", "vpa-runtime"]),
    ("kubectl-vpa", &["vpa-api", "vpa-core", "vpa-runtime"]),
    ("vpa-sim", &["vpa-api", "vpa-core"]),
    ("vpa-fuzz", &["vpa-api", "vpa-core"]),
    ("golden", &[]),
    // The bench compares the admission controller with a constant answer by its own HTTPS server.
    ("e2e", &["vpa-api", "vpa-core", "vpa-sim", "vpa-admission-controller"]),
    ("xtask", &["vpa-api", "vpa-recommender", "vpa-updater", "vpa-admission-controller"]),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// None for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
}

pub(super) fn check(report: &mut Report) -> Result<(), TaskError> {
    for krate in PURE {
        let tree =
            cargo(&["tree", "--package", krate, "--edges", "normal", "--prefix", "none", "--format", "{p}"])?;
        for name in impure(&tree) {
            report.error(format!(
                "{krate} is pure, but {name} is below it: `cargo tree -p {krate} -e normal -i {name}` shows the way"
            ));
        }
    }
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: Metadata = serde_json::from_str(&text).map_err(|error| TaskError::Text {
        what: "the output of cargo metadata",
        reason: error.to_string(),
    })?;
    for finding in layering(&metadata) {
        report.error(finding);
    }
    Ok(())
}

/// The impure packages in the output of `cargo tree`.
fn impure(tree: &str) -> BTreeSet<&str> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| IMPURE.contains(name)).collect()
}

fn layering(metadata: &Metadata) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            findings
                .push(format!("{}: a new crate: say in tidy/dependencies.rs what it may use", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if dependency.kind.is_none() && members.contains(name) && !allowed.contains(&name) {
                findings.push(format!("{} must not depend on {name}", package.name));
            }
        }
    }
    findings
}

fn cargo(arguments: &[&str]) -> Result<String, TaskError> {
    let failed = |reason| TaskError::Tool { command: format!("cargo {}", arguments.join(" ")), reason };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(workspace()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_impure() {
        assert_eq!(
            impure("vpa-core v0.1.0\nserde v1\ntokio v1.54.0\nrand v0.9 (*)\n"),
            BTreeSet::from(["rand", "tokio"])
        );
    }

    #[test]
    fn binaries_do_not_know_each_other() {
        let package = |name: &str, uses: &[&str]| Package {
            name: name.to_owned(),
            dependencies: uses
                .iter()
                .map(|name| Dependency { name: (*name).to_owned(), kind: None })
                .collect(),
        };
        let packages = vec![
            package("vpa-updater", &["vpa-admission-controller", "vpa-core", "serde"]),
            package("vpa-admission-controller", &[]),
            package("vpa-core", &[]),
            package("newcomer", &[]),
        ];
        let findings = layering(&Metadata { packages });
        assert_eq!(findings[0], "vpa-updater must not depend on vpa-admission-controller");
        assert!(findings[1].starts_with("newcomer: a new crate"));
        assert_eq!(findings.len(), 2);
    }
}
