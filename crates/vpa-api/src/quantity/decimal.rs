//! Decimals of any length.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};

use super::convert::{pow10_f64, scale_f64};

/// `unscaled` × 10^`power`. The power is kept as operations leave it, since integer conversions that overflow
/// depend on it.
#[derive(Clone)]
pub(super) struct Decimal {
    unscaled: BigInt,
    power: i32,
}

/// Digits of an `i64` that any number of ten to their count fits.
const LOG10_I64: i32 = 19;

impl Decimal {
    pub(super) fn new(unscaled: i64, power: i32) -> Self {
        Self { unscaled: unscaled.into(), power }
    }

    /// None when a character is not a digit.
    pub(super) fn from_digits(digits: &str, power: i32) -> Option<Self> {
        BigInt::parse_bytes(digits.as_bytes(), 10).map(|unscaled| Self { unscaled, power })
    }

    pub(super) fn signum(&self) -> i32 {
        match self.unscaled.sign() {
            Sign::Minus => -1,
            Sign::NoSign => 0,
            Sign::Plus => 1,
        }
    }

    pub(super) fn power(&self) -> i32 {
        self.power
    }

    /// Decimal digits of the unscaled number, with its sign.
    pub(super) fn digits(&self) -> String {
        self.unscaled.to_string()
    }

    pub(super) fn shift(&mut self, power: i32) {
        self.power += power;
    }

    pub(super) fn shift_binary(&mut self, bits: u8) {
        self.unscaled <<= bits;
    }

    pub(super) fn negate(&mut self) {
        self.unscaled = -std::mem::take(&mut self.unscaled);
    }

    /// The largest `i64` where the number is larger.
    pub(super) fn cap_at_i64(&mut self) {
        let max = Self::new(i64::MAX, 0);
        if self.compare(&max).is_gt() {
            *self = max;
        }
    }

    /// Whether 0 < number < 1.
    pub(super) fn is_positive_fraction(&self) -> bool {
        self.signum() > 0 && self.compare(&Self::new(1, 0)).is_lt()
    }

    /// With that very power, rounded away from zero; true when nothing was lost.
    pub(super) fn rounded_up(&self, power: i32) -> (Self, bool) {
        if self.power >= power {
            let unscaled = &self.unscaled * pow10(self.power - power);
            return (Self { unscaled, power }, true);
        }
        let divisor = pow10(power - self.power);
        let mut quotient = &self.unscaled / &divisor;
        let exact = &quotient * &divisor == self.unscaled;
        if !exact {
            quotient += self.signum();
        }
        (Self { unscaled: quotient, power }, exact)
    }

    pub(super) fn add(&self, other: &Self, negate: bool) -> Self {
        let power = self.power.min(other.power);
        let (left, right) = (self.aligned(power), other.aligned(power));
        Self { unscaled: if negate { left - right } else { left + right }, power }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let signs = self.signum().cmp(&other.signum());
        if signs.is_ne() || self.signum() == 0 {
            return signs;
        }
        let power = self.power.min(other.power);
        self.aligned(power).cmp(&other.aligned(power))
    }

    fn aligned(&self, power: i32) -> BigInt {
        if self.power == power { self.unscaled.clone() } else { &self.unscaled * pow10(self.power - power) }
    }

    /// The number / 10^`power` with Kubernetes' rounding and overflow: the low 64 bits, of intermediate results too.
    pub(super) fn scaled_wrapping(&self, power: i32) -> i64 {
        let down = power - self.power;
        if down <= 0 {
            return self.low_bits().wrapping_mul(f64_to_i64(pow10_f64(-down)));
        }
        if down < LOG10_I64 && self.unscaled < BigInt::from(i64::MAX) {
            // Negative numbers beyond 64 bits pass the comparison and lose their high bits here.
            let divisor = 10_i64.pow(down.unsigned_abs());
            let (quotient, rest) = (self.low_bits() / divisor, self.low_bits() % divisor);
            return quotient.wrapping_add(i64::from(rest != 0));
        }
        let divisor = pow10(down);
        let mut quotient = &self.unscaled / &divisor;
        let rest = &self.unscaled - &quotient * &divisor;
        if rest.sign() == Sign::Minus {
            quotient -= 1;
        }
        low_bits(&quotient).wrapping_add(i64::from(rest.sign() != Sign::NoSign))
    }

    /// The number / 10^`power`, rounded away from zero, within the range of `i64`.
    pub(super) fn scaled_saturating(&self, power: i32) -> i64 {
        let rounded = self.rounded_up(power).0;
        i64::try_from(&rounded.unscaled).unwrap_or(if rounded.signum() < 0 { i64::MIN } else { i64::MAX })
    }

    /// The number as an integer, where it is one.
    pub(super) fn to_integer(&self) -> Option<BigInt> {
        let (rounded, exact) = self.rounded_up(0);
        exact.then_some(rounded.unscaled)
    }

    pub(super) fn as_f64(&self) -> f64 {
        // Decimal text to float is rounded correctly; a longer number is infinite.
        let digits = self.unscaled.to_string();
        let base: f64 = digits.parse().unwrap_or(f64::NAN);
        if base.is_infinite() && self.power < 0 {
            // Most of these digits are behind the point, and the number may be small.
            return format!("{digits}e{}", self.power).parse().unwrap_or(base);
        }
        scale_f64(base, self.power)
    }

    fn low_bits(&self) -> i64 {
        low_bits(&self.unscaled)
    }
}

fn low_bits(number: &BigInt) -> i64 {
    let low = number.iter_u64_digits().next().unwrap_or(0) as i64;
    if number.sign() == Sign::Minus { low.wrapping_neg() } else { low }
}

/// A power of ten beyond `i64` is taken as the smallest `i64`, as the conversion instruction of x86-64 does, on which
/// the reference ran.
fn f64_to_i64(number: f64) -> i64 {
    if number >= 9_223_372_036_854_775_808.0 { i64::MIN } else { number as i64 }
}

fn pow10(exponent: i32) -> BigInt {
    BigInt::from(10).pow(exponent.unsigned_abs())
}
