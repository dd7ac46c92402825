//! Quantities as numbers that can be compared.

/// A quantity in billionths; `None` for a text that is none.
pub(super) fn nanos(text: &str) -> Option<i128> {
    let digits = text.trim_start_matches(['+', '-']);
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        "Ki" => 1_000_000_000 << 10,
        "Mi" => 1_000_000_000 << 20,
        "Gi" => 1_000_000_000 << 30,
        "Ti" => 1_000_000_000 << 40,
        "Pi" => 1_000_000_000 << 50,
        "Ei" => 1_000_000_000 << 60,
        "k" => 10i128.pow(12),
        "M" => 10i128.pow(15),
        "G" => 10i128.pow(18),
        "T" => 10i128.pow(21),
        "P" => 10i128.pow(24),
        "E" => 10i128.pow(27),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10i128.checked_pow(u32::try_from(exponent + 9).ok()?)?
        }
    };
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let value = digits.checked_mul(scale)? / 10i128.checked_pow(fraction.len() as u32)?;
    Some(if text.starts_with('-') { -value } else { value })
}

#[test]
fn texts_become_numbers() {
    let one = 1_000_000_000;
    let cases = [
        ("1", one),
        ("1.500", one * 3 / 2),
        ("10e9", one * 10_i128.pow(10)),
        ("-5m", -5_000_000),
        ("2Ki", 2048 * one),
    ];
    for (text, want) in cases {
        assert_eq!(nanos(text), Some(want), "{text}");
    }
    assert_eq!(nanos("12x"), None);
}
