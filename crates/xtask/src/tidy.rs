//! Rules of the tree that no compiler holds.
//!
//! Each submodule is one rule set: [`dependencies`] for who may depend on whom, [`lock`] for the second lock file, [`sizes`]
//! for files and functions that have grown too long, [`words`] for texts that must not be committed, [`links`] for documents
//! that name what is not there.

mod dependencies;
mod links;
mod lock;
mod sizes;
mod source;
mod words;

use crate::TaskError;
use source::Tree;

/// What tidy found.
#[derive(Debug, Default)]
pub struct Report {
    /// Rules broken.
    pub errors: Vec<String>,
    /// What should be looked at.
    pub warnings: Vec<String>,
}

impl Report {
    fn error(&mut self, text: String) {
        self.errors.push(text);
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }
}

/// Runs all rules and prints the warnings.
///
/// # Errors
/// A rule is broken, or the tree cannot be read.
pub fn run() -> Result<(), TaskError> {
    let report = report()?;
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    if report.errors.is_empty() { Ok(()) } else { Err(TaskError::Findings(report.errors)) }
}

/// Runs all rules.
///
/// # Errors
/// The tree cannot be read, or cargo cannot be run.
pub fn report() -> Result<Report, TaskError> {
    let tree = Tree::read()?;
    let mut report = Report::default();
    dependencies::check(&mut report)?;
    lock::check(&mut report)?;
    sizes::check(&tree, &mut report);
    words::check(&tree, &mut report);
    links::check(&tree, &mut report);
    Ok(report)
}
