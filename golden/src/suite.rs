//! Runs the cases of one folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;

use crate::deviations::{self, Deviation};
use crate::open_list::OpenList;
use crate::source::{self, Case, Sections};

/// Failures that are printed in full; the rest is counted.
const FAILURES_SHOWN: usize = 20;

/// A run over the cases of one folder, such as `recommender`.
///
/// It must be closed with [`Suite::finish`], which judges the run.
#[must_use = "a suite says what failed only when it is finished"]
pub struct Suite {
    folder: String,
    files: BTreeMap<String, Option<Sections>>,
    open: BTreeSet<String>,
    open_list: Option<OpenList>,
    filter: Option<String>,
    is_default_data: bool,
    deviations_seen: BTreeSet<&'static str>,
    counts: Counts,
    /// What fails the run, case name (or file) first.
    failures: Vec<(String, String)>,
    /// Names of all cases that did not pass, listed or not.
    not_passed: BTreeSet<String>,
}

#[derive(Default)]
struct Counts {
    cases: usize,
    passed: usize,
    deviations: usize,
    open: usize,
}

impl Suite {
    /// Opens the folder. What cannot be read is reported by [`Suite::finish`].
    pub fn new(folder: &str) -> Self {
        let dir = source::data_dir();
        let mut failures = Vec::new();
        let names = source::files(&dir, folder).unwrap_or_else(|error| {
            failures.push((format!("{}/{folder}", dir.display()), error));
            Vec::new()
        });
        let mut files = BTreeMap::new();
        for name in names {
            let sections = source::read(&dir, folder, &name);
            let sections = sections.map_err(|error| failures.push((format!("{folder}/{name}"), error))).ok();
            files.insert(name, sections);
        }
        let open_list =
            OpenList::load().map_err(|error| failures.push(("golden-open.txt".to_owned(), error))).ok();
        Self {
            folder: folder.to_owned(),
            files,
            open: open_list.as_ref().map(|list| list.names(folder)).unwrap_or_default(),
            open_list,
            filter: std::env::var("GOLDEN_FILTER").ok().filter(|filter| !filter.is_empty()),
            is_default_data: dir == source::default_dir(),
            deviations_seen: BTreeSet::new(),
            counts: Counts::default(),
            failures,
            not_passed: BTreeSet::new(),
        }
    }

    /// Runs every case of a section (a top-level list of the file) through `check`, which returns what is wrong.
    /// A panic of `check` is a failure of that case alone.
    pub fn section<T, F>(&mut self, file: &str, section: &str, mut check: F)
    where
        T: DeserializeOwned,
        F: FnMut(&T) -> Result<(), String>,
    {
        for mut case in self.take(file, section) {
            let rule = self.rewrite(file, section, &mut case);
            let outcome = match T::deserialize(&case.value) {
                Ok(typed) => catch_unwind(AssertUnwindSafe(|| check(&typed))).unwrap_or_else(|payload| {
                    let text = payload.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
                    Err(format!("panicked: {}", text.unwrap_or("(no text)")))
                }),
                Err(error) => Err(format!("does not have the expected form: {error}")),
            };
            self.record(&case.name, rule, outcome);
        }
    }

    /// Declares a section that nothing answers yet; all its cases have to be listed as open.
    pub fn unanswered(&mut self, file: &str, section: &str) {
        self.section(file, section, |_: &serde_json::Value| Err("not answered yet".to_owned()));
    }

    /// Prints the counts as `golden_<folder>: N cases, N passed, N deviations, N open`.
    ///
    /// # Panics
    /// The run failed; the message shows the first failures.
    pub fn finish(mut self) {
        self.judge_completeness();
        let Counts { cases, passed, deviations, open } = self.counts;
        let mut line = format!(
            "golden_{}: {cases} cases, {passed} passed, {deviations} deviations, {open} open",
            self.folder
        );
        if std::env::var_os("GOLDEN_UPDATE_OPEN").is_some_and(|value| value == "1") {
            let list = self.open_list.as_ref().map(|list| list.replace(&self.folder, &self.not_passed));
            say(&format!("{line}\n{} names written to golden-open.txt ({list:?})", self.not_passed.len()));
            return;
        }
        if self.failures.is_empty() {
            say(&line);
            return;
        }
        line.push_str(&format!(", {} failed", self.failures.len()));
        say(&line);
        let shown = if self.filter.is_some() { usize::MAX } else { FAILURES_SHOWN };
        let mut text = line;
        for (name, reason) in self.failures.iter().take(shown) {
            text.push_str(&format!("\n- {name}: {reason}"));
        }
        if self.failures.len() > shown {
            text.push_str(&format!("\n- and {} more", self.failures.len() - shown));
        }
        fail(&text);
    }

    /// Takes the cases of a section out, so that what remains in the end is what nobody ran.
    fn take(&mut self, file: &str, section: &str) -> Vec<Case> {
        let cases = match self.files.get_mut(file) {
            Some(Some(sections)) => sections.remove(section),
            Some(None) => return Vec::new(), // unreadable, already reported
            None => None,
        };
        let Some(mut cases) = cases else {
            self.failures.push((format!("{}/{file}#{section}", self.folder), "is missing".to_owned()));
            return Vec::new();
        };
        if let Some(filter) = &self.filter {
            cases.retain(|case| case.name.contains(filter.as_str()));
        }
        cases
    }

    /// Puts the right answer in by the first rule that finds the reference's wrong.
    fn rewrite(&self, file: &str, section: &str, case: &mut Case) -> Option<&'static Deviation> {
        let mut rules =
            deviations::of(&self.folder).iter().chain(deviations::unseen(&self.folder)).peekable();
        rules.peek()?;
        let input = deviations::input_of(&case.value);
        rules.filter(|rule| (rule.applies)(file, section, &input)).find(|rule| {
            let mut rewritten = case.value.clone();
            (rule.rewrite)(file, section, &mut rewritten);
            let differs = rewritten != case.value;
            case.value = rewritten;
            differs
        })
    }

    fn record(&mut self, name: &str, rule: Option<&'static Deviation>, outcome: Result<(), String>) {
        self.counts.cases += 1;
        if let Some(rule) = rule {
            self.deviations_seen.insert(rule.id);
        }
        let listed = self.open.remove(name);
        match outcome {
            Ok(()) if listed => {
                self.failures.push((name.to_owned(), "passes, but is listed as open".to_owned()));
            }
            Ok(()) if rule.is_some() => self.counts.deviations += 1,
            Ok(()) => self.counts.passed += 1,
            Err(reason) => {
                self.not_passed.insert(name.to_owned());
                if listed {
                    self.counts.open += 1;
                } else {
                    let by = rule.map_or_else(String::new, |rule| format!(" (deviation `{}`)", rule.id));
                    self.failures.push((name.to_owned(), reason + &by));
                }
            }
        }
    }

    /// What was not run, listed for nothing, or ruled for nothing.
    fn judge_completeness(&mut self) {
        let folder = &self.folder;
        for (file, sections) in &self.files {
            for section in sections.iter().flatten().map(|(section, _)| section) {
                let reason = "is of a kind that nothing runs".to_owned();
                self.failures.push((format!("{folder}/{file}#{section}"), reason));
            }
        }
        if !self.is_default_data || self.filter.is_some() {
            return;
        }
        for name in &self.open {
            self.failures.push((name.clone(), "is listed as open, but does not exist".to_owned()));
        }
        for rule in deviations::of(folder).iter().filter(|rule| !self.deviations_seen.contains(rule.id)) {
            self.failures.push((format!("deviation `{}`", rule.id), "applies to no case".to_owned()));
        }
    }
}

/// Prints past the capture of the test harness, so that the counts show in every run.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A runner of tests reports by panicking.
#[allow(clippy::panic)]
fn fail(text: &str) -> ! {
    panic!("{text}")
}
