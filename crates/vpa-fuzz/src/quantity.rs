//! Quantities, and what kinds of them an input holds.

use std::cmp::Ordering;

use serde_json::Value;
use vpa_api::Quantity;
use vpa_api::quantity::MAX_TEXT_BYTES;

use crate::{Problem, ensure};

/// Amounts below this, in any unit, are far from every limit of the arithmetic: 64 bits of thousandths after a scaling by
/// a thousand.
const MODERATE: f64 = 1e12;

/// Members that hold quantities, at any depth.
const HOLDERS: [&str; 13] = [
    "requests",
    "limits",
    "target",
    "lowerBound",
    "upperBound",
    "minAllowed",
    "maxAllowed",
    "quantity",
    "min",
    "max",
    "default",
    "factor",
    "uncappedTarget",
];

/// What kinds of amounts there are in an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// One is below zero.
    pub(crate) negative: bool,
    /// One is zero.
    pub(crate) zero: bool,
    /// One is large enough for a bound of the arithmetic to matter.
    pub(crate) huge: bool,
}

impl Extent {
    /// Of all quantities in an object.
    pub(crate) fn of(object: &Value) -> Self {
        let mut extent = Self::default();
        extent.walk(object, false);
        extent
    }

    pub(crate) fn add(&mut self, amount: &Quantity) {
        self.join(Self {
            negative: amount.signum() < 0,
            zero: amount.is_zero(),
            huge: amount.as_f64().abs() > MODERATE,
        });
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.negative |= other.negative;
        self.zero |= other.zero;
        self.huge |= other.huge;
    }

    fn walk(&mut self, value: &Value, held: bool) {
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    self.walk(member, held || HOLDERS.contains(&key.as_str()));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(item, held)),
            leaf if held => {
                if let Ok(amount) = Quantity::from_json(&leaf.to_string()) {
                    self.add(&amount);
                }
            }
            _ => {}
        }
    }
}

/// What must hold for each text, and for each two that are quantities.
pub(crate) fn quantities(texts: &[String]) -> Result<(), Problem> {
    let mut parsed: Vec<Quantity> = Vec::new();
    for text in texts {
        let Ok(amount) = Quantity::parse(text) else { continue };
        alone(text, &amount)?;
        parsed.push(amount);
    }
    for pair in parsed.windows(2) {
        together(&pair[0], &pair[1])?;
    }
    Ok(())
}

/// It prints as something that reads as the same, and its parts agree on its sign.
fn alone(text: &str, amount: &Quantity) -> Result<(), Problem> {
    for printed in [amount.to_string(), amount.canonical()] {
        let read = Quantity::parse(&printed);
        // Long texts may become longer by the zeros that stand in for a large suffix.
        let too_long = printed.len() > MAX_TEXT_BYTES;
        ensure(too_long || read.as_ref() == Ok(amount), || {
            format!("{text:?} prints as {printed:?}, which reads {read:?}")
        })?;
    }
    let printed = amount.canonical();
    let again = Quantity::parse(&printed).map(|amount| amount.canonical());
    ensure(again.is_err() || again.as_ref() == Ok(&printed), || {
        format!("{text:?}: {printed:?} then {again:?}")
    })?;
    let signs = [
        amount.value_saturating().signum() as i32,
        amount.milli_value_saturating().signum() as i32,
        // Amounts too small for a float are zero there.
        if amount.as_f64() == 0.0 { amount.signum() } else { amount.as_f64().signum() as i32 },
    ];
    ensure(signs == [amount.signum(); 3], || {
        format!("{text:?} has sign {}, its numbers {signs:?}", amount.signum())
    })?;
    let mut rounded = amount.clone();
    let exact = rounded.round_up(0);
    ensure(exact == (rounded == *amount), || format!("{text:?} rounded to {rounded}, exact: {exact}"))?;
    let away = if amount.signum() < 0 { rounded <= *amount } else { rounded >= *amount };
    ensure(away, || format!("{text:?} rounded to {rounded}"))
}

/// Sums, differences and order agree with each other.
fn together(a: &Quantity, b: &Quantity) -> Result<(), Problem> {
    let (mut sum, mut difference) = (a.clone(), b.clone());
    sum.add(b);
    difference.sub(a);
    let order = difference.signum().cmp(&0);
    ensure(b.cmp(a) == order, || {
        format!("{b} against {a}: {:?}, by difference {difference} {order:?}", b.cmp(a))
    })?;
    ensure(a.cmp(b) == order.reverse(), || format!("{a} against {b} and back"))?;
    ensure(a.cmp(a) == Ordering::Equal, || format!("{a} against itself"))?;
    let mut back = sum.clone();
    back.sub(b);
    ensure(back == *a, || format!("{a} + {b} = {sum}, less {b} is {back}"))?;
    let bound = a.as_f64() + b.as_f64();
    let off = (sum.as_f64() - bound).abs();
    ensure(!bound.is_finite() || off <= bound.abs().max(a.as_f64().abs()) * 1e-9, || {
        format!("{a} + {b} = {sum}, as floats {bound:e}")
    })
}
