//! Resource quantities with Kubernetes' exact arithmetic and canonical form.
//!
//! A [`Quantity`] is a decimal number, a [`Format`] to print it in and, where its owner wrote it in a form that
//! Kubernetes takes for canonical though it is not (`1.500`, `01`), the text itself, which then prints unchanged.
//! Almost all quantities fit a 64-bit integer times a power of ten: those take 16 bytes and no heap. The rest are
//! boxed: numbers of more than 18 digits, fractions with a binary suffix, remembered texts.
//!
//! Kubernetes keeps the same two representations, and what its integer conversions do on overflow depends on
//! them. [`Quantity::value`] and [`Quantity::milli_value`] reproduce that; decisions that must not be surprised by
//! a wrapped or zeroed number take [`Quantity::value_saturating`] and [`Quantity::milli_value_saturating`].

mod arith;
mod convert;
mod decimal;
mod parse;
mod print;
#[cfg(test)]
mod tests;

use decimal::Decimal;

/// Largest exponent of ten that a text may name, either way. Kubernetes has no bound and takes minutes for nine
/// digits; ten thousand is far beyond every amount that exists and still parses in well under a millisecond.
pub const MAX_EXPONENT: i16 = 10_000;

/// Longest text, in bytes, that is looked at; the time to read digits grows with the square of their number.
pub const MAX_TEXT_BYTES: usize = 10_000;

/// How a quantity prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Powers of ten: `n`, `u`, `m`, `k`, `M`, `G`, `T`, `P`, `E`.
    DecimalSi,
    /// Powers of 1024: `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    BinarySi,
    /// `e` with an exponent of ten.
    DecimalExponent,
}

/// A resource quantity. Equality and order are those of the number, whatever the text.
#[derive(Clone)]
pub struct Quantity(Repr);

/// The common case inline, the others behind a pointer.
#[derive(Clone)]
enum Repr {
    /// A number that Kubernetes would hold in an int64 and a scale.
    Small(Small),
    /// The same with the text it was given as, because it prints that way.
    Remembered(Box<(Small, Box<str>)>),
    /// A number of any length.
    Big(Box<(Decimal, Format)>),
}

/// `value` × 10^`power`.
#[derive(Clone, Copy)]
struct Small {
    value: i64,
    power: i16,
    format: Format,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Wrong shape.
    #[error("must be a number with an optional suffix, such as 250m, 1.5, 128Mi or 2e3")]
    Format,
    /// No digits where digits are needed.
    #[error("has no digits")]
    Numeric,
    /// Unknown suffix.
    #[error("has an unknown suffix; known are n u m k M G T P E, Ki Mi Gi Ti Pi Ei, and e with an exponent")]
    Suffix,
    /// Exponent beyond [`MAX_EXPONENT`].
    #[error("has an exponent beyond {MAX_EXPONENT}")]
    Exponent,
    /// Text longer than [`MAX_TEXT_BYTES`].
    #[error("is longer than {MAX_TEXT_BYTES} bytes")]
    Length,
}

impl Quantity {
    /// Reads a quantity as Kubernetes does; missing digits count as zero (`m` is `0`), blanks are not accepted.
    ///
    /// # Errors
    /// Says what is wrong with the text, without repeating it.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }

    /// `units` whole units (cores, bytes).
    pub const fn from_units(units: i64, format: Format) -> Self {
        Self(Repr::Small(Small { value: units, power: 0, format }))
    }

    /// `milli` thousandths.
    pub const fn from_milli(milli: i64, format: Format) -> Self {
        Self(Repr::Small(Small { value: milli, power: -3, format }))
    }

    /// `n` × 10^`power_of_ten`, decimal. Below 10^-9, the smallest unit there is, the number is rounded up (away
    /// from zero); a power above [`MAX_EXPONENT`] is taken as that.
    pub fn from_scaled(n: i64, power_of_ten: i32) -> Self {
        let power = clamp_power(power_of_ten);
        let small = Small { value: n, power, format: Format::DecimalSi };
        Self(Repr::Small(if power < arith::NANO { small.rounded_up(arith::NANO).0 } else { small }))
    }

    /// Zero that prints additions to it in `format`.
    pub const fn zero(format: Format) -> Self {
        Self::from_units(0, format)
    }

    /// The number in whole units, rounded up, with Kubernetes' overflow, which does not saturate: mostly the low 64
    /// bits, 0 for some numbers that are short as a text (`1e19`).
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The number in thousandths, rounded up, with the overflow of [`Self::value`].
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The number in whole units, rounded away from zero, at most the largest `i64`.
    pub fn value_saturating(&self) -> i64 {
        self.scaled_saturating(0)
    }

    /// The number in thousandths, rounded away from zero, at most the largest `i64`.
    pub fn milli_value_saturating(&self) -> i64 {
        self.scaled_saturating(-3)
    }

    /// The number as a float, infinite beyond its range. Off by a last bit at times, as in Kubernetes.
    pub fn as_f64(&self) -> f64 {
        match &self.0 {
            Repr::Big(big) => big.0.as_f64(),
            _ => self.small().map_or(0.0, |small| convert::scale_f64(small.value as f64, small.power.into())),
        }
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        match &self.0 {
            Repr::Small(small) => small.value.signum() as i32,
            Repr::Remembered(both) => both.0.value.signum() as i32,
            Repr::Big(big) => big.0.signum(),
        }
    }

    /// Whether the number is zero.
    pub fn is_zero(&self) -> bool {
        self.signum() == 0
    }

    /// How the number prints.
    pub fn format(&self) -> Format {
        match &self.0 {
            Repr::Small(small) => small.format,
            Repr::Remembered(both) => both.0.format,
            Repr::Big(big) => big.1,
        }
    }

    /// Adds `other`. The format stays, but a zero takes over that of `other`.
    pub fn add(&mut self, other: &Quantity) {
        arith::add(self, other, false);
    }

    /// Subtracts `other`. The format stays, but a zero takes over that of `other`.
    pub fn sub(&mut self, other: &Quantity) {
        arith::add(self, other, true);
    }

    /// Rounds away from zero to a multiple of 10^`power_of_ten`; true when nothing was lost.
    pub fn round_up(&mut self, power_of_ten: i32) -> bool {
        arith::round_up(self, clamp_power(power_of_ten))
    }

    /// The number divided by 10^`power_of_ten`, rounded up, with the overflow of [`Self::value`].
    pub fn scaled_value(&self, power_of_ten: i32) -> i64 {
        let power = clamp_power(power_of_ten);
        match &self.0 {
            Repr::Big(big) => big.0.scaled_wrapping(power.into()),
            _ => self.small().map_or(0, |small| small.scaled_wrapping(power)),
        }
    }

    /// The form of the number alone, whatever text it was given as.
    pub fn canonical(&self) -> String {
        print::canonical(self)
    }

    fn scaled_saturating(&self, power: i16) -> i64 {
        match &self.0 {
            Repr::Big(big) => big.0.scaled_saturating(power.into()),
            _ => self.small().map_or(0, |small| {
                small.scaled(power).unwrap_or(if small.value < 0 { i64::MIN } else { i64::MAX })
            }),
        }
    }

    /// The number where it is small.
    fn small(&self) -> Option<Small> {
        match &self.0 {
            Repr::Small(small) => Some(*small),
            Repr::Remembered(both) => Some(both.0),
            Repr::Big(_) => None,
        }
    }
}

fn clamp_power(power: i32) -> i16 {
    i16::try_from(power)
        .unwrap_or(if power < 0 { -MAX_EXPONENT } else { MAX_EXPONENT })
        .clamp(-MAX_EXPONENT, MAX_EXPONENT)
}
