//! To and from JSON, floats and the generated Kubernetes types.

use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::de::{self, Visitor};

use super::{Format, Quantity, QuantityError};

/// Longest part of a wrong text that an error message repeats.
const SHOWN_CHARS: usize = 64;

impl Quantity {
    /// Reads the raw JSON token of a quantity field: a string (blanks around it are trimmed), a bare number as it is
    /// written, or `null` for zero.
    ///
    /// # Errors
    /// The token is of another kind, or its text is not a quantity.
    pub fn from_json(token: &str) -> Result<Self, QuantityError> {
        let token = token.trim();
        if token == "null" {
            return Ok(Self::default());
        }
        // Kubernetes takes what stands between the quotes as it is: escapes are not undone.
        let text = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(token);
        Self::parse(text.trim())
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::zero(Format::DecimalSi)
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl TryFrom<&ApiQuantity> for Quantity {
    type Error = QuantityError;

    fn try_from(quantity: &ApiQuantity) -> Result<Self, QuantityError> {
        Self::parse(quantity.0.trim())
    }
}

impl From<&Quantity> for ApiQuantity {
    fn from(quantity: &Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantityVisitor)
    }
}

/// Takes a string, a number or nothing. A number arrives without its text, so `1e3` is read as `1000`, which is also
/// how the API server stores it.
struct QuantityVisitor;

impl QuantityVisitor {
    fn read<E: de::Error>(text: &str) -> Result<Quantity, E> {
        Quantity::parse(text.trim()).map_err(|error| {
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            E::custom(format_args!("quantity {shown:?} {error}"))
        })
    }
}

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity (a string such as \"250m\", or a number)")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        Self::read(text)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
        Self::read(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
        Self::read(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
        // JSON writers, the API server's among them, switch to exponents outside this range.
        match number.abs() {
            size if size != 0.0 && !(1e-6..1e21).contains(&size) => Self::read(&format!("{number:e}")),
            _ => Self::read(&number.to_string()),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<Quantity, E> {
        Ok(Quantity::default())
    }

    fn visit_none<E: de::Error>(self) -> Result<Quantity, E> {
        Ok(Quantity::default())
    }
}

impl schemars::JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        crate::schema::quantity()
    }
}

/// `base` × 10^`power`.
pub(super) fn scale_f64(base: f64, power: i32) -> f64 {
    if power == 0 || base == 0.0 { base } else { base * pow10_f64(power) }
}

/// 10^`power` as the product (or quotient) of two table entries, as the reference computes it: the last bit differs
/// from the nearest float at times.
pub(super) fn pow10_f64(power: i32) -> f64 {
    match power {
        0..=308 => LARGE[power as usize / 32] * UNITS[power as usize % 32],
        -323..0 => TINY[-power as usize / 32] / UNITS[-power as usize % 32],
        309.. => f64::INFINITY,
        _ => 0.0,
    }
}

const UNITS: [f64; 32] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31,
];
const LARGE: [f64; 10] = [1e0, 1e32, 1e64, 1e96, 1e128, 1e160, 1e192, 1e224, 1e256, 1e288];
const TINY: [f64; 11] = [1e-0, 1e-32, 1e-64, 1e-96, 1e-128, 1e-160, 1e-192, 1e-224, 1e-256, 1e-288, 1e-320];
