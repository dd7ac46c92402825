//! No process and no folder outlives the run.
//!
//! A guard, a small shell process in a group of its own, holds the reading end of a pipe whose writing end lives in
//! this process. It is told of every started process group and every temporary folder. However this process ends
//! (return, panic, interrupt, SIGKILL), the pipe closes, and the guard kills what is left and removes the folders.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Reads one order a line until the pipe closes. Interrupts from the terminal go to the run, not to the guard.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT PIPE
groups=
while read -r order what; do
  case $order in
    watch) groups="$groups $what" ;;
    forget)
      left=
      for group in $groups; do [ "$group" = "$what" ] || left="$left $group"; done
      groups=$left ;;
    folder) set -- "$@" "$what" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
[ $# -eq 0 ] && exit 0
[ -z "$groups" ] || sleep 1
for folder; do rm -rf -- "$folder"; done
"#;

struct Guard {
    orders: Mutex<ChildStdin>,
}

static GUARD: OnceLock<Option<Guard>> = OnceLock::new();

/// Has the process group `group` killed when this process ends.
pub fn watch(group: u32) {
    order("watch", &group.to_string());
}

/// Forgets a process group that has ended, before its number can be given to another.
pub fn forget(group: u32) {
    order("forget", &group.to_string());
}

/// Has a folder removed when this process ends.
pub fn remove_at_end(folder: &Path) {
    order("folder", &folder.to_string_lossy());
}

fn order(verb: &str, what: &str) {
    let guard = GUARD.get_or_init(|| {
        let started = start();
        if let Err(error) = &started {
            eprintln!("e2e: no guard against orphans, /bin/sh cannot be started: {error}");
        }
        started.ok()
    });
    if let Some(guard) = guard {
        let mut orders = guard.orders.lock().unwrap_or_else(PoisonError::into_inner);
        // A guard that is gone cannot be told; what it watched is still ended by each handle's Drop.
        let _ = writeln!(orders, "{verb} {what}");
    }
}

fn start() -> std::io::Result<Guard> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", SCRIPT, "vpa-e2e-guard"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()?;
    let orders = child.stdin.take().ok_or_else(|| std::io::Error::other("no pipe to the guard"))?;
    Ok(Guard { orders: Mutex::new(orders) })
}
