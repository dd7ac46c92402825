//! What is known of one container of one pod: how far its samples are taken, and its memory window.

use jiff::{SignedDuration, Timestamp};

use super::aggregate::Aggregate;
use super::amount::{scale, truncate};
use super::settings::ContainerSettings;

/// Why an observation was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The pod is not known.
    #[error("unknown pod")]
    UnknownPod,
    /// The pod has no such container.
    #[error("unknown container")]
    UnknownContainer,
    /// The container runs before the main ones and is not sized.
    #[error("init container")]
    InitContainer,
    /// The amount is below zero.
    #[error("negative amount")]
    Negative,
    /// A sample of that time or a later one was taken before.
    #[error("duplicate or out of order")]
    OutOfOrder,
    /// An OOM kill more than one interval before the last memory sample.
    #[error("too old")]
    TooOld,
    /// That OOM kill was taken before.
    #[error("taken before")]
    Duplicate,
    /// The time is beyond what can be reckoned with.
    #[error("time out of range")]
    TimeOutOfRange,
    /// The VPA is not known.
    #[error("unknown VPA")]
    UnknownVpa,
}

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct ContainerState {
    /// Time of the last CPU sample taken.
    pub last_cpu: Option<Timestamp>,
    /// Time of the last memory sample taken.
    pub last_memory: Option<Timestamp>,
    /// End of the running memory interval.
    pub window_end: Option<Timestamp>,
    /// Highest usage in the running interval, in bytes.
    pub memory_peak: i64,
    /// Highest need in the running interval as estimated from OOM kills, in bytes.
    pub oom_peak: i64,
    /// Time of the last OOM kill taken.
    pub last_oom: Option<Timestamp>,
}

impl ContainerState {
    /// The memory sample of the running interval, in bytes; 0 where there is none.
    pub fn peak(&self) -> i64 {
        self.memory_peak.max(self.oom_peak)
    }

    /// End and peak of the interval that runs at this time, if there is one with a peak.
    pub fn open_peak(&self, now: Timestamp) -> Option<(Timestamp, i64)> {
        self.window_end.filter(|end| now < *end && self.peak() > 0).map(|end| (end, self.peak()))
    }

    /// Takes a CPU sample.
    ///
    /// # Errors
    /// Says why it was not taken.
    pub fn add_cpu(
        &mut self,
        millicores: i64,
        time: Timestamp,
        aggregate: &mut Aggregate,
    ) -> Result<(), Rejection> {
        if millicores < 0 {
            return Err(Rejection::Negative);
        }
        if self.last_cpu.is_some_and(|last| time <= last) {
            return Err(Rejection::OutOfOrder);
        }
        aggregate.add_cpu(millicores, time);
        self.last_cpu = Some(time);
        Ok(())
    }

    /// Takes a memory sample.
    ///
    /// # Errors
    /// Says why it was not taken.
    pub fn add_memory(
        &mut self,
        bytes: i64,
        time: Timestamp,
        settings: &ContainerSettings,
        aggregate: &mut Aggregate,
    ) -> Result<(), Rejection> {
        if bytes < 0 {
            return Err(Rejection::Negative);
        }
        if self.last_memory.is_some_and(|last| time < last) {
            return Err(Rejection::OutOfOrder);
        }
        if self.add_peak(bytes, time, settings, aggregate)? {
            self.memory_peak = bytes;
        }
        Ok(())
    }

    /// Takes an OOM kill: a memory sample of what the container had, raised by a ratio and at least by an amount.
    /// What it had is the greater of its request and its highest usage, but not an earlier estimate of this kind, so
    /// that kills one after another do not raise the sample without end. Returns that sample in bytes.
    ///
    /// # Errors
    /// Says why it was not taken.
    pub fn add_oom(
        &mut self,
        requested_bytes: i64,
        time: Timestamp,
        settings: &ContainerSettings,
        aggregate: &mut Aggregate,
    ) -> Result<i64, Rejection> {
        if self.last_oom == Some(time) {
            return Err(Rejection::Duplicate);
        }
        if self.last_memory.is_some_and(|last| last.duration_since(time) > settings.memory_interval) {
            return Err(Rejection::TooOld);
        }
        let had = requested_bytes.max(self.memory_peak);
        let needed = had
            .saturating_add(truncate(settings.oom_min_bump_up_bytes))
            .max(scale(had, settings.oom_bump_up_ratio));
        if needed < 0 {
            return Err(Rejection::Negative);
        }
        if self.add_peak(needed, time, settings, aggregate)? {
            self.oom_peak = needed;
        }
        self.last_oom = Some(time);
        Ok(needed)
    }

    /// Enters a sample into the running interval, or opens the next one with it. Returns whether it is the new peak.
    ///
    /// A sample of 0 bytes is no peak: it opens no interval and changes none.
    fn add_peak(
        &mut self,
        bytes: i64,
        time: Timestamp,
        settings: &ContainerSettings,
        aggregate: &mut Aggregate,
    ) -> Result<bool, Rejection> {
        if bytes == 0 {
            self.last_memory = self.last_memory.max(Some(time));
            return Ok(false);
        }
        let end = self.window_end.unwrap_or(time);
        if time < end {
            let peak = self.peak();
            self.last_memory = self.last_memory.max(Some(time));
            if bytes <= peak {
                return Ok(false);
            }
            if peak > 0 {
                aggregate.subtract_memory_peak(peak, end);
            }
            aggregate.add_memory_peak(bytes, end);
        } else {
            let end = next_end(end, time, settings.memory_interval).ok_or(Rejection::TimeOutOfRange)?;
            self.last_memory = self.last_memory.max(Some(time));
            self.window_end = Some(end);
            self.memory_peak = 0;
            self.oom_peak = 0;
            aggregate.add_memory_peak(bytes, end);
        }
        Ok(true)
    }
}

/// The end of the interval that holds `time`, for intervals that follow one another from `end` on.
fn next_end(end: Timestamp, time: Timestamp, interval: SignedDuration) -> Option<Timestamp> {
    let step = interval.as_nanos().max(1);
    let passed = time.as_nanosecond() - end.as_nanosecond();
    Timestamp::from_nanosecond(end.as_nanosecond() + passed / step * step + step).ok()
}
