//! From number to text.

use std::fmt;

use super::decimal::Decimal;
use super::{Format, Quantity, Repr, Small};

/// Suffixes of powers of ten, ascending.
pub(super) const DECIMAL_SUFFIXES: [(&str, i16); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// Suffixes of powers of 1024, from 1024^0.
pub(super) const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Remembered(both) => f.pad(&both.1),
            _ => f.pad(&canonical(self)),
        }
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quantity({self})")
    }
}

pub(super) fn canonical(quantity: &Quantity) -> String {
    if quantity.is_zero() {
        return "0".to_owned();
    }
    if quantity.format() == Format::BinarySi
        && let Some(text) = binary(quantity)
    {
        return text;
    }
    let (digits, power) = match &quantity.0 {
        Repr::Big(big) => (big.0.digits(), big.0.power()),
        Repr::Small(small) => (small.value.to_string(), small.power.into()),
        Repr::Remembered(both) => (both.0.value.to_string(), both.0.power.into()),
    };
    decimal(digits, power, quantity.format() == Format::DecimalExponent)
}

/// `digits` × 10^`power` with the largest suffix whose power is a multiple of three and leaves no fraction.
fn decimal(mut digits: String, power: i32, exponent_form: bool) -> String {
    let significant = digits.trim_end_matches('0').len();
    let mut power = power + (digits.len() - significant) as i32;
    digits.truncate(significant);
    // Beyond the largest suffix the zeros are written out; without them the text would name another number.
    let highest = if exponent_form { i32::MAX } else { 18 };
    while power % 3 != 0 || power > highest {
        digits.push('0');
        power -= 1;
    }
    if exponent_form {
        if power != 0 {
            digits.push_str(&format!("e{power}"));
        }
        return digits;
    }
    let suffix = DECIMAL_SUFFIXES.iter().find(|(_, suffix_power)| i32::from(*suffix_power) == power);
    digits.push_str(suffix.map_or("", |(suffix, _)| suffix));
    digits
}

/// None where a fraction, or an amount below 1024, is better shown in decimal.
fn binary(quantity: &Quantity) -> Option<String> {
    if let Some(Small { value, power: 0, .. }) = quantity.small() {
        if value.unsigned_abs() < 1024 {
            return None;
        }
        let factors = (value.trailing_zeros() / 10).min(6);
        return Some(format!("{}{}", value >> (10 * factors), BINARY_SUFFIXES[factors as usize]));
    }
    let number: Decimal = quantity.to_decimal();
    let integer = number.to_integer()?;
    if integer.magnitude() < &1024_u32.into() {
        return None;
    }
    let factors = (integer.trailing_zeros().unwrap_or(0) / 10).min(6);
    Some(format!("{}{}", integer >> (10 * factors), BINARY_SUFFIXES[factors as usize]))
}
