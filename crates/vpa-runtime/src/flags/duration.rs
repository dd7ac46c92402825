//! Durations as Go writes and reads them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A duration flag: reads `1h2m3.5s`, `.5s`, `300ms`, `10us`, `-1m`, `0`, and prints the form that Go prints.
///
/// Whole nanoseconds in an `i64`, as in Go, so about 292 years either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

impl GoDuration {
    /// A whole number of seconds; saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SECOND))
    }

    /// A whole number of milliseconds; saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds, negative ones too.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Length as a standard duration; a negative one counts as none.
    pub const fn as_std(self) -> Duration {
        if self.0 <= 0 { Duration::ZERO } else { Duration::from_nanos(self.0.unsigned_abs()) }
    }

    /// Length with its sign.
    pub const fn as_signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_nanos(self.0)
    }

    /// Whether it is longer than nothing.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl From<GoDuration> for Duration {
    fn from(value: GoDuration) -> Self {
        value.as_std()
    }
}

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a duration: {problem}; write numbers with units, such as 300ms, 1m30s or 1h (units ns, us, ms, s, m, h)"
)]
pub struct ParseDurationError {
    found: String,
    problem: &'static str,
}

impl FromStr for GoDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self).map_err(|problem| ParseDurationError { found: text.to_owned(), problem })
    }
}

fn parse(text: &str) -> Result<i64, &'static str> {
    const TOO_LONG: &str = "it is longer than 292 years";
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err("it is empty");
    }
    // As a magnitude, since the most negative value has no positive twin.
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let whole_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(whole_len);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err("a number is missing");
        }
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let scale = unit_nanos(unit)?;
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| TOO_LONG)? };
        total = whole
            .checked_mul(scale)
            .and_then(|nanos| nanos.checked_add(fraction_nanos(fraction, scale)))
            .and_then(|nanos| nanos.checked_add(total))
            .filter(|nanos| *nanos <= u128::from(i64::MIN.unsigned_abs()))
            .ok_or(TOO_LONG)?;
        rest = after;
    }
    let magnitude = i128::try_from(total).map_err(|_| TOO_LONG)?;
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| TOO_LONG)
}

fn unit_nanos(unit: &str) -> Result<u128, &'static str> {
    Ok(match unit {
        "ns" => 1,
        // Both signs for micro that Unicode has.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err("a unit is missing"),
        _ => return Err("its unit is unknown"),
    })
}

/// Nanoseconds of `0.fraction` of a unit; digits below a nanosecond are dropped.
fn fraction_nanos(fraction: &str, scale: u128) -> u128 {
    // 18 digits are more than an hour has nanoseconds, and keep the product within 128 bits.
    let digits = &fraction[..fraction.len().min(18)];
    let mut value: u128 = 0;
    let mut divisor: u128 = 1;
    for digit in digits.bytes() {
        value = value * 10 + u128::from(digit - b'0');
        divisor *= 10;
    }
    value * scale / divisor
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < 1_000 {
            return write!(f, "{nanos}ns");
        }
        if nanos < 1_000_000 {
            return write!(f, "{}\u{b5}s", decimal(nanos, 3));
        }
        if nanos < 1_000_000_000 {
            return write!(f, "{}ms", decimal(nanos, 6));
        }
        let seconds = nanos / 1_000_000_000;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(nanos % 60_000_000_000, 9))
    }
}

/// `value` / 10^`places` without trailing zeros.
fn decimal(value: u64, places: u32) -> String {
    let scale = 10u64.pow(places);
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{fraction:0width$}", width = places as usize);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_what_go_reads_and_prints() {
        let cases = [
            ("0", "0s"),
            ("+0", "0s"),
            ("-0", "0s"),
            ("0s", "0s"),
            ("1m", "1m0s"),
            ("1m0s", "1m0s"),
            ("60s", "1m0s"),
            ("24h", "24h0m0s"),
            ("1h2m3.5s", "1h2m3.5s"),
            (".5s", "500ms"),
            ("5.s", "5s"),
            ("1.5h", "1h30m0s"),
            ("300ms", "300ms"),
            ("1.5ms", "1.5ms"),
            ("10us", "10µs"),
            ("10µs", "10µs"),
            ("10μs", "10µs"),
            ("1ns", "1ns"),
            ("0.9ns", "0s"),
            ("1s1s", "2s"),
            ("1s1ms", "1.001s"),
            ("3s2h", "2h0m3s"),
            ("-1m", "-1m0s"),
            ("+5s", "5s"),
            ("0.100000000000000000000h", "6m0s"),
            ("0.3333333333333333333h", "20m0s"),
            ("9223372036854775807ns", "2562047h47m16.854775807s"),
            ("-9223372036854775808ns", "-2562047h47m16.854775808s"),
            ("0.000000001s", "1ns"),
        ];
        for (text, printed) in cases {
            let parsed: GoDuration = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            // Go computes the fraction in float64 there and comes out a nanosecond short or not; one is allowed.
            let near: GoDuration = printed.parse().unwrap();
            assert!((parsed.as_nanos() - near.as_nanos()).abs() <= 1, "{text}: {parsed} is not {printed}");
            if !text.contains("3333") {
                assert_eq!(parsed.to_string(), printed, "{text}");
            }
            assert_eq!(
                parsed.to_string().parse::<GoDuration>().unwrap(),
                parsed,
                "{text} does not round-trip"
            );
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "3",
            "-",
            "+",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1 s",
            "1d",
            "1 h",
            "h1",
            "1e3s",
            "--1s",
            "1s-1m",
            "0x1s",
            "9223372036854775808ns",
            "3000000h",
            "99999999999999999999999999999999999999999999s",
            "1m 30s",
            "1,5s",
            "٣s",
        ] {
            assert!(text.parse::<GoDuration>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_negative_length_is_none_at_all() {
        assert_eq!(GoDuration::from_secs(-5).as_std(), Duration::ZERO);
        assert_eq!(GoDuration::from_secs(5).as_std(), Duration::from_secs(5));
        assert_eq!(GoDuration::from_millis(1500).to_string(), "1.5s");
    }
}
