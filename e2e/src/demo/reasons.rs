//! What the updater says about each pod, read from its log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What the updater said of a pod last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `resize`, `evict` or `leave`.
    pub verdict: String,
    /// One word for machines.
    pub reason: String,
    /// Text for people.
    pub detail: String,
}

/// Follows the log of the updater, which has to be in JSON.
#[derive(Debug)]
pub struct Reasons {
    path: PathBuf,
    read: u64,
    pods: BTreeMap<String, Said>,
}

impl Reasons {
    /// Of this log; it need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, pods: BTreeMap::new() }
    }

    /// Reads what was added. A log that cannot be read adds nothing; that a pod has no reason is shown as such.
    pub fn follow(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return;
        }
        let mut lines = BufReader::new(file);
        let mut line = String::new();
        // A line without its end is still being written.
        while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
            self.read += line.len() as u64;
            self.take(&line);
            line.clear();
        }
    }

    /// What was said of a pod last.
    pub fn of(&self, pod: &str) -> Option<&Said> {
        self.pods.get(pod)
    }

    /// Takes in a line of the log.
    pub(super) fn take(&mut self, line: &str) {
        let Ok(value) = serde_json::from_str::<Value>(line) else { return };
        // Fields stand beside the message or in an object of their own.
        let field = |name: &str| {
            let found = value.get(name).or_else(|| value.get("fields")?.get(name));
            found.and_then(Value::as_str).map(str::to_owned)
        };
        if let (Some(pod), Some(verdict), Some(reason)) = (field("pod"), field("verdict"), field("reason")) {
            self.pods.insert(pod, Said { verdict, reason, detail: field("detail").unwrap_or_default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_log_is_followed_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("updater.log");
        let mut reasons = Reasons::new(&path);
        reasons.follow();
        let mut file = File::create(&path).unwrap();
        write!(file, "no json\n{{\"message\":\"x\"}}\n{{\"pod\":\"a\",\"verdict\":\"leave\",\"reason\":\"Budget\",\"detail\":\"d\"}}\n{{\"pod\":\"b\"").unwrap();
        reasons.follow();
        assert_eq!(reasons.of("a").map(|said| said.reason.as_str()), Some("Budget"));
        assert_eq!(reasons.of("b"), None);
        writeln!(file, ",\"verdict\":\"evict\",\"reason\":\"Evicted\"}}").unwrap();
        writeln!(file, "{{\"fields\":{{\"pod\":\"a\",\"verdict\":\"leave\",\"reason\":\"Other\"}}}}")
            .unwrap();
        reasons.follow();
        assert_eq!(reasons.of("b").map(|said| said.verdict.as_str()), Some("evict"));
        assert_eq!(reasons.of("a").map(|said| said.reason.as_str()), Some("Other"));
    }
}
