//! OOM kills between the watch that sees them and the cycle that takes them.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use vpa_core::model::oom::Oom;

/// OOM kills that wait at most: in a cluster that has more between two cycles, any of them shows the need.
pub(crate) const MAX_WAITING: usize = 20_000;

/// How long an OOM kill waits for its pod to be known. The watches of pods and events run apart from each other, seconds
/// at most.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// OOM kills that are not taken yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbox(Arc<Mutex<VecDeque<Oom>>>);

impl Inbox {
    /// Puts OOM kills in; the oldest go where there are too many.
    pub(crate) fn put(&self, ooms: Vec<Oom>) {
        if ooms.is_empty() {
            return;
        }
        let mut waiting = self.0.lock();
        waiting.extend(ooms);
        while waiting.len() > MAX_WAITING {
            waiting.pop_front();
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Takes all out.
    pub(crate) fn take(&self) -> Vec<Oom> {
        self.0.lock().drain(..).collect()
    }

    /// Puts one back whose pod is not known yet. Returns whether there is still hope.
    pub(crate) fn put_back(&self, oom: Oom, now: Timestamp) -> bool {
        let hope = now.duration_since(oom.time) < PATIENCE;
        if hope {
            self.put(vec![oom]);
        }
        hope
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpa_core::model::ContainerId;

    fn oom(second: i64) -> Oom {
        Oom {
            container: ContainerId::new("n", "p", "c"),
            time: Timestamp::from_second(second).unwrap(),
            requested_bytes: 1,
            first_sight: false,
        }
    }

    #[test]
    fn is_bounded_and_gives_up_in_time() {
        let inbox = Inbox::default();
        inbox.put((0..MAX_WAITING as i64 + 5).map(oom).collect());
        let taken = inbox.take();
        assert_eq!((taken.len(), taken[0].time.as_second()), (MAX_WAITING, 5));
        assert!(inbox.take().is_empty());
        let now = Timestamp::from_second(1000).unwrap();
        assert!(inbox.put_back(oom(800), now));
        assert!(!inbox.put_back(oom(700), now));
        assert_eq!(inbox.take(), [oom(800)]);
    }
}
