//! Limits on disruptions per hour, over all VPAs and for each.
//!
//! A disruption is an eviction, or a resize that may restart a container. It counts from the moment its step is handed
//! out, and no longer where the API server did not carry it out. What came before the start of the process is not known.

use std::collections::VecDeque;
use std::fmt;

use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};

use super::reason::Reason;

/// The time over which disruptions are counted.
pub const QUOTA_WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// Whose disruptions a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaScope {
    /// Those of all VPAs.
    All,
    /// Those of one VPA.
    Vpa,
}

impl fmt::Display for QuotaScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all VPAs",
            Self::Vpa => "this VPA",
        })
    }
}

/// Disruptions within the window. It holds no more times than the limits allow disruptions.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// 0: no limit.
    most: u32,
    /// 0: no limit.
    most_per_vpa: u32,
    all: VecDeque<Timestamp>,
    by_vpa: HashMap<String, VecDeque<Timestamp>>,
}

impl Quota {
    pub(super) fn new(most: u32, most_per_vpa: u32) -> Self {
        Self { most, most_per_vpa, ..Self::default() }
    }

    /// Whether one more disruption of the VPA is within the limits.
    ///
    /// # Errors
    /// Which limit is reached, and when there is room again.
    pub(super) fn check(&mut self, vpa: &str, now: Timestamp) -> Result<(), Reason> {
        let own = self.by_vpa.get_mut(vpa);
        room(own, self.most_per_vpa, QuotaScope::Vpa, now)?;
        room(Some(&mut self.all), self.most, QuotaScope::All, now)
    }

    /// Counts a disruption.
    pub(super) fn note(&mut self, vpa: &str, now: Timestamp) {
        if self.most > 0 {
            self.all.push_back(now);
        }
        if self.most_per_vpa > 0 {
            self.by_vpa.entry(vpa.to_owned()).or_default().push_back(now);
        }
    }

    /// Takes back a disruption that was counted at `at` and did not happen.
    pub(super) fn take_back(&mut self, vpa: &str, at: Timestamp) {
        for times in [Some(&mut self.all), self.by_vpa.get_mut(vpa)].into_iter().flatten() {
            if let Some(index) = times.iter().rposition(|time| *time == at) {
                times.remove(index);
            }
        }
    }

    /// Forgets what is older than the window.
    pub(super) fn forget(&mut self, now: Timestamp) {
        drop_old(&mut self.all, now);
        self.by_vpa.retain(|_, times| {
            drop_old(times, now);
            !times.is_empty()
        });
    }
}

fn room(
    times: Option<&mut VecDeque<Timestamp>>,
    most: u32,
    scope: QuotaScope,
    now: Timestamp,
) -> Result<(), Reason> {
    let Some(times) = times.filter(|_| most > 0) else { return Ok(()) };
    drop_old(times, now);
    // The one that has to leave the window before there is room; with a lowered limit not the first.
    let Some(first) = times.len().checked_sub(most as usize).and_then(|index| times.get(index)) else {
        return Ok(());
    };
    Err(Reason::DisruptionLimit { scope, most, until: end(*first) })
}

fn end(time: Timestamp) -> Timestamp {
    time.saturating_add(QUOTA_WINDOW).unwrap_or(Timestamp::MAX)
}

fn drop_old(times: &mut VecDeque<Timestamp>, now: Timestamp) {
    while times.front().is_some_and(|time| end(*time) <= now) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
    }

    fn scope(result: Result<(), Reason>) -> Option<(QuotaScope, i64)> {
        match result {
            Ok(()) => None,
            Err(Reason::DisruptionLimit { scope, until, .. }) => {
                Some((scope, until.duration_since(at(0)).as_mins()))
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn counts_over_a_sliding_hour_for_each_vpa_and_for_all() {
        let mut quota = Quota::new(3, 2);
        for minute in [0, 10] {
            assert_eq!(scope(quota.check("a", at(minute))), None);
            quota.note("a", at(minute));
        }
        assert_eq!(scope(quota.check("a", at(20))), Some((QuotaScope::Vpa, 60)));
        assert_eq!(scope(quota.check("b", at(20))), None);
        quota.note("b", at(20));
        assert_eq!(scope(quota.check("b", at(30))), Some((QuotaScope::All, 60)));
        assert_eq!(scope(quota.check("b", at(59))), Some((QuotaScope::All, 60)));
        assert_eq!(scope(quota.check("b", at(60))), None);
        assert_eq!(scope(quota.check("a", at(60))), None);
        quota.note("a", at(60));
        assert_eq!(scope(quota.check("a", at(60))), Some((QuotaScope::Vpa, 70)));
    }

    #[test]
    fn what_did_not_happen_does_not_count() {
        let mut quota = Quota::new(1, 1);
        quota.note("a", at(0));
        quota.take_back("a", at(0));
        assert_eq!(scope(quota.check("a", at(0))), None);
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let mut quota = Quota::new(0, 0);
        (0..1000).for_each(|_| quota.note("a", at(0)));
        assert_eq!(scope(quota.check("a", at(0))), None);
        assert!(quota.all.is_empty() && quota.by_vpa.is_empty());
        let mut limited = Quota::new(5, 5);
        limited.note("a", at(0));
        limited.forget(at(60));
        assert!(limited.all.is_empty() && limited.by_vpa.is_empty());
    }
}
