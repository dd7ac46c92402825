//! When there is more to do than can be done in time.
//!
//! An API server that gets no answer within its timeout has waited for nothing: with failure policy `Ignore` the pod is then
//! created as it is, late, and with `Fail` it is not created at all. So what cannot be answered in time is answered at
//! once, with the pod as it is. How late the program's own tasks run tells that time runs out: the processor is taken by others,
//! throttled by a limit, or there are more reviews than it can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Reviews that wait for a look-up at once: a burst of the first pods of a new kind of workload. Each holds its body, mostly
/// some kilobytes, for as long as the look-up may take.
pub const WAITING_MAX: usize = 512;

/// How late tasks may run. Ten times what a throttled container's pause (100 ms) makes of it, and well below the timeout of
/// webhooks (10 s by default, 5 s in the chart), since a review waits about as long several times: for its head, its body and
/// its answer.
pub const LAG_MAX: Duration = Duration::from_secs(1);

/// How often lateness is measured.
const LAG_EVERY: Duration = Duration::from_millis(100);

/// How busy the program is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: AtomicUsize,
    lag_micros: AtomicU64,
}

impl Load {
    /// Whether what comes in now can hardly be done in time.
    pub fn too_much(&self) -> bool {
        self.lag() > LAG_MAX
    }

    /// Begins to wait for a look-up; `None` where too many do.
    pub fn wait(&self) -> Option<Waiting> {
        let waiting = Waiting(self.clone());
        // The place is taken first, so that those who come at the same moment do not all see the last one free.
        (self.0.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(waiting)
    }

    /// How late tasks run.
    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.0.lag_micros.load(Ordering::Relaxed))
    }

    /// Notes how late a task ran: more counts at once, less step by step, so that one task in time is not taken for the end of
    /// the trouble.
    fn note(&self, late: Duration) {
        let lag = self.lag().mul_f64(0.5).max(late);
        self.0.lag_micros.store(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Measures lateness, for ever.
    pub async fn measure(self) {
        loop {
            let due = Instant::now() + LAG_EVERY;
            tokio::time::sleep_until(due).await;
            self.note(due.elapsed());
        }
    }
}

/// A place among those that wait; given back when dropped.
#[derive(Debug)]
pub struct Waiting(Load);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let load = Load::default();
        let places: Vec<Waiting> = std::iter::from_fn(|| load.wait()).collect();
        assert_eq!(places.len(), WAITING_MAX);
        assert!(load.wait().is_none());
        drop(places);
        assert!(load.wait().is_some());
    }

    #[test]
    fn lateness_is_forgotten_in_steps() {
        let load = Load::default();
        assert!(!load.too_much());
        load.note(LAG_MAX * 3);
        assert!(load.too_much());
        load.note(Duration::ZERO);
        assert!(load.too_much(), "one task in time is not the end of it");
        load.note(Duration::ZERO);
        assert!(!load.too_much());
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_keeps_up_is_not_late() {
        let load = Load::default();
        let task = tokio::spawn(load.clone().measure());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(load.lag() < Duration::from_millis(10), "{:?}", load.lag());
        task.abort();
    }
}
