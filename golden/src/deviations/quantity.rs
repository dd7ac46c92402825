//! Deviations of the quantity cases.

use serde_json::Value;

use super::Deviation;

pub(super) const RULES: &[Deviation] = &[];

/// Rules for inputs that the project's own data do not hold; the tests below do.
pub(super) const UNSEEN: &[Deviation] = &[Deviation {
    id: "beyond_the_largest_suffix",
    reason: "a decimal amount that is a multiple of 10^21 is printed there without its power of ten (1000E as 1), \
             which is another number; here its zeros are written out",
    applies: |_, section, input| section == "parse" && exact_text(input).is_some(),
    rewrite: |_, _, case| {
        let Some(text) = exact_text(case) else { return };
        for key in ["canonical", "recanonical"] {
            if let Some(value) = case.get_mut(key) {
                *value = Value::String(text.clone());
            }
        }
        // None of the powers asked for is above 10^21, so rounding leaves the number as it is.
        for rounded in case.get_mut("roundUp").and_then(Value::as_object_mut).into_iter().flatten() {
            rounded.1[0] = Value::String(text.clone());
        }
    },
}];

/// The number of a parse case written with the suffix `E`, where it is a multiple of 1000E.
fn exact_text(input: &Value) -> Option<String> {
    let text = input.get("input")?.as_str()?;
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let suffixes = [
        ("", 0),
        ("n", -9),
        ("u", -6),
        ("m", -3),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
        ("P", 15),
        ("E", 18),
    ];
    let (_, power) = suffixes.into_iter().find(|(known, _)| *known == suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() || significant.contains('.') {
        return None;
    }
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let power = power - fraction.len() as i64 + zeros as i64;
    (power >= 21).then(|| format!("{sign}{significant}{}E", "0".repeat((power - 18).unsigned_abs() as usize)))
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
            assert_eq!(exact_text(&json!({"input": input})).as_deref(), want, "{input}");
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
