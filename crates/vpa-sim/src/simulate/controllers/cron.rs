//! Cron schedules with five fields, in UTC.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Minutes searched back for the last time a schedule was due: a day, so that also a daily job that missed its time is
/// found.
const LOOK_BACK_MINUTES: i64 = 24 * 60;

/// A schedule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether days of month and of week were both narrowed: then either is enough, as cron has it.
    either_day: bool,
}

impl Schedule {
    /// Reads `minute hour day month weekday`, each `*`, a number, a range, a list, with `/step`; or one of `@hourly`,
    /// `@daily`, `@midnight`. `None` if it is anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            text => text,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else { return None };
        let sunday = field(weekdays, 0, 7)?;
        Some(Self {
            minutes: field(minutes, 0, 59)?,
            hours: field(hours, 0, 23)?,
            days: field(days, 1, 31)?,
            months: field(months, 1, 12)?,
            // Sunday is 0 and 7.
            weekdays: (sunday | sunday >> 7) & 0x7f,
            either_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        })
    }

    /// The last whole minute in `(after, until]` at which the schedule was due, looking back a day at most.
    pub(super) fn last_due(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let minute = Timestamp::from_second(until.as_second().div_euclid(60) * 60).ok()?;
        (0..LOOK_BACK_MINUTES)
            .map_while(|back| minute.checked_sub(back.minutes()).ok().filter(|time| *time > after))
            .find(|time| self.holds(time.to_zoned(TimeZone::UTC).datetime()))
    }

    fn holds(&self, time: DateTime) -> bool {
        let has = |set: u64, number: i8| set >> number & 1 == 1;
        let day = has(self.days, time.day());
        let weekday = has(self.weekdays, time.weekday().to_sunday_zero_offset());
        has(self.minutes, time.minute())
            && has(self.hours, time.hour())
            && has(self.months, time.month())
            && if self.either_day { day || weekday } else { day && weekday }
    }
}

/// Numbers of a field as bits.
fn field(text: &str, low: u32, high: u32) -> Option<u64> {
    text.split(',').try_fold(0, |bits, part| {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u32>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (low, high),
            (_, Some((from, to))) => (from.parse().ok()?, to.parse().ok()?),
            (number, None) => {
                let number = number.parse().ok()?;
                (number, if part.contains('/') { high } else { number })
            }
        };
        let valid = low <= from && from <= to && to <= high;
        valid.then(|| (from..=to).step_by(step as usize).fold(bits, |bits, number| bits | 1 << number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_time_due() {
        let cases = [
            ("* * * * *", "2026-11-22T10:07:30Z", "2026-11-22T10:07:00Z"),
            ("*/5 * * * *", "2026-11-22T10:07:30Z", "2026-11-22T10:05:00Z"),
            ("30 9-17 * * 1-5", "2026-11-23T08:00:00Z", ""),
            ("30 9-17 * * 1-5", "2026-11-23T10:00:00Z", "2026-11-23T09:30:00Z"),
            ("0 0 1 * *", "2026-12-01T05:00:00Z", "2026-12-01T00:00:00Z"),
            ("0 4 1 * 7", "2026-11-22T05:00:00Z", "2026-11-22T04:00:00Z"),
            ("10/20 * * * *", "2026-11-22T10:40:00Z", "2026-11-22T10:30:00Z"),
            ("@hourly", "2026-11-22T10:59:00Z", "2026-11-22T10:00:00Z"),
        ];
        for (schedule, until, expected) in cases {
            let schedule_ = Schedule::parse(schedule).unwrap();
            let due = schedule_.last_due(Timestamp::MIN, until.parse().unwrap());
            assert_eq!(
                due.map(|due| due.to_string()).unwrap_or_default(),
                expected,
                "{schedule} until {until}"
            );
        }
        let hourly = Schedule::parse("@hourly").unwrap();
        let ten = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(hourly.last_due(ten, "2026-11-22T10:30:00Z".parse().unwrap()), None, "already made");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "@yearly", "a b c d e"]
        {
            assert_eq!(Schedule::parse(text), None, "{text}");
        }
    }
}
