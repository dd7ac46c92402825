//! The words in which a pod says what it will use.
//!
//! `<shape> key=value …`, for instance `wave cpu=50m..400m memory=200Mi..300Mi period=60s`. Ranges are `low..high`, or
//! one amount for both. Times are Go durations in seconds of simulated time (`90s`, `1h30m`).
//!
//! | shape | meaning | its own keys |
//! |---|---|---|
//! | `steady` | low end of each range, always | |
//! | `wave` | from low to high and back, once a period | `period` (24h), `phase` (share of a period, 0) |
//! | `burst` | high for a while at the start of each period, else low | `period` (10m), `busy` (1m), `phase` |
//! | `leak` | memory grows evenly from low to high after each start | `over` (10m) |
//! | `climb` | the same, fast: a program that needs its memory at once | `over` (5s) |
//! | `slow-start` | CPU at `start-cpu` for a while after each start | `start-cpu`, `for` (30s) |
//!
//! `jitter` (share, 0.03) varies every amount around its value, from second to second.

use vpa_api::Quantity;

/// What a container uses over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Course over time.
    pub shape: Shape,
    /// CPU in thousandths of a core, low and high.
    pub cpu_millis: (f64, f64),
    /// Memory in bytes, low and high.
    pub memory_bytes: (f64, f64),
    /// Largest share by which an amount differs from its value.
    pub jitter: f64,
}

/// Course over time; durations are seconds of simulated time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Low end of each range, always.
    Steady,
    /// From low to high and back.
    Wave {
        /// One round.
        period_seconds: f64,
        /// Where in the round time zero is, as a share of it.
        phase: f64,
    },
    /// High for a while at the start of each period, else low.
    Burst {
        /// From one start to the next.
        period_seconds: f64,
        /// How long it is high.
        busy_seconds: f64,
        /// Where in the period time zero is, as a share of it.
        phase: f64,
    },
    /// Memory grows evenly from low to high after each start of the container, then stays.
    Ramp {
        /// How long it grows.
        over_seconds: f64,
    },
    /// CPU is higher for a while after each start of the container.
    SlowStart {
        /// CPU at that time, in thousandths of a core.
        start_cpu_millis: f64,
        /// How long it is higher.
        for_seconds: f64,
    },
}

/// Why a profile cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The first word is no shape.
    #[error("unknown shape {0:?}: one of steady, wave, burst, leak, climb, slow-start")]
    Shape(String),
    /// A word that is not `key=value`, or whose key the shape does not have.
    #[error("{0:?} is not a key=value of this shape")]
    Word(String),
    /// A value that cannot be read.
    #[error("{key}={value:?}: not {expected}")]
    Value {
        /// Key it was given for.
        key: String,
        /// What was found.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`ProfileError`] with the word that cannot be read.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let shape = match name {
            "steady" => Shape::Steady,
            "wave" => Shape::Wave { period_seconds: 86_400.0, phase: 0.0 },
            "burst" => Shape::Burst { period_seconds: 600.0, busy_seconds: 60.0, phase: 0.0 },
            "leak" => Shape::Ramp { over_seconds: 600.0 },
            "climb" => Shape::Ramp { over_seconds: 5.0 },
            "slow-start" => Shape::SlowStart { start_cpu_millis: 1000.0, for_seconds: 30.0 },
            _ => return Err(ProfileError::Shape(name.to_owned())),
        };
        let mut profile = Self { shape, cpu_millis: (0.0, 0.0), memory_bytes: (0.0, 0.0), jitter: 0.03 };
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| ProfileError::Word(word.to_owned()))?;
            profile.set(word, key, value)?;
        }
        Ok(profile)
    }

    /// A constant use, without jitter.
    pub fn constant(cpu_millis: i64, memory_bytes: i64) -> Self {
        let both = |amount: i64| (amount as f64, amount as f64);
        Self {
            shape: Shape::Steady,
            cpu_millis: both(cpu_millis),
            memory_bytes: both(memory_bytes),
            jitter: 0.0,
        }
    }

    fn set(&mut self, word: &str, key: &str, value: &str) -> Result<(), ProfileError> {
        let duration = || seconds(key, value);
        let share = || number(key, value);
        match (key, &mut self.shape) {
            ("cpu", _) => self.cpu_millis = range(key, value, |quantity| quantity.milli_value_saturating())?,
            ("memory", _) => self.memory_bytes = range(key, value, |quantity| quantity.value_saturating())?,
            ("jitter", _) => self.jitter = share()?,
            ("period", Shape::Wave { period_seconds, .. } | Shape::Burst { period_seconds, .. }) => {
                *period_seconds = duration()?;
            }
            ("phase", Shape::Wave { phase, .. } | Shape::Burst { phase, .. }) => *phase = share()?,
            ("busy", Shape::Burst { busy_seconds, .. }) => *busy_seconds = duration()?,
            ("over", Shape::Ramp { over_seconds }) => *over_seconds = duration()?,
            ("start-cpu", Shape::SlowStart { start_cpu_millis, .. }) => {
                *start_cpu_millis = range(key, value, |quantity| quantity.milli_value_saturating())?.0;
            }
            ("for", Shape::SlowStart { for_seconds, .. }) => *for_seconds = duration()?,
            _ => return Err(ProfileError::Word(word.to_owned())),
        }
        Ok(())
    }
}

/// Reads CPU in thousandths of a core or memory in bytes, by `amount`.
fn range(key: &str, value: &str, amount: fn(&Quantity) -> i64) -> Result<(f64, f64), ProfileError> {
    let one = |text: &str| {
        Quantity::parse(text).map(|quantity| amount(&quantity).max(0) as f64).map_err(|_| {
            ProfileError::Value {
                key: key.to_owned(),
                value: value.to_owned(),
                expected: "a quantity or a range low..high of quantities",
            }
        })
    };
    match value.split_once("..") {
        Some((low, high)) => Ok((one(low)?, one(high)?)),
        None => one(value).map(|amount| (amount, amount)),
    }
}

fn number(key: &str, value: &str) -> Result<f64, ProfileError> {
    value.parse().ok().filter(|share: &f64| (0.0..=1.0).contains(share)).ok_or_else(|| ProfileError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        expected: "a share between 0 and 1",
    })
}

/// Reads a duration such as `90s`, `1h30m` or `500ms` into seconds; it is more than zero.
pub(crate) fn seconds(key: &str, value: &str) -> Result<f64, ProfileError> {
    let error = || ProfileError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        expected: "a duration above zero such as 90s or 1h30m",
    };
    let mut total = 0.0;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (amount, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(error()),
        };
        total += amount.parse::<f64>().map_err(|_| error())? * scale;
        rest = tail;
    }
    if total > 0.0 { Ok(total) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read() {
        let wave =
            Profile::parse("wave cpu=50m..0.4 memory=200Mi..300Mi period=1m30s phase=0.5 jitter=0").unwrap();
        assert_eq!(wave.shape, Shape::Wave { period_seconds: 90.0, phase: 0.5 });
        assert_eq!((wave.cpu_millis, wave.jitter), ((50.0, 400.0), 0.0));
        assert_eq!(wave.memory_bytes, (209_715_200.0, 314_572_800.0));
        let start = Profile::parse("slow-start cpu=100m start-cpu=2 for=20s memory=1G").unwrap();
        assert_eq!(start.shape, Shape::SlowStart { start_cpu_millis: 2000.0, for_seconds: 20.0 });
        assert_eq!(
            Profile::parse("leak memory=1Mi..2Mi over=500ms").unwrap().shape,
            Shape::Ramp { over_seconds: 0.5 }
        );
    }

    #[test]
    fn a_bad_word_is_named() {
        let cases = [
            ("", "unknown shape \"\""),
            ("wobble cpu=1", "unknown shape \"wobble\""),
            ("steady cpu", "\"cpu\" is not a key=value"),
            ("steady period=1m", "\"period=1m\" is not a key=value of this shape"),
            ("wave cpu=x..y", "cpu=\"x..y\": not a quantity"),
            ("wave period=5", "period=\"5\": not a duration"),
            ("wave period=0s", "period=\"0s\": not a duration"),
            ("steady jitter=7", "jitter=\"7\": not a share"),
        ];
        for (text, expected) in cases {
            let error = Profile::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
