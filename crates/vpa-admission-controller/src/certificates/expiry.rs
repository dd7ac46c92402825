//! Warnings before a certificate ends.

use jiff::{SignedDuration, Timestamp};

/// So long before the end a warning is due: a working week for somebody to see to it.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Time between two warnings.
const REPEAT: SignedDuration = SignedDuration::from_hours(24);

/// What to say about the certificate that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// It ends in so long.
    EndsIn(SignedDuration),
    /// It has ended.
    Expired,
}

/// Remembers what was said and when.
#[derive(Debug, Default)]
pub struct Alarm {
    said: Option<(Timestamp, Timestamp, bool)>,
}

impl Alarm {
    /// What to say now about a certificate that ends at `end`: from a week before the end on once a day, and at once when
    /// it has ended.
    pub fn look(&mut self, end: Timestamp, now: Timestamp) -> Option<Warning> {
        let left = end.duration_since(now);
        if left > WARN_BEFORE {
            self.said = None;
            return None;
        }
        let expired = left.is_negative();
        let fresh = self
            .said
            .is_some_and(|(of, at, was)| of == end && was == expired && now.duration_since(at) < REPEAT);
        if fresh {
            return None;
        }
        self.said = Some((end, now, expired));
        Some(if expired { Warning::Expired } else { Warning::EndsIn(left) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_before_the_end_it_is_said_once_a_day() {
        let hours = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let end = hours(1000);
        let mut alarm = Alarm::default();
        let said: Vec<(i64, Warning)> =
            (0..1060).filter_map(|hour| Some((hour, alarm.look(end, hours(hour))?))).collect();
        let ends = |hour: i64| (hour, Warning::EndsIn(SignedDuration::from_hours(1000 - hour)));
        let mut wanted: Vec<_> = (0..7).map(|day| ends(832 + 24 * day)).collect();
        wanted.extend([
            ends(1000),
            (1001, Warning::Expired),
            (1025, Warning::Expired),
            (1049, Warning::Expired),
        ]);
        assert_eq!(said, wanted);
        assert_eq!(alarm.look(hours(5000), hours(1060)), None);
        assert_eq!(
            alarm.look(hours(1070), hours(1060)),
            Some(Warning::EndsIn(SignedDuration::from_hours(10)))
        );
    }
}
