//! From text to number.

use super::arith::NANO;
use super::decimal::Decimal;
use super::{Format, MAX_EXPONENT, MAX_TEXT_BYTES, Quantity, QuantityError, Repr, Small, print};

/// Digits that are sure to fit an `i64`.
const SMALL_DIGITS: i32 = 18;

/// A text taken apart.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point without leading zeros, `0` when there are none.
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    /// Whether there is any digit at all.
    has_digits: bool,
    suffix: &'a str,
}

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(QuantityError::Length);
    }
    let parts = split(text)?;
    let suffix = Suffix::parse(parts.suffix)?;
    match small(&parts, suffix) {
        Some((small, remembered)) => Ok(remember(small, text, remembered)),
        None => big(&parts, suffix),
    }
}

/// Keeps the text only where printing the number would not give it back.
fn remember(small: Small, text: &str, remembered: bool) -> Quantity {
    let quantity = Quantity(Repr::Small(small));
    if remembered && print::canonical(&quantity) != text {
        return Quantity(Repr::Remembered(Box::new((small, text.into()))));
    }
    quantity
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = take_while(unsigned, |c| c.is_ascii_digit());
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => take_while(rest, |c| c.is_ascii_digit()),
        None => ("", rest),
    };
    let (letters, exponent) = take_while(rest, |c| b"eEinumkKMGTP".contains(&c));
    let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(QuantityError::Format);
    }
    debug_assert_eq!(letters.len() + exponent.len(), rest.len());
    let has_digits = !(whole.is_empty() && fraction.is_empty());
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    Ok(Parts { negative, whole, fraction, has_digits, suffix: rest })
}

fn take_while(text: &str, wanted: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|c| !wanted(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// What a suffix multiplies with.
#[derive(Clone, Copy)]
enum Suffix {
    Ten(i16, Format),
    Two(u8),
}

impl Suffix {
    fn parse(text: &str) -> Result<Self, QuantityError> {
        if let Some(&(_, power)) = print::DECIMAL_SUFFIXES.iter().find(|(suffix, _)| *suffix == text) {
            return Ok(Self::Ten(power, Format::DecimalSi));
        }
        if let Some(index) =
            print::BINARY_SUFFIXES.iter().position(|suffix| *suffix == text && index_is_suffix(suffix))
        {
            return Ok(Self::Two(index as u8 * 10));
        }
        let exponent = text.strip_prefix(['e', 'E']).filter(|exponent| !exponent.is_empty());
        let exponent: i64 = exponent.and_then(|e| e.parse().ok()).ok_or(QuantityError::Suffix)?;
        match i16::try_from(exponent) {
            Ok(power) if (-MAX_EXPONENT..=MAX_EXPONENT).contains(&power) => {
                Ok(Self::Ten(power, Format::DecimalExponent))
            }
            _ => Err(QuantityError::Exponent),
        }
    }

    fn format(self) -> Format {
        match self {
            Self::Ten(_, format) => format,
            Self::Two(_) => Format::BinarySi,
        }
    }
}

/// The empty suffix stands for 10^0, not 2^0.
fn index_is_suffix(suffix: &str) -> bool {
    !suffix.is_empty()
}

/// The number in small form, and whether Kubernetes takes the text for canonical; none where it needs more room.
fn small(parts: &Parts<'_>, suffix: Suffix) -> Option<(Small, bool)> {
    let (factor, power, spare_digits) = match suffix {
        Suffix::Ten(power, _) => (1, power, SMALL_DIGITS - (parts.whole.len() + parts.fraction.len()) as i32),
        // 2^10 has about three decimal digits; a fraction of a power of two goes the long way.
        Suffix::Two(exponent) if parts.fraction.is_empty() => {
            (1_i64 << exponent, 0, 14 - parts.whole.len() as i32 - i32::from(exponent) * 3 / 10)
        }
        Suffix::Two(_) => return None,
    };
    if spare_digits < 0 {
        return None;
    }
    let power = power - parts.fraction.len() as i16;
    if power < NANO {
        return None;
    }
    let digits = || parts.whole.bytes().chain(parts.fraction.bytes());
    let number = digits().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let value = number.checked_mul(factor)?;
    let value = if parts.negative { -value } else { value };
    let remembered = match suffix {
        Suffix::Two(_) => number & 7 != 0,
        Suffix::Ten(..) => {
            let thousands = digits().rev().take(3).filter(|digit| *digit == b'0').count() == 3;
            power % 3 == 0 && !thousands && digits().next() != Some(b'0')
        }
    };
    Some((Small { value, power, format: suffix.format() }, remembered))
}

/// The number in the form without limits, at least a billionth where it is not zero. Binary suffixes, and only
/// they, are capped at the largest `i64`.
fn big(parts: &Parts<'_>, suffix: Suffix) -> Result<Quantity, QuantityError> {
    if !parts.has_digits {
        return Err(QuantityError::Numeric);
    }
    let mut digits = String::with_capacity(parts.whole.len() + parts.fraction.len());
    digits.push_str(parts.whole);
    digits.push_str(parts.fraction);
    let mut number =
        Decimal::from_digits(&digits, -(parts.fraction.len() as i32)).ok_or(QuantityError::Numeric)?;
    match suffix {
        Suffix::Ten(power, _) => number.shift(power.into()),
        Suffix::Two(exponent) => number.shift_binary(exponent),
    }
    if number.signum() != 0 {
        number = number.rounded_up(NANO.into()).0;
    }
    let mut format = suffix.format();
    if format == Format::BinarySi {
        number.cap_at_i64();
        if number.is_positive_fraction() {
            format = Format::DecimalSi;
        }
    }
    if parts.negative {
        number.negate();
    }
    Ok(Quantity(Repr::Big(Box::new((number, format)))))
}
