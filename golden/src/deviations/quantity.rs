//! Deviations of the quantity cases.

use num_bigint::BigInt;
use serde_json::Value;

use super::Deviation;

pub(super) const RULES: &[Deviation] = &[];

/// Rules for inputs that the project's own data do not hold; the tests below do.
pub(super) const UNSEEN: &[Deviation] = &[Deviation {
    id: "beyond_the_largest_suffix",
    reason: "a decimal amount that is a multiple of 10^21 is printed there without its power of ten (1000E as 1), \
             which is another number; here its zeros are written out",
    applies: |_, section, input| !right_texts(section, input).is_empty(),
    rewrite: |_, section, case| {
        for (key, text) in right_texts(section, case) {
            match case.get_mut(key) {
                // The text and the format of a sum or difference.
                Some(Value::Array(pair)) if !pair.is_empty() => pair[0] = Value::String(text),
                Some(Value::String(old)) => *old = text,
                // None of the powers asked for is above 10^21, so rounding leaves the number as it is.
                Some(Value::Object(rounded)) => {
                    rounded.values_mut().for_each(|pair| pair[0] = Value::String(text.clone()));
                }
                _ => {}
            }
        }
    },
}];

/// What is printed, by the key of the case that holds it.
fn right_texts(section: &str, case: &Value) -> Vec<(&'static str, String)> {
    let number = |key: &str| Number::read(case.get(key)?.as_str()?);
    let texts = match section {
        "parse" => number("input").and_then(|input| input.right_text()).map(|text| {
            ["canonical", "recanonical", "roundUp"].map(|key| (key, Some(text.clone()))).to_vec()
        }),
        "ops" => number("a").zip(number("b")).map(|(a, b)| {
            let sum = a.plus(&b.nano, b.decimal_si).right_text();
            vec![("add", sum), ("sub", a.plus(&-b.nano, b.decimal_si).right_text())]
        }),
        _ => None,
    };
    texts.into_iter().flatten().filter_map(|(key, text)| Some((key, text?))).collect()
}

/// A number in billionths, and whether it prints with a decimal suffix.
struct Number {
    nano: BigInt,
    decimal_si: bool,
}

const DECIMAL: [(&str, i64); 10] =
    [("", 0), ("n", -9), ("u", -6), ("m", -3), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Number {
    fn read(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits: BigInt = format!("0{whole}{fraction}").parse().ok()?;
        let decimal = DECIMAL.iter().find(|(known, _)| *known == suffix).map(|(_, power)| *power);
        let binary = BINARY.iter().position(|known| *known == suffix);
        let (factor, power) = match (decimal, binary) {
            (Some(power), _) => (BigInt::from(1), power),
            (_, Some(index)) => (BigInt::from(1) << (10 * (index + 1)), 0),
            // Exponents beyond this are nobody's business here.
            _ => (
                BigInt::from(1),
                suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|e| (-99..=99).contains(e))?,
            ),
        };
        let power = power - fraction.len() as i64 + 9;
        let ten = |power: i64| BigInt::from(10).pow(power.unsigned_abs() as u32);
        let exact = digits * factor;
        let nano = if power >= 0 { exact * ten(power) } else { (exact + ten(power) - 1) / ten(power) };
        Some(Self { nano: if negative { -nano } else { nano }, decimal_si: decimal.is_some() })
    }

    fn plus(&self, nano: &BigInt, decimal_si: bool) -> Self {
        let is_zero = self.nano == BigInt::ZERO;
        Self { nano: &self.nano + nano, decimal_si: if is_zero { decimal_si } else { self.decimal_si } }
    }

    /// The text of a multiple of 1000E with a decimal suffix; the reference gets the others right.
    fn right_text(&self) -> Option<String> {
        let exa = BigInt::from(10).pow(27);
        let thousands = &exa * 1000;
        let ruled = self.decimal_si && self.nano != BigInt::ZERO && &self.nano % thousands == BigInt::ZERO;
        ruled.then(|| format!("{}E", &self.nano / exa))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_multiples_of_a_thousand_exa_are_ruled() {
        for (input, want) in [
            ("1000E", Some("1000E")),
            ("-0012000000.000P", Some("-12000E")),
            ("1000000000000000000000", Some("1000E")),
            ("999E", None),
            ("1500E", None),
            ("1.5E", None),
            ("1e21", None),
            ("1000Ei", None),
            ("0E", None),
            ("x", None),
        ] {
            let texts = right_texts("parse", &json!({"input": input}));
            assert_eq!(texts.first().map(|(_, text)| text.as_str()), want, "{input}");
        }
    }

    #[test]
    fn all_printed_forms_are_put_right() {
        let rule = UNSEEN[0];
        let mut case = json!({"input": "5000E", "canonical": "5", "value": 0, "roundUp": {"3": ["5", true]}});
        assert!((rule.applies)("parse.json", "parse", &case));
        (rule.rewrite)("parse.json", "parse", &mut case);
        assert_eq!(
            case,
            json!({"input": "5000E", "canonical": "5000E", "value": 0, "roundUp": {"3": ["5000E", true]}})
        );
    }
}
