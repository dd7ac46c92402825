//! What the kernel says of a process, the same for every program that is measured.

use std::fs;
use std::ops::Sub;
use std::path::Path;
use std::time::Duration;

use super::machine::{field, kib};
use crate::error::{Error, OnFile, Result};

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, in user and kernel mode, of all its threads (`utime` and `stime` of `/proc/PID/stat`).
    pub cpu: Duration,
    /// Resident memory now, in bytes (`VmRSS`).
    pub resident: u64,
    /// The most that ever was resident, in bytes (`VmHWM`).
    pub peak: u64,
}

impl Usage {
    /// Reads it.
    ///
    /// # Errors
    /// If the process is gone, or `/proc` has another form.
    pub fn of(pid: u32) -> Result<Self> {
        Self::at(Path::new(&format!("/proc/{pid}")))
    }

    /// Of this process itself.
    ///
    /// # Errors
    /// If `/proc` has another form.
    pub fn of_self() -> Result<Self> {
        Self::at(Path::new("/proc/self"))
    }

    fn at(dir: &Path) -> Result<Self> {
        let read = |name: &str| fs::read_to_string(dir.join(name)).on_file(dir.join(name), "read");
        let (stat, status) = (read("stat")?, read("status")?);
        let memory = |name: &str| field(&status, name).and_then(kib).map(|kib| kib * 1024);
        match (ticks(&stat), memory("VmRSS"), memory("VmHWM")) {
            (Some(ticks), Some(resident), Some(peak)) => {
                Ok(Self { cpu: Duration::from_millis(ticks * 1000 / TICKS_A_SECOND), resident, peak })
            }
            _ => {
                Err(Error::expectation(format!("{}: stat or status is not in the usual form", dir.display())))
            }
        }
    }
}

/// Unit of times in `/proc/PID/stat`: `USER_HZ`, which is 100 on every Linux that Rust runs on.
const TICKS_A_SECOND: u64 = 100;

/// `utime` and `stime`, the 14th and 15th field. The second one, the name, may itself hold blanks and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

impl Sub for Usage {
    type Output = Duration;

    /// CPU time between two looks.
    fn sub(self, earlier: Self) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 200";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 (a) S 1"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 0 && usage.peak >= usage.resident, "{usage:?}");
        assert!(Usage::of(u32::MAX).is_err());
    }
}
