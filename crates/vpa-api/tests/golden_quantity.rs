//! Quantities against the golden cases.

use std::collections::BTreeMap;

use golden::expect;
use serde::Deserialize;
use vpa_api::Quantity;
use vpa_api::quantity::{Format, QuantityError};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parse {
    input: String,
    ok: bool,
    error: Option<String>,
    canonical: Option<String>,
    recanonical: Option<String>,
    value: Option<i64>,
    milli_value: Option<i64>,
    format: Option<String>,
    sign: Option<i32>,
    approx_float64: Option<String>,
    #[serde(default)]
    scaled_value: BTreeMap<String, i64>,
    #[serde(default)]
    round_up: BTreeMap<String, (String, bool)>,
}

#[derive(Deserialize)]
struct Op {
    a: String,
    b: String,
    add: (String, String),
    sub: (String, String),
    cmp: i32,
    equal: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    json: String,
    ok: bool,
    canonical: Option<String>,
    marshalled: Option<String>,
    value: Option<i64>,
    milli_value: Option<i64>,
}

#[derive(Deserialize)]
struct Constructor {
    ctor: String,
    n: i64,
    format: Option<String>,
    scale: Option<i32>,
    canonical: String,
}

#[test]
fn golden_quantity() {
    let mut suite = golden::Suite::new("quantity");
    suite.section("parse.json", "parse", parse);
    suite.section("ops.json", "ops", op);
    suite.section("ops.json", "json", json);
    suite.section("ops.json", "ctor", constructor);
    suite.finish();
}

fn parse(case: &Parse) -> Result<(), String> {
    let quantity = match Quantity::parse(&case.input) {
        Ok(quantity) => quantity,
        Err(error) => {
            expect("ok", &case.ok, &false)?;
            return expect("error", &case.error.as_deref(), &Some(error_name(error)));
        }
    };
    expect("ok", &case.ok, &true)?;
    expect("canonical", &case.canonical, &Some(quantity.to_string()))?;
    let recanonical = case.recanonical.as_ref().or(case.canonical.as_ref());
    expect("recanonical", &recanonical, &Some(&quantity.canonical()))?;
    expect("value", &case.value, &Some(quantity.value()))?;
    expect("milliValue", &case.milli_value, &Some(quantity.milli_value()))?;
    expect("format", &case.format.as_deref(), &Some(format_name(quantity.format())))?;
    expect("sign", &case.sign, &Some(quantity.signum()))?;
    if let Some(text) = &case.approx_float64 {
        expect("approxFloat64", &text.parse::<f64>().map_err(|e| e.to_string())?, &quantity.as_f64())?;
    }
    for (power, want) in &case.scaled_value {
        let power = power.parse().map_err(|e| format!("scale {power}: {e}"))?;
        expect(&format!("scaledValue {power}"), want, &quantity.scaled_value(power))?;
    }
    for (power, (text, exact)) in &case.round_up {
        let power = power.parse().map_err(|e| format!("scale {power}: {e}"))?;
        let mut rounded = quantity.clone();
        expect(&format!("roundUp {power} exact"), exact, &rounded.round_up(power))?;
        expect(&format!("roundUp {power}"), text, &rounded.to_string())?;
    }
    Ok(())
}

fn op(case: &Op) -> Result<(), String> {
    let a = Quantity::parse(&case.a).map_err(|e| e.to_string())?;
    let b = Quantity::parse(&case.b).map_err(|e| e.to_string())?;
    let mut sum = a.clone();
    sum.add(&b);
    expect("add", &case.add, &(sum.to_string(), format_name(sum.format()).to_owned()))?;
    let mut difference = a.clone();
    difference.sub(&b);
    expect("sub", &case.sub, &(difference.to_string(), format_name(difference.format()).to_owned()))?;
    expect("cmp", &case.cmp, &(a.cmp(&b) as i32))?;
    expect("equal", &case.equal, &(a == b))
}

fn json(case: &Json) -> Result<(), String> {
    let from_token = Quantity::from_json(&case.json).ok();
    expect("ok", &case.ok, &from_token.is_some())?;
    // The general decoder sees a string after its escapes are undone, and a number without its text: the same number,
    // perhaps printed differently.
    let decoded = serde_json::from_str::<Quantity>(&case.json).ok();
    if !case.json.contains('\\') {
        expect("decoded", &from_token, &decoded)?;
    }
    let Some(quantity) = from_token else { return Ok(()) };
    expect("canonical", &case.canonical, &Some(quantity.to_string()))?;
    expect("marshalled", &case.marshalled, &serde_json::to_string(&quantity).ok())?;
    if case.json.starts_with('"') {
        expect("marshalled, decoded", &case.marshalled, &serde_json::to_string(&decoded).ok())?;
    }
    expect("value", &case.value, &Some(quantity.value()))?;
    expect("milliValue", &case.milli_value, &Some(quantity.milli_value()))
}

fn constructor(case: &Constructor) -> Result<(), String> {
    let format = match case.format.as_deref() {
        Some("BinarySI") => Format::BinarySi,
        Some("DecimalExponent") => Format::DecimalExponent,
        Some("DecimalSI") | None => Format::DecimalSi,
        Some(other) => return Err(format!("unknown format {other}")),
    };
    let quantity = match (case.ctor.as_str(), case.scale) {
        ("NewQuantity", _) => Quantity::from_units(case.n, format),
        ("NewMilliQuantity", _) => Quantity::from_milli(case.n, format),
        ("NewScaledQuantity", Some(scale)) => Quantity::from_scaled(case.n, scale),
        (other, _) => return Err(format!("unknown constructor {other}")),
    };
    expect("canonical", &case.canonical, &quantity.to_string())
}

fn error_name(error: QuantityError) -> &'static str {
    match error {
        QuantityError::Format => "format",
        QuantityError::Numeric => "numeric",
        QuantityError::Suffix => "suffix",
        QuantityError::Exponent => "exponent",
        QuantityError::Length => "length",
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::DecimalSi => "DecimalSI",
        Format::BinarySi => "BinarySI",
        Format::DecimalExponent => "DecimalExponent",
    }
}
