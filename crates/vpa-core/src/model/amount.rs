//! Amounts of CPU in millicores and of memory in bytes, as whole numbers.

/// Largest amount there is: 1e14 millicores or bytes.
pub const MAX_AMOUNT: i64 = 100_000_000_000_000;

/// The whole part of a number, between 0 and [`MAX_AMOUNT`]; what is not a number is 0.
pub fn truncate(amount: f64) -> i64 {
    if amount > MAX_AMOUNT as f64 { MAX_AMOUNT } else { (amount as i64).max(0) }
}

/// An amount times a factor, truncated.
pub fn scale(amount: i64, factor: f64) -> i64 {
    truncate(amount as f64 * factor)
}

/// The smallest multiple of `step` that is not below the amount; the amount itself where the step is not positive.
pub fn round_up(amount: i64, step: i64) -> i64 {
    if step <= 0 {
        return amount;
    }
    ((amount as f64 / step as f64).ceil() as i64).saturating_mul(step)
}

/// Bytes as text with two decimals and the largest binary unit that fits.
pub fn humanize(bytes: i64) -> String {
    const UNITS: [(&str, i64); 4] = [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => bytes.to_string(),
    }
}
