//! Time for the decisions of `vpa-core`.

use std::sync::OnceLock;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// Time by a clock that never steps: the wall clock at the program's start plus what has passed since. For intervals,
/// timeouts and leadership, which a correction of the system's clock must not stretch or cut.
pub fn steady() -> Timestamp {
    static START: OnceLock<(Timestamp, Instant)> = OnceLock::new();
    let (wall, instant) = START.get_or_init(|| (Timestamp::now(), Instant::now()));
    let passed = SignedDuration::try_from(instant.elapsed()).unwrap_or(SignedDuration::MAX);
    wall.checked_add(passed).unwrap_or(Timestamp::MAX)
}

/// Time by the system's clock, for what others read: checkpoints, conditions, leases.
pub fn wall() -> Timestamp {
    Timestamp::now()
}
