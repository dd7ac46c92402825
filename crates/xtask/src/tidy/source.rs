//! The files of the project.

use std::path::Path;

use crate::{TaskError, workspace};

/// Folders that hold no sources of the project: build output, version control, data of the golden cases, snapshots.
const SKIPPED: [&str; 6] = ["target", ".git", "node_modules", "golden/data", "snapshots", ".cache"];

/// Kinds of files that are read.
const KINDS: [&str; 12] = ["rs", "md", "toml", "yaml", "yml", "tpl", "txt", "go", "mod", "sh", "json", "svg"];

/// A text file.
pub(super) struct Source {
    /// Path from the root of the workspace, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// All text files, ordered by path.
pub(super) struct Tree {
    pub(super) files: Vec<Source>,
}

impl Tree {
    pub(super) fn read() -> Result<Self, TaskError> {
        let mut files = Vec::new();
        walk(&workspace(), &workspace(), &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// Files whose name ends with `.kind`.
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Source> {
        let end = format!(".{kind}");
        self.files.iter().filter(move |file| file.path.ends_with(&end))
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<Source>) -> Result<(), TaskError> {
    let wrap = |path: &Path, source| TaskError::File { path: path.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(|error| wrap(folder, error))? {
        let path = entry.map_err(|error| wrap(folder, error))?.path();
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        if SKIPPED.iter().any(|skipped| relative == *skipped || relative.ends_with(&format!("/{skipped}"))) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files)?;
        } else if is_text(&relative) {
            // A file that is no UTF-8 is no source.
            if let Ok(text) = std::fs::read_to_string(&path) {
                files.push(Source { path: relative, text });
            }
        }
    }
    Ok(())
}

fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "Makefile" || name.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind))
}
