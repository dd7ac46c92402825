//! The pace of writes: [`vpa_core::pace`] on the clock, fed by the client.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use vpa_core::pace::{Answer, Pace};

/// Writes at once where no flag says otherwise.
const MOST: usize = 10;

/// How many writes may be under way at once. Clones share it: all writes of a program go to the same API server.
#[derive(Clone, Debug)]
pub struct Pacer {
    pace: Arc<Mutex<Pace>>,
    start: Instant,
}

impl Default for Pacer {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Pacer {
    /// A pace of at most `most` at once, at least one.
    pub fn new(most: usize) -> Self {
        Self { pace: Arc::new(Mutex::new(Pace::new(most))), start: Instant::now() }
    }

    /// Begins anew with another bound.
    pub fn set_most(&self, most: usize) {
        *self.pace.lock() = Pace::new(most);
    }

    /// How many writes may be under way at present.
    pub fn limit(&self) -> usize {
        self.pace.lock().limit()
    }

    /// Takes note of an answer.
    pub fn answered(&self, answer: Answer) {
        self.pace.lock().answered(answer, self.start.elapsed());
    }
}
