//! How many requests may be under way at once: as many as the other side answers well.
//!
//! It starts with a few and allows one more for each good answer, until the first bad one; from there on one more for
//! each round of good ones. An answer that is an error of the other side's, or a refusal for want of capacity, halves
//! the number, and one that takes far longer than usual for its kind lowers it by a fifth. So the number settles where the other side
//! is busy and not more (additive increase, multiplicative decrease), without knowing what it can bear.

use std::time::Duration;

/// Requests at once at the beginning.
const START: f64 = 4.0;
/// Part that is left after an answer that says that it is too much.
const AFTER_REFUSAL: f64 = 0.5;
/// Part that is left after an answer that took too long.
const AFTER_DELAY: f64 = 0.8;
/// An answer is late when it takes this many times the usual time and [`LATE_BY`] on top.
const LATE_TIMES: f64 = 3.0;
/// Differences below this are noise, whatever the usual time is.
const LATE_BY: Duration = Duration::from_millis(20);
/// After the number was lowered, answers to requests sent before still come in. They say nothing new.
const HOLD: Duration = Duration::from_secs(1);
/// Weight of an answer in the usual time: a quicker one counts for more, so that a queue which builds up slowly does
/// not pass for usual.
const QUICKER: f64 = 1.0 / 8.0;
/// See [`QUICKER`].
const SLOWER: f64 = 1.0 / 256.0;

/// What an answer says of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was given, whatever it says of the request; it took this long.
    Given {
        /// Kind of the request. An eviction takes many times as long as an event, and neither is late for that. There are
        /// a few kinds.
        kind: &'static str,
        /// Time from the request to the end of the answer.
        took: Duration,
    },
    /// It is an error of the other side's own, a refusal for want of capacity, or never came.
    Failed,
}

/// See the [module](self). Times are those of a clock that never runs backwards.
#[derive(Clone, Debug)]
pub struct Pace {
    most: usize,
    limit: f64,
    /// Whether nothing was ever too much.
    ramping: bool,
    /// Usual time of an answer in seconds, by kind.
    usual: Vec<(&'static str, f64)>,
    lowered: Option<Duration>,
}

impl Pace {
    /// A pace that never allows more than `most` at once, at least one.
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, limit: START.min(most as f64), ramping: true, usual: Vec::new(), lowered: None }
    }

    /// How many may be under way at once: from 1 to the most.
    pub fn limit(&self) -> usize {
        (self.limit as usize).clamp(1, self.most)
    }

    /// Takes note of an answer that came at `now`.
    pub fn answered(&mut self, answer: Answer, now: Duration) {
        let part = match answer {
            Answer::Failed => AFTER_REFUSAL,
            Answer::Given { kind, took } => {
                if !self.is_late(kind, took) {
                    let more = if self.ramping { 1.0 } else { 1.0 / self.limit };
                    self.limit = (self.limit + more).min(self.most as f64);
                    return;
                }
                AFTER_DELAY
            }
        };
        if self.lowered.is_none_or(|at| now.saturating_sub(at) >= HOLD) {
            self.lowered = Some(now);
            self.ramping = false;
            self.limit = (self.limit * part).max(1.0);
        }
    }

    /// Whether an answer took far longer than usual, and what is usual from now on.
    fn is_late(&mut self, kind: &'static str, took: Duration) -> bool {
        let took = took.as_secs_f64();
        let Some((_, usual)) = self.usual.iter_mut().find(|(known, _)| *known == kind) else {
            self.usual.push((kind, took));
            return false;
        };
        let late = took > *usual * LATE_TIMES + LATE_BY.as_secs_f64();
        let weight = if took < *usual { QUICKER } else { SLOWER };
        *usual += (took - *usual) * weight;
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn given(time: u64) -> Answer {
        Answer::Given { kind: "patch", took: ms(time) }
    }

    const fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// A pace after so many answers of one kind, each a millisecond after the one before.
    fn after(mut pace: Pace, from: u64, answers: u64, answer: Answer) -> Pace {
        (0..answers).for_each(|n| pace.answered(answer, ms(from + n)));
        pace
    }

    #[test]
    fn grows_while_answers_are_good_and_never_beyond_the_most() {
        let quick = given(5);
        for (answers, most, want) in
            [(0, 10, 4), (3, 10, 7), (100, 10, 10), (100, 1, 1), (100, 0, 1), (0, 2, 2)]
        {
            let pace = after(Pace::new(most), 0, answers, quick);
            assert_eq!(pace.limit(), want, "{answers} answers, most {most}");
        }
    }

    #[test]
    fn falls_on_failures_and_delays_but_once_for_each_wave() {
        let full = || after(Pace::new(20), 0, 100, given(5));
        let cases = [
            (Answer::Failed, 1, 10),
            (Answer::Failed, 500, 10),
            (Answer::Failed, 1500, 5),
            (Answer::Failed, 60_000, 1),
            (given(36), 1, 16),
            (given(34), 1, 20),
        ];
        for (answer, count, want) in cases {
            assert_eq!(after(full(), 1000, count, answer).limit(), want, "{count} times {answer:?}");
        }
    }

    #[test]
    fn what_is_usual_for_one_kind_is_late_for_another_only_by_its_own_measure() {
        let evictions = Answer::Given { kind: "evict", took: ms(100) };
        let mut pace = Pace::new(20);
        (0..50).for_each(|n| {
            pace.answered(given(5), ms(n * 2_000));
            pace.answered(evictions, ms(n * 2_000 + 1_000));
        });
        assert_eq!(pace.limit(), 20);
        pace.answered(Answer::Given { kind: "evict", took: ms(400) }, ms(200_000));
        assert_eq!(pace.limit(), 16);
    }

    #[test]
    fn recovers_by_one_for_each_round() {
        let low = after(after(Pace::new(20), 0, 100, given(5)), 1000, 1, Answer::Failed);
        let mut limits = vec![low.limit()];
        let mut pace = low;
        for round in 0..4 {
            pace = after(pace.clone(), 2000 + round * 100, pace.limit() as u64 + 1, given(5));
            limits.push(pace.limit());
        }
        assert_eq!(limits, [10, 11, 12, 13, 14]);
    }

    #[test]
    fn a_server_that_stays_slower_becomes_the_usual() {
        let mut pace = after(Pace::new(10), 0, 100, given(5));
        let mut lowest = pace.limit();
        for n in 0..4000 {
            pace.answered(given(100), ms(1000 + n * 50));
            lowest = lowest.min(pace.limit());
        }
        assert_eq!((lowest < 5, pace.limit()), (true, 10));
    }
}
