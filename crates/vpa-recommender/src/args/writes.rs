//! Flags of what is written, and when.

use std::time::Duration;

use jiff::SignedDuration;
use vpa_core::limiter::Limiter;
use vpa_core::model::Schedule;
use vpa_runtime::FlagError;
use vpa_runtime::client::Rate;
use vpa_runtime::flags::{GoDuration, parse_non_negative, parse_positive_duration};

use super::signed;

/// Longest time for which a small move of bounds waits.
const BOUNDS_WAIT_MAX: SignedDuration = SignedDuration::from_mins(10);

/// Flags of writing.
#[derive(clap::Args, Debug)]
pub(super) struct WriteFlags {
    /// Longest time for writing checkpoints in a cycle; those that did not get their turn come first in the next
    #[arg(long, default_value = "1m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    checkpoints_timeout: GoDuration,
    /// Longest time for which samples are in memory only: a checkpoint that changes is written once in it, and a crash
    /// loses no more
    #[arg(long, default_value = "10m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    checkpoints_write_interval: GoDuration,
    /// Checkpoints that are written in a second at most; 0 for no limit
    #[arg(long, default_value_t = 500.0, value_parser = parse_non_negative, value_name = "RATE")]
    checkpoints_writes_per_second: f64,
    /// Part of itself by which a lower or upper bound has to move to be published at once; smaller moves wait up to ten
    /// minutes. Targets never wait. The default is two steps of the histograms, whose buckets grow by 5 %
    #[arg(long, default_value_t = 0.1, value_parser = parse_non_negative, value_name = "FRACTION")]
    bounds_write_tolerance: f64,
    /// Statuses and checkpoints that are written at the same time at most; there are less while the API server is slow
    /// or refuses
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    update_worker_count: u16,
    /// No effect, as in the Go suite
    #[arg(long, default_value_t = 10, hide_short_help = true, value_name = "COUNT")]
    min_checkpoints: i64,
}

/// What the flags of writing come to.
#[derive(Clone, Debug)]
pub(crate) struct Writing {
    pub(crate) bounds_tolerance: f64,
    pub(crate) bounds_wait_max: SignedDuration,
    pub(crate) schedule: Schedule,
    pub(crate) rate: Rate,
    pub(crate) timeout: Duration,
    pub(crate) workers: usize,
}

impl WriteFlags {
    /// Takes the flags apart, for cycles of this length.
    ///
    /// # Errors
    /// When a value cannot be served.
    pub(super) fn writing(self, cycle: GoDuration) -> Result<Writing, FlagError> {
        let Self {
            checkpoints_timeout,
            checkpoints_write_interval,
            checkpoints_writes_per_second,
            bounds_write_tolerance,
            update_worker_count,
            min_checkpoints: _,
        } = self;
        if update_worker_count == 0 {
            return Err(FlagError::new("update-worker-count", "0", "1 or more"));
        }
        // A burst of what is due in a tenth of a second keeps the workers busy between two looks at the clock.
        let burst = (checkpoints_writes_per_second / 10.0).ceil().max(1.0) as u32;
        let limiter = Limiter::new(checkpoints_writes_per_second, burst).map_err(|error| {
            FlagError::new(
                "checkpoints-writes-per-second",
                checkpoints_writes_per_second.to_string(),
                error.to_string(),
            )
        })?;
        Ok(Writing {
            bounds_tolerance: bounds_write_tolerance,
            bounds_wait_max: BOUNDS_WAIT_MAX,
            schedule: Schedule { unsaved_max: signed(checkpoints_write_interval), cycle: signed(cycle) },
            rate: Rate::of(limiter),
            timeout: checkpoints_timeout.into(),
            workers: update_worker_count.into(),
        })
    }
}
