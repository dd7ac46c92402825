//! The second lock file says the same as the first.
//!
//! The fuzz targets are a workspace of their own. What they share with the programs has to be the code that is shipped.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use crate::{TaskError, workspace};

const MAIN: &str = "Cargo.lock";
const FUZZ: &str = "fuzz/Cargo.lock";

pub(super) fn check(report: &mut Report) -> Result<(), TaskError> {
    let read = |name: &str| {
        let path = workspace().join(name);
        std::fs::read_to_string(&path).map_err(|source| TaskError::File { path, source })
    };
    for finding in differences(&read(MAIN)?, &read(FUZZ)?) {
        report.error(finding);
    }
    Ok(())
}

/// Packages that both know, in versions that only the second has.
fn differences(main: &str, fuzz: &str) -> Vec<String> {
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, version) in packages(main) {
        known.entry(name).or_default().insert(version);
    }
    let differs =
        |(name, version): &(&str, &str)| known.get(name).is_some_and(|versions| !versions.contains(version));
    packages(fuzz)
        .filter(differs)
        .map(|(name, version)| {
            format!("{FUZZ}: {name} {version} is not the version of {MAIN}: run `scripts/fuzz.sh lock`")
        })
        .collect()
}

/// Names and versions: cargo writes them on lines that follow each other.
fn packages(lock: &str) -> impl Iterator<Item = (&str, &str)> {
    lock.lines().zip(lock.lines().skip(1)).filter_map(|(name, version)| {
        let name = name.strip_prefix("name = ")?.trim_matches('"');
        Some((name, version.strip_prefix("version = ")?.trim_matches('"')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_of_what_both_know_count() {
        let lock = |packages: &[(&str, &str)]| -> String {
            let package = |(name, version): &(&str, &str)| {
                format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"x\"\n\n")
            };
            packages.iter().map(package).collect()
        };
        let main = lock(&[("serde", "1.0.1"), ("syn", "2.0.0"), ("syn", "1.0.0")]);
        let fuzz = lock(&[("serde", "1.0.2"), ("syn", "1.0.0"), ("libfuzzer-sys", "0.4.0")]);
        let found = differences(&main, &fuzz);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("fuzz/Cargo.lock: serde 1.0.2 "), "{found:?}");
    }
}
