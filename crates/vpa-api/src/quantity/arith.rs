//! Sums, order and rounding.

use std::cmp::Ordering;

use super::decimal::Decimal;
use super::{Quantity, Repr, Small};

/// Power of the smallest unit, a billionth.
pub(super) const NANO: i16 = -9;

impl Small {
    /// With that power or a higher one, rounded away from zero; true when nothing was lost.
    pub(super) fn rounded_up(self, power: i16) -> (Self, bool) {
        if self.power >= power {
            return (self, true);
        }
        let (value, exact) = divide_up(self.value, i32::from(power) - i32::from(self.power));
        (Self { value, power, ..self }, exact)
    }

    /// The number / 10^`power`, rounded away from zero; none beyond `i64`.
    pub(super) fn scaled(self, power: i16) -> Option<i64> {
        let up = i32::from(self.power) - i32::from(power);
        if up < 0 { Some(divide_up(self.value, -up).0) } else { multiply(self.value, up) }
    }

    /// Like [`Self::scaled`], with what Kubernetes gives beyond `i64`: the low 64 bits where it multiplies in one step
    /// (by the powers that suffixes stand for), else 0.
    pub(super) fn scaled_wrapping(self, power: i16) -> i64 {
        let up = i32::from(self.power) - i32::from(power);
        self.scaled(power).unwrap_or(match up {
            1 | 2 | 3 | 6 | 9 if self.value != i64::MIN => {
                self.value.wrapping_mul(10_i64.pow(up.unsigned_abs()))
            }
            _ => 0,
        })
    }

    pub(super) fn to_decimal(self) -> Decimal {
        Decimal::new(self.value, self.power.into())
    }

    fn plus(self, value: i64, power: i16) -> Option<(i64, i16)> {
        match (self.value, value) {
            (_, 0) => Some((self.value, self.power)),
            (0, _) => Some((value, power)),
            _ => {
                let common = self.power.min(power);
                let left = multiply(self.value, i32::from(self.power) - i32::from(common))?;
                let right = multiply(value, i32::from(power) - i32::from(common))?;
                Some((left.checked_add(right)?, common))
            }
        }
    }

    fn compare(self, other: Self) -> Ordering {
        let common = self.power.min(other.power);
        let widen = |small: Self| {
            let up = u32::from(small.power.abs_diff(common));
            // 10^18 × 2^63 fits 127 bits.
            (up <= 18).then(|| i128::from(small.value) * 10_i128.pow(up))
        };
        match (widen(self), widen(other)) {
            (Some(left), Some(right)) => left.cmp(&right),
            _ => self.to_decimal().compare(&other.to_decimal()),
        }
    }
}

/// `value` × 10^`up`; none beyond `i64`.
fn multiply(value: i64, up: i32) -> Option<i64> {
    if value == 0 {
        return Some(0);
    }
    value.checked_mul(10_i64.checked_pow(u32::try_from(up).ok()?)?)
}

/// `value` / 10^`down`, rounded away from zero; true when nothing was lost.
fn divide_up(value: i64, down: i32) -> (i64, bool) {
    match 10_i64.checked_pow(down.unsigned_abs()) {
        Some(divisor) if value % divisor == 0 => (value / divisor, true),
        Some(divisor) => (value / divisor + value.signum(), false),
        None => (value.signum(), value == 0),
    }
}

impl Quantity {
    pub(super) fn to_decimal(&self) -> Decimal {
        match &self.0 {
            Repr::Small(small) => small.to_decimal(),
            Repr::Remembered(both) => both.0.to_decimal(),
            Repr::Big(big) => big.0.clone(),
        }
    }
}

pub(super) fn add(left: &mut Quantity, right: &Quantity, negate: bool) {
    let format = if left.is_zero() { right.format() } else { left.format() };
    if let (Some(a), Some(b)) = (left.small(), right.small()) {
        let value = if negate { b.value.checked_neg() } else { Some(b.value) };
        if let Some((value, power)) = value.and_then(|value| a.plus(value, b.power)) {
            left.0 = Repr::Small(Small { value, power, format });
            return;
        }
    }
    // A number once big stays so: its overflow differs from that of the small form.
    let sum = left.to_decimal().add(&right.to_decimal(), negate);
    left.0 = Repr::Big(Box::new((sum, format)));
}

pub(super) fn round_up(quantity: &mut Quantity, power: i16) -> bool {
    let (rounded, exact) = match &quantity.0 {
        Repr::Small(small) => {
            let (small, exact) = small.rounded_up(power);
            (Repr::Small(small), exact)
        }
        // Nothing to round leaves the text as it is.
        Repr::Remembered(both) if both.0.power >= power => return true,
        Repr::Remembered(both) => {
            let (small, exact) = both.0.rounded_up(power);
            (Repr::Small(small), exact)
        }
        Repr::Big(big) => {
            let (number, exact) = big.0.rounded_up(power.into());
            (Repr::Big(Box::new((number, big.1))), exact)
        }
    };
    quantity.0 = rounded;
    exact
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.small(), other.small()) {
            (Some(left), Some(right)) => left.compare(right),
            _ => self.to_decimal().compare(&other.to_decimal()),
        }
    }
}
