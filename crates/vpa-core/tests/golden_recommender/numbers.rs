//! Functions, buckets and histograms.

use std::collections::BTreeMap;

use golden::{expect, expect_close};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use vpa_api::HistogramCheckpoint;
use vpa_core::model::amount::truncate;
use vpa_core::model::buckets::{self, EPSILON};
use vpa_core::model::histogram::DecayingHistogram;
use vpa_core::model::math;

/// Relative difference allowed in totals and weights.
pub(crate) const CLOSE: f64 = 1e-9;

fn bits(hex: &str) -> Result<f64, String> {
    u64::from_str_radix(hex, 16).map(f64::from_bits).map_err(|error| format!("{hex}: {error}"))
}

pub(crate) fn exp2((x, y): &(String, String)) -> Result<(), String> {
    expect("exp2", &bits(y)?.to_bits(), &math::exp2(bits(x)?).to_bits())
}

pub(crate) fn log((x, y): &(String, String)) -> Result<(), String> {
    expect("log", &bits(y)?.to_bits(), &math::ln(bits(x)?).to_bits())
}

pub(crate) fn pow((base, exponent, y): &(String, String, String)) -> Result<(), String> {
    let exponent = bits(exponent)?;
    expect("exponent is whole", &exponent, &exponent.trunc())?;
    expect("pow", &bits(y)?.to_bits(), &math::powi(bits(base)?, exponent as i32).to_bits())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BucketCase {
    kind: String,
    epsilon: f64,
    num_buckets: usize,
    start_bits: Vec<String>,
    start_amounts: Vec<i64>,
}

fn scheme(kind: &str) -> Result<&'static buckets::Buckets, String> {
    match kind {
        "cpu" => Ok(&buckets::CPU),
        "memory" => Ok(&buckets::MEMORY),
        other => Err(format!("unknown kind {other}")),
    }
}

pub(crate) fn buckets(case: &BucketCase) -> Result<(), String> {
    let scheme = scheme(&case.kind)?;
    expect("epsilon", &case.epsilon, &EPSILON)?;
    expect("number of buckets", &case.num_buckets, &scheme.count())?;
    let units = if case.kind == "cpu" { 1000.0 } else { 1.0 };
    for (n, (start, amount)) in case.start_bits.iter().zip(&case.start_amounts).enumerate() {
        expect(&format!("start of {n}"), &bits(start)?.to_bits(), &scheme.start(n).to_bits())?;
        expect(&format!("amount of {n}"), amount, &truncate(scheme.start(n) * units))?;
    }
    Ok(())
}

pub(crate) fn find((kind, value, bucket): &(String, f64, usize)) -> Result<(), String> {
    expect("bucket", bucket, &scheme(kind)?.find(*value))
}

#[derive(Deserialize)]
struct Op(String, f64, f64, i64);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    after: usize,
    #[serde(rename = "ref")]
    reference: Option<i64>,
    empty: bool,
    min_bucket: usize,
    max_bucket: usize,
    total: f64,
    percentiles: BTreeMap<String, f64>,
    weights: BTreeMap<usize, f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sequence {
    kind: String,
    half_life_seconds: i64,
    ops: Vec<Op>,
    states: Vec<State>,
    #[serde(default)]
    panics: BTreeMap<usize, String>,
    checkpoint: HistogramCheckpoint,
    reloaded: State,
    checkpoint2: HistogramCheckpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Merge {
    kind: String,
    half_life_seconds: i64,
    a: Vec<Op>,
    b: Vec<Op>,
    a_before: State,
    b_before: State,
    a_after: State,
    b_after: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Load {
    kind: String,
    half_life_seconds: i64,
    before: Option<Vec<Op>>,
    after: Option<Vec<Op>>,
    checkpoint: Value,
    ok: bool,
    loaded: Option<State>,
    #[serde(rename = "final")]
    end: Option<State>,
    saved: Option<HistogramCheckpoint>,
}

fn empty(kind: &str, half_life_seconds: i64) -> Result<DecayingHistogram, String> {
    Ok(DecayingHistogram::new(scheme(kind)?, SignedDuration::from_secs(half_life_seconds)))
}

/// Whether the operation was taken.
fn apply(histogram: &mut DecayingHistogram, op: &Op) -> Result<bool, String> {
    let time = Timestamp::from_second(op.3).map_err(|error| error.to_string())?;
    match op.0.as_str() {
        "add" => Ok(histogram.add(op.1, op.2, time)),
        "sub" => Ok(histogram.subtract(op.1, op.2, time)),
        other => Err(format!("unknown operation {other}")),
    }
}

fn filled(kind: &str, half_life_seconds: i64, ops: &[Op]) -> Result<DecayingHistogram, String> {
    let mut histogram = empty(kind, half_life_seconds)?;
    for op in ops {
        apply(&mut histogram, op)?;
    }
    Ok(histogram)
}

fn compare(what: &str, want: &State, got: &DecayingHistogram) -> Result<(), String> {
    let reference = got.reference().map(Timestamp::as_second);
    expect(&format!("{what} reference"), &want.reference, &reference)?;
    expect(&format!("{what} empty"), &want.empty, &got.is_empty())?;
    expect(&format!("{what} min bucket"), &want.min_bucket, &got.min_bucket())?;
    expect(&format!("{what} max bucket"), &want.max_bucket, &got.max_bucket())?;
    expect_close(&format!("{what} total"), want.total, got.total(), CLOSE)?;
    for (percentile, value) in &want.percentiles {
        let p: f64 = percentile.parse().map_err(|_| format!("not a percentile: {percentile}"))?;
        expect(&format!("{what} percentile {percentile}"), value, &got.percentile(p))?;
    }
    let weights: BTreeMap<_, _> = got.weights().collect();
    expect(&format!("{what} buckets"), &want.weights.keys().collect(), &weights.keys().collect::<Vec<_>>())?;
    for (bucket, weight) in &want.weights {
        expect_close(&format!("{what} weight of {bucket}"), *weight, weights[bucket], CLOSE)?;
    }
    Ok(())
}

pub(crate) fn compare_checkpoints(
    what: &str,
    want: &HistogramCheckpoint,
    got: &HistogramCheckpoint,
) -> Result<(), String> {
    expect(&format!("{what} reference"), &want.reference_timestamp, &got.reference_timestamp)?;
    expect(&format!("{what} weights"), &want.bucket_weights, &got.bucket_weights)?;
    expect_close(&format!("{what} total"), want.total_weight, got.total_weight, CLOSE)
}

pub(crate) fn sequence(case: &Sequence) -> Result<(), String> {
    let mut histogram = empty(&case.kind, case.half_life_seconds)?;
    let mut done = 0;
    for state in &case.states {
        while done < state.after {
            let taken = apply(&mut histogram, &case.ops[done])?;
            expect(&format!("operation {done} taken"), &!case.panics.contains_key(&done), &taken)?;
            done += 1;
        }
        compare(&format!("after {done}:"), state, &histogram)?;
    }
    for op in &case.ops[done..] {
        apply(&mut histogram, op)?;
    }
    let checkpoint = histogram.to_checkpoint();
    compare_checkpoints("checkpoint", &case.checkpoint, &checkpoint)?;
    let mut reloaded = empty(&case.kind, case.half_life_seconds)?;
    reloaded.load(&checkpoint).map_err(|error| error.to_string())?;
    compare("reloaded", &case.reloaded, &reloaded)?;
    compare_checkpoints("second checkpoint", &case.checkpoint2, &reloaded.to_checkpoint())
}

pub(crate) fn merge(case: &Merge) -> Result<(), String> {
    let mut a = filled(&case.kind, case.half_life_seconds, &case.a)?;
    let mut b = filled(&case.kind, case.half_life_seconds, &case.b)?;
    compare("a before", &case.a_before, &a)?;
    compare("b before", &case.b_before, &b)?;
    a.merge(&mut b);
    compare("a after", &case.a_after, &a)?;
    compare("b after", &case.b_after, &b)
}

pub(crate) fn load(case: &Load) -> Result<(), String> {
    let mut histogram = filled(&case.kind, case.half_life_seconds, case.before.as_deref().unwrap_or(&[]))?;
    let loaded = serde_json::from_value::<HistogramCheckpoint>(case.checkpoint.clone())
        .map_err(|error| error.to_string())
        .and_then(|checkpoint| histogram.load(&checkpoint).map_err(|error| error.to_string()));
    expect("ok", &case.ok, &loaded.is_ok())?;
    if let Some(want) = &case.loaded {
        compare("loaded", want, &histogram)?;
    }
    for op in case.after.iter().flatten() {
        apply(&mut histogram, op)?;
    }
    if let Some(want) = &case.end {
        compare("final", want, &histogram)?;
    }
    match &case.saved {
        Some(want) => compare_checkpoints("saved", want, &histogram.to_checkpoint()),
        None => Ok(()),
    }
}
