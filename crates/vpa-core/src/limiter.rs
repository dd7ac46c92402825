//! How often something may be done: a token bucket with its time as an argument.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use jiff::{SignedDuration, Timestamp};

/// A rate that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum RateError {
    /// A limit under which nothing would ever happen.
    #[error("a rate of {0} a second needs a burst of at least 1")]
    Burst(f64),
    /// Not a number, or slower than once in ten years.
    #[error(
        "a rate of {0} a second cannot be kept; 0 and less mean no limit, the slowest is one in ten years"
    )]
    Rate(f64),
}

/// Slowest rate: a whole burst of 100,000 at it still fits into the 64 bits of nanoseconds that count it
/// for the smaller bursts in use, and nobody waits for longer.
const PERIOD_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A full bucket is worth at most this long; twice [`PERIOD_MAX`] times this stays below 584 years.
const FILL_MAX: Duration = Duration::from_secs(200 * 365 * 24 * 3600);

/// A token bucket: `burst` at once, then `rate` a second, fractions of a second included.
///
/// Time comes from the caller and is taken as not running backwards; a smaller time than before counts as the same.
#[derive(Debug)]
pub struct Limiter {
    bucket: Option<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, HandClock, NoOpMiddleware<Nanos>>,
    clock: HandClock,
    /// Time at which the hand-set clock shows 0.
    start: Option<Timestamp>,
}

impl Limiter {
    /// A limiter of `rate` a second with bursts of `burst`. As in the Go suite a rate of 0 or less means no limit.
    ///
    /// # Errors
    /// A rate with a burst of 0, a rate that is not a number or too slow to ever matter.
    pub fn new(rate: f64, burst: u32) -> Result<Self, RateError> {
        if rate.is_nan() {
            return Err(RateError::Rate(rate));
        }
        // Above one a nanosecond there is nothing left to measure.
        if rate <= 0.0 || rate >= 1e9 {
            return Ok(Self::unlimited());
        }
        let burst = NonZeroU32::new(burst).ok_or(RateError::Burst(rate))?;
        let period = Duration::try_from_secs_f64(1.0 / rate)
            .ok()
            .filter(|period| *period <= PERIOD_MAX)
            .ok_or(RateError::Rate(rate))?;
        // A bucket so deep that it would take centuries to fill is cut to what fills in that time.
        let deepest =
            u32::try_from(FILL_MAX.as_nanos() / period.as_nanos().max(1)).unwrap_or(u32::MAX).max(1);
        let burst = burst.min(NonZeroU32::new(deepest).unwrap_or(NonZeroU32::MIN));
        let quota = Quota::with_period(period).ok_or(RateError::Rate(rate))?.allow_burst(burst);
        let clock = HandClock::default();
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
        Ok(Self { bucket: Some(Bucket { limiter, clock, start: None }) })
    }

    /// A limiter that never says no.
    pub fn unlimited() -> Self {
        Self { bucket: None }
    }

    /// Whether there is a limit at all.
    pub fn is_limited(&self) -> bool {
        self.bucket.is_some()
    }

    /// Takes one token.
    ///
    /// # Errors
    /// There is none; the time at which there will be one, always later than `now`.
    pub fn try_take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let Some(bucket) = &mut self.bucket else { return Ok(()) };
        let start = *bucket.start.get_or_insert(now);
        bucket.clock.set(now.duration_since(start).unsigned_abs().min(FILL_MAX * 2), now >= start);
        bucket.limiter.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(bucket.clock.now()).max(Duration::from_nanos(1));
            let at = SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok());
            at.unwrap_or(Timestamp::MAX)
        })
    }
}

/// A clock that shows what it was last set to and never goes back.
#[derive(Clone, Debug, Default)]
struct HandClock(Arc<AtomicU64>);

impl HandClock {
    fn set(&self, since_start: Duration, forward: bool) {
        if forward {
            let nanos = u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX);
            self.0.fetch_max(nanos, Ordering::Relaxed);
        }
    }
}

impl Clock for HandClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

#[cfg(test)]
mod tests;
