//! The moments at which history is sampled, taken a few at a time.

use std::time::Duration;

use jiff::Timestamp;

/// Points of the first slice. What a point costs is not known yet, so it begins small.
const FIRST_POINTS: u64 = 4;
/// Points of a slice at most; Prometheus itself refuses a query of more than 11,000.
const POINTS_MAX: u64 = 500;
/// Samples that a slice should have: 16 bytes each while they are sorted.
pub(super) const SAMPLES_WANTED: u64 = 500_000;

/// Some consecutive moments, the first and the last of them included; in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) from: i64,
    pub(super) to: i64,
}

/// All moments from the beginning of history to now, one step from each other: those of one query over the whole span.
#[derive(Clone, Debug)]
pub(super) struct Slices {
    start: i64,
    step: i64,
    /// Number of the next moment.
    next: u64,
    /// Number of moments.
    count: u64,
    /// Moments of the next slice.
    points: u64,
}

impl Slices {
    pub(super) fn new(now: Timestamp, length: Duration, step: Duration) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1);
        let (length, step) = (millis(length), millis(step));
        let start = now.as_millisecond().saturating_sub(length);
        let count = u64::try_from(length / step).unwrap_or(0) + 1;
        Self { start, step, next: 0, count, points: FIRST_POINTS }
    }

    /// The next slice, the same again until it is [`done`](Self::done); `None` after the last.
    pub(super) fn next(&self) -> Option<Slice> {
        let last = (self.next + self.points).min(self.count).checked_sub(1)?;
        (self.next < self.count).then(|| Slice { from: self.moment(self.next), to: self.moment(last) })
    }

    /// Takes note that the next slice is taken in, and had so many samples.
    pub(super) fn done(&mut self, samples: u64) {
        let taken = self.points.min(self.count - self.next).max(1);
        self.next = (self.next + taken).min(self.count);
        let fitting = SAMPLES_WANTED.saturating_mul(taken) / samples.max(1);
        // Not by much at once: what was sparse a week ago may not be so since.
        self.points = fitting.clamp(1, POINTS_MAX).min(self.points.saturating_mul(4));
    }

    /// Makes the next slice smaller, since it was too much. Returns `false` where it is one moment already.
    pub(super) fn halve(&mut self) -> bool {
        let smaller = self.points.min(self.count - self.next) / 2;
        if smaller == 0 {
            return false;
        }
        self.points = smaller;
        true
    }

    /// Part of all moments that is taken in, from 0 to 1.
    pub(super) fn progress(&self) -> f64 {
        self.next as f64 / self.count as f64
    }

    fn moment(&self, number: u64) -> i64 {
        self.start.saturating_add(i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(self.step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All slices, where those with these numbers are found to be too much once, and each has so many samples a moment.
    fn walk(length: u64, step: u64, too_much: &[usize], samples_a_moment: u64) -> Vec<Slice> {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut slices = Slices::new(now, Duration::from_secs(length), Duration::from_secs(step));
        let (mut taken, mut attempts) = (Vec::new(), 0);
        while let Some(slice) = slices.next() {
            attempts += 1;
            if too_much.contains(&attempts) && slices.halve() {
                continue;
            }
            let moments = (slice.to - slice.from) as u64 / (step * 1000) + 1;
            slices.done(moments * samples_a_moment);
            taken.push(slice);
        }
        assert!((slices.progress() - 1.0).abs() < f64::EPSILON);
        taken
    }

    #[test]
    fn every_moment_is_in_one_slice_in_order() {
        for (length, step) in [(8 * 86_400, 3600), (3600, 3600), (7, 3), (100_000, 1), (86_399, 3600)] {
            for too_much in [&[][..], &[1, 2, 3, 4, 5], &[2, 7, 9, 20]] {
                for samples in [0, 1, 10_000, 100_000_000] {
                    let slices = walk(length, step, too_much, samples);
                    let end = 1_700_000_000_000;
                    assert_eq!(slices[0].from, end - length as i64 * 1000);
                    let last = slices.last().unwrap().to;
                    assert!(last <= end && last > end - step as i64 * 1000, "{length} by {step}");
                    for pair in slices.windows(2) {
                        assert_eq!(pair[1].from, pair[0].to + step as i64 * 1000);
                    }
                    assert!(slices.iter().all(|slice| slice.to >= slice.from));
                }
            }
        }
    }

    #[test]
    fn slices_are_as_large_as_their_samples_allow() {
        let moments = |slice: &Slice| (slice.to - slice.from) / 3_600_000 + 1;
        let few = walk(8 * 86_400, 3600, &[], 10);
        assert_eq!(few.iter().map(moments).collect::<Vec<_>>(), [4, 16, 64, 109]);
        let many = walk(8 * 86_400, 3600, &[], 200_000);
        assert!(many[1..].iter().all(|slice| moments(slice) <= 2), "{many:?}");
    }
}
