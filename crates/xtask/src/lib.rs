//! Tasks on the project itself: generated files and checks of the tree.
//!
//! `cargo xtask crds` and `cargo xtask flags` write files that follow from the code, with `--check` they fail where a file
//! on disk is not what would be written. `cargo xtask tidy` holds the rules that no compiler holds.

use std::path::{Path, PathBuf};

pub mod crds;
pub mod flags;
mod generated;
mod schema;
pub mod tidy;

pub use generated::{Generated, TaskError};

/// Root of the workspace.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}
