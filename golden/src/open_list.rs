//! The list of cases that are not answered yet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One case name a line; lines that begin with `#` are remarks.
pub(crate) struct OpenList {
    path: PathBuf,
    text: String,
}

impl OpenList {
    pub(crate) fn load() -> Result<Self, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-open.txt");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => Err(format!("golden-open.txt cannot be read: {error}")),
        }
    }

    /// The names that belong to a folder of cases.
    pub(crate) fn names(&self, folder: &str) -> BTreeSet<String> {
        let prefix = format!("{folder}/");
        self.text.lines().filter(|line| line.starts_with(&prefix)).map(str::to_owned).collect()
    }

    /// Writes the list anew with `names` as those of `folder`.
    pub(crate) fn replace(&self, folder: &str, names: &BTreeSet<String>) -> Result<(), String> {
        let prefix = format!("{folder}/");
        let (remarks, others): (Vec<&str>, Vec<&str>) = self
            .text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(&prefix))
            .partition(|line| line.starts_with('#'));
        let mut sorted: Vec<&str> = others.into_iter().chain(names.iter().map(String::as_str)).collect();
        sorted.sort_unstable();
        let mut text = remarks.join("\n") + "\n";
        for name in sorted {
            text.push_str(name);
            text.push('\n');
        }
        std::fs::write(&self.path, text)
            .map_err(|error| format!("golden-open.txt cannot be written: {error}"))
    }
}
