//! What a figure was measured on: without it, it says nothing.

use std::fmt;
use std::fs;

use serde::Serialize;

/// The machine and what ran on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Load average of the last minute at the start: above a few tenths something else was running.
    pub load: String,
    /// Programs with their versions.
    pub versions: Vec<String>,
}

impl Machine {
    /// The present machine. What cannot be found out is called unknown.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let first_word = |text: &str| text.split_whitespace().next().unwrap_or("unknown").to_owned();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown processor").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal").and_then(kib).unwrap_or(0) / 1024,
            kernel: first_word(&read("/proc/sys/kernel/osrelease")),
            load: first_word(&read("/proc/loadavg")),
            versions: vec![concat!("vpa ", env!("CARGO_PKG_VERSION")).to_owned()],
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_mib, kernel, load, versions } = self;
        let gib = *memory_mib as f64 / 1024.0;
        write!(f, "{cpu}, {cores} cores, {gib:.0} GiB, Linux {kernel}, load {load} at the start; ")?;
        f.write_str(&versions.join(", "))
    }
}

/// The value of the first line `NAME: VALUE` of a file of `/proc`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// Reads `1234 kB`.
pub(super) fn kib(value: &str) -> Option<u64> {
    value.strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_proc_is_found_by_its_whole_name() {
        let text =
            "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nmodel\t\t: 85\nMemTotal:       1024 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2.00GHz"));
        assert_eq!(field(text, "model"), Some("85"));
        assert_eq!(field(text, "MemTotal").and_then(kib), Some(1024));
        assert_eq!(field(text, "Mem"), None);
    }

    #[test]
    fn this_machine_is_known() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.memory_mib > 0, "{machine:?}");
        assert!(machine.to_string().contains("vpa "), "{machine}");
    }
}
