//! Properties that hold for every quantity, and what the golden data leave out.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

/// Texts that parse, short and long, of all formats.
fn valid_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[+-]?[0-9]{1,6}(\\.[0-9]{0,4})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?",
        "[+-]?[0-9]{0,30}\\.?[0-9]{1,20}(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?",
        "[+-]?[0-9]{1,25}[eE][+-]?[0-9]{1,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printing_and_parsing_give_the_number_back(text in valid_text()) {
        let parsed = quantity(&text);
        prop_assert_eq!(&quantity(&parsed.to_string()), &parsed);
        prop_assert_eq!(&quantity(&parsed.canonical()), &parsed);
        // What was printed once prints the same again.
        let canonical = parsed.canonical();
        prop_assert_eq!(quantity(&canonical).canonical(), canonical);
    }

    #[test]
    fn subtraction_undoes_addition(a in valid_text(), b in valid_text()) {
        let (a, b) = (quantity(&a), quantity(&b));
        let mut sum = a.clone();
        sum.add(&b);
        let mut back = sum.clone();
        back.sub(&b);
        prop_assert_eq!(&back, &a);
        let mut other = b.clone();
        other.add(&a);
        prop_assert_eq!(&other, &sum);
        prop_assert_eq!(sum.cmp(&a), b.cmp(&Quantity::default()));
    }

    #[test]
    fn order_is_that_of_the_numbers(a in -1_000_000_000_i64..1_000_000_000, b in any::<i64>(), p in -9_i32..12, q in -9_i32..12) {
        let (left, right) = (Quantity::from_scaled(a, p), Quantity::from_scaled(b, q));
        // In billionths; 2^63 × 10^18 fits 128 bits, so powers up to 9 always do.
        let billionths = |n: i64, power: i32| i128::from(n).checked_mul(10_i128.pow((power + 9).unsigned_abs()));
        if let (Some(x), Some(y)) = (billionths(a, p), billionths(b, q)) {
            prop_assert_eq!(left.cmp(&right), x.cmp(&y));
        }
        prop_assert_eq!(left.cmp(&right), right.cmp(&left).reverse());
    }

    #[test]
    fn saturating_values_agree_where_nothing_overflows(n in any::<i32>(), p in -9_i32..6) {
        let quantity = Quantity::from_scaled(n.into(), p);
        prop_assert_eq!(quantity.value(), quantity.value_saturating());
        prop_assert_eq!(quantity.milli_value(), quantity.milli_value_saturating());
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = Quantity::parse(&text);
        let _ = Quantity::from_json(&text);
        let _ = serde_json::from_str::<Quantity>(&text);
    }

    #[test]
    fn no_nearly_valid_text_panics(text in "[-+.0-9eEinumkKMGTP]{0,24}", power in any::<i32>()) {
        if let Ok(mut parsed) = Quantity::parse(&text) {
            let _ = (parsed.value(), parsed.milli_value(), parsed.as_f64(), parsed.milli_value_saturating());
            let _ = parsed.scaled_value(power.clamp(-400, 400));
            let twice = parsed.clone();
            parsed.add(&twice);
            parsed.round_up(power.clamp(-400, 400));
            // Reading takes binary units up to the largest int64 only, as Kubernetes does.
            let readable = parsed.format() != Format::BinarySi || parsed.value_saturating().unsigned_abs() < i64::MAX.unsigned_abs();
            prop_assert!(!readable || quantity(&parsed.to_string()) == parsed, "{parsed}");
        }
    }
}

#[test]
fn extremes_do_not_panic() {
    for n in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX] {
        for format in [Format::DecimalSi, Format::BinarySi, Format::DecimalExponent] {
            for mut quantity in [
                Quantity::from_units(n, format),
                Quantity::from_milli(n, format),
                Quantity::from_scaled(n, i32::MIN),
                Quantity::from_scaled(n, i32::MAX),
            ] {
                let other = quantity.clone();
                quantity.sub(&other);
                assert!(quantity.is_zero());
                quantity.sub(&other);
                quantity.sub(&other);
                quantity.round_up(i32::MIN);
                quantity.round_up(i32::MAX);
                let _ = (
                    quantity.to_string(),
                    quantity.value(),
                    quantity.scaled_value(i32::MIN),
                    quantity.as_f64(),
                );
            }
        }
    }
}

#[test]
fn huge_exponents_and_texts_take_no_time() {
    let start = Instant::now();
    for (text, want) in [
        ("1e999999999", QuantityError::Exponent),
        ("1e-999999999", QuantityError::Exponent),
        ("0e10001", QuantityError::Exponent),
        ("1e99999999999999999999", QuantityError::Suffix),
    ] {
        assert_eq!(Quantity::parse(text).unwrap_err(), want, "{text}");
    }
    assert_eq!(Quantity::parse(&"9".repeat(10_000_000)).unwrap_err(), QuantityError::Length);
    let mut largest = quantity(&format!("{}e10000", "9".repeat(9_000)));
    let smallest = quantity("1e-10000");
    assert_eq!(smallest, quantity("1n"), "anything above zero is at least a billionth");
    largest.add(&smallest);
    assert_eq!(largest.milli_value_saturating(), i64::MAX);
    assert_eq!(quantity(&largest.to_string().replace("e-9", "n")[..100]).signum(), 1);
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
}

#[test]
fn amounts_beyond_the_largest_suffix_keep_their_zeros() {
    for text in ["1000E", "-5000E", "123456000E"] {
        assert_eq!(quantity(text).to_string(), text);
    }
    assert_eq!(quantity("1e21").to_string(), "1e21");
}

#[test]
fn below_a_billionth_a_constructed_quantity_rounds_up() {
    assert_eq!(Quantity::from_scaled(1, -12).to_string(), "1n");
    assert_eq!(Quantity::from_scaled(-1001, -12).to_string(), "-2n");
    assert_eq!(Quantity::from_scaled(2000, -12).to_string(), "2n");
}

#[test]
fn saturation_is_exact() {
    for (text, value, milli) in [
        ("1e19", i64::MAX, i64::MAX),
        ("-1e19", i64::MIN, i64::MIN),
        ("1Ei", 1 << 60, i64::MAX),
        ("9223372036854775807", i64::MAX, i64::MAX),
        ("9223372036854775808", i64::MAX, i64::MAX),
        ("9223372036854775.807", 9_223_372_036_854_776, i64::MAX),
        ("-1.5", -2, -1500),
        ("0.0001", 1, 1),
    ] {
        let quantity = quantity(text);
        assert_eq!(
            (quantity.value_saturating(), quantity.milli_value_saturating()),
            (value, milli),
            "{text}"
        );
    }
}

#[test]
fn a_quantity_takes_sixteen_bytes() {
    assert_eq!(size_of::<Quantity>(), 16);
    assert!(matches!(quantity("250m").0, Repr::Small(_)), "a text that prints the same is not kept");
    assert!(matches!(quantity("1.500").0, Repr::Remembered(_)));
}

#[test]
fn errors_name_the_text() {
    let error = serde_json::from_str::<Quantity>("\"1 GB\"").unwrap_err().to_string();
    assert!(error.contains("\"1 GB\"") && error.contains("must be a number"), "{error}");
    let error = serde_json::from_str::<Quantity>("[1]").unwrap_err().to_string();
    assert!(error.contains("expected a quantity"), "{error}");
}

#[test]
fn numbers_of_json_and_yaml_are_read() {
    for (json, text) in
        [("1", "1"), ("0.5", "500m"), ("1e30", "1e30"), ("-2.5", "-2500m"), ("1e-7", "100n"), ("null", "0")]
    {
        assert_eq!(serde_json::from_str::<Quantity>(json).unwrap(), quantity(text), "{json}");
        assert_eq!(serde_saphyr::from_str::<Quantity>(json).unwrap(), quantity(text), "{json}");
    }
}

/// A number of a thousand digits, nearly all of them behind the point, as a sum can have.
#[test]
fn a_long_number_is_not_nan() {
    let mut sum = quantity("28171");
    sum.add(&quantity("0E-922"));
    assert!((sum.as_f64() - 28171.0).abs() < 1e-6, "{}", sum.as_f64());
}
