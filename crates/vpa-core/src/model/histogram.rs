//! A histogram whose samples lose half of their weight in every half-life.
//!
//! Instead of lowering the weights of old samples, the weights of new ones grow: a sample at time `t` weighs
//! `2^((t - reference) / half-life)`. When that exponent passes 100, the reference moves and all weights are scaled.
//!
//! Weights lie in a window over the buckets that ever held something: a container's memory peaks fall into a handful of
//! the 176 buckets, so most histograms take a few hundred bytes.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use vpa_api::HistogramCheckpoint;

use super::buckets::{Buckets, EPSILON};
use super::math::{exp2, scale_by_power_of_two};

/// Half-lives after the reference time at which weights are scaled down. 2^100 times a sample is far from the limits
/// of the number format. Part of the checkpoint format.
const MAX_EXPONENT: i128 = 100;

/// Weight of the heaviest bucket in a checkpoint.
const CHECKPOINT_SCALE: f64 = 10_000.0;

/// Seconds from the beginning of year 1 to that of 1970: reference times are multiples of the half-life from there.
const YEAR_1_TO_1970_SECONDS: i128 = 62_135_596_800;

const NANOS: i128 = 1_000_000_000;

/// Why a checkpoint cannot be loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// The sum of weights is below zero or not a number.
    #[error("totalWeight is {0}; it must not be negative")]
    TotalWeight(f64),
    /// A bucket number is outside the scheme.
    #[error("bucketWeights names bucket {bucket}, but there are {count} buckets")]
    Bucket {
        /// The number.
        bucket: u32,
        /// Buckets of the scheme.
        count: usize,
    },
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct DecayingHistogram {
    buckets: &'static Buckets,
    half_life: SignedDuration,
    /// `None` stands for the beginning of year 1, the reference of a histogram that never had a sample.
    reference: Option<Timestamp>,
    /// Number of the bucket that `weights` begins with.
    offset: usize,
    weights: Vec<f64>,
    total: f64,
    /// First bucket with weight; the last bucket where there is none.
    min: usize,
    /// Last bucket with weight; 0 where there is none.
    max: usize,
}

impl DecayingHistogram {
    /// An empty histogram. A half-life that is not positive counts as one nanosecond; flags are checked before.
    pub fn new(buckets: &'static Buckets, half_life: SignedDuration) -> Self {
        Self {
            buckets,
            half_life: half_life.max(SignedDuration::from_nanos(1)),
            reference: None,
            offset: 0,
            weights: Vec::new(),
            total: 0.0,
            min: buckets.last(),
            max: 0,
        }
    }

    /// Adds a sample. Returns whether it was taken: a weight below zero is refused.
    pub fn add(&mut self, value: f64, weight: f64, time: Timestamp) -> bool {
        if weight.is_nan() || weight < 0.0 || value.is_nan() {
            return false;
        }
        let weight = weight * self.factor(time);
        let bucket = self.buckets.find(value);
        let held = self.slot(bucket);
        *held += weight;
        let visible = *held >= EPSILON;
        self.total += weight;
        if visible {
            self.min = self.min.min(bucket);
            self.max = self.max.max(bucket);
        }
        true
    }

    /// Takes a sample out again that was added with the same value, weight and time. Returns whether that was done: a
    /// weight below zero is refused.
    ///
    /// Bucket and total are lowered separately, so where the bucket does not hold the sample, they drift apart: use
    /// [`subtract_held`](Self::subtract_held) where that can be.
    pub fn subtract(&mut self, value: f64, weight: f64, time: Timestamp) -> bool {
        if weight.is_nan() || weight < 0.0 || value.is_nan() {
            return false;
        }
        let weight = weight * self.factor(time);
        self.lower(self.buckets.find(value), weight);
        true
    }

    /// As [`subtract`](Self::subtract), but takes no more than the bucket holds, and takes with it what would be left
    /// in a bucket that counts as empty. A total that is not the sum of the buckets would in time hide the top one.
    pub fn subtract_held(&mut self, value: f64, weight: f64, time: Timestamp) {
        if weight.is_nan() || weight < 0.0 || value.is_nan() {
            return;
        }
        let weight = weight * self.factor(time);
        let bucket = self.buckets.find(value);
        let held = self.weight(bucket);
        let rest = held - weight;
        // The bound only has to tell a difference from rounding.
        let fits = rest >= EPSILON || rest.abs() <= 1e-9 * held.max(weight);
        let before = self.total;
        self.lower(bucket, if fits { weight } else { held });
        // What is left of a large number is mostly its rounding.
        if self.total < 1e-6 * before {
            self.total = self.weights.iter().sum();
        }
    }

    fn lower(&mut self, bucket: usize, weight: f64) {
        let held = self.slot(bucket);
        *held = less(*held, weight);
        self.total = less(self.total, weight);
        self.shrink();
    }

    /// Adds all samples of another histogram with the same buckets and half-life. The older reference time moves to
    /// the younger one in both.
    pub fn merge(&mut self, other: &mut Self) {
        match compare(self.reference, other.reference) {
            Ordering::Less => self.move_reference(other.reference),
            Ordering::Greater => other.move_reference(self.reference),
            Ordering::Equal => {}
        }
        if other.min <= other.max {
            self.slot(other.min);
            self.slot(other.max);
            for bucket in other.min..=other.max {
                let weight = other.weight(bucket);
                *self.slot(bucket) += weight;
            }
        }
        self.total += other.total;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Value below which the fraction `percentile` (0 to 1) of the weight lies: the end of the bucket where that is
    /// reached (the start of the last one, which has no end). 0 for an empty histogram.
    pub fn percentile(&self, percentile: f64) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        let threshold = percentile * self.total;
        let mut sum = 0.0;
        let mut bucket = self.min;
        while bucket < self.max {
            sum += self.weight(bucket);
            if sum >= threshold {
                break;
            }
            bucket += 1;
        }
        self.buckets.start(bucket + 1)
    }

    /// Whether no bucket has weight.
    pub fn is_empty(&self) -> bool {
        self.weight(self.min) < EPSILON
    }

    /// Time at which a sample weighs exactly its given weight; `None` before the first sample.
    pub fn reference(&self) -> Option<Timestamp> {
        self.reference
    }

    /// Sum of all weights.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// First bucket with weight; the last bucket of the scheme where there is none.
    pub fn min_bucket(&self) -> usize {
        self.min
    }

    /// Last bucket with weight; 0 where there is none.
    pub fn max_bucket(&self) -> usize {
        self.max
    }

    /// Weight of a bucket.
    pub fn weight(&self, bucket: usize) -> f64 {
        bucket.checked_sub(self.offset).and_then(|slot| self.weights.get(slot)).copied().unwrap_or(0.0)
    }

    /// Every bucket with a weight, however small, in order.
    pub fn weights(&self) -> impl Iterator<Item = (usize, f64)> {
        self.weights
            .iter()
            .enumerate()
            .map(|(slot, &weight)| (self.offset + slot, weight))
            .filter(|(_, w)| *w != 0.0)
    }

    /// The form that goes into a checkpoint: weights scaled to whole numbers of which the largest is 10000, and buckets
    /// left out that come to 0.
    pub fn to_checkpoint(&self) -> HistogramCheckpoint {
        let visible = || (self.min..=self.max).map(|bucket| (bucket, self.weight(bucket)));
        let largest = visible().map(|(_, weight)| weight).fold(0.0, f64::max);
        let bucket_weights = visible()
            .map(|(bucket, weight)| {
                (bucket as u32, (weight * (CHECKPOINT_SCALE / largest) + 0.5).floor() as u32)
            })
            .filter(|(_, weight)| *weight > 0)
            .collect();
        HistogramCheckpoint {
            reference_timestamp: self.reference.map(Into::into),
            bucket_weights,
            total_weight: self.total,
        }
    }

    /// Adds what a checkpoint holds and takes over its reference time, without scaling what was there before: meant
    /// for an empty histogram.
    ///
    /// # Errors
    /// When a number is out of range; the histogram is then unchanged.
    pub fn load(&mut self, checkpoint: &HistogramCheckpoint) -> Result<(), LoadError> {
        let total = checkpoint.total_weight;
        if !total.is_finite() || total < 0.0 {
            return Err(LoadError::TotalWeight(total));
        }
        let count = self.buckets.count();
        if let Some(&bucket) = checkpoint.bucket_weights.keys().find(|&&bucket| bucket as usize >= count) {
            return Err(LoadError::Bucket { bucket, count });
        }
        let sum: u64 = checkpoint.bucket_weights.values().map(|&weight| u64::from(weight)).sum();
        if sum > 0 {
            let ratio = total / sum as f64;
            for (&bucket, &weight) in &checkpoint.bucket_weights {
                let bucket = bucket as usize;
                self.min = self.min.min(bucket);
                self.max = self.max.max(bucket);
                *self.slot(bucket) += f64::from(weight) * ratio;
            }
            self.total += total;
            self.shrink();
        }
        self.reference = checkpoint.reference_timestamp.as_ref().map(|time| time.0);
        Ok(())
    }

    /// Puts back weights that were read off with [`weights`](Self::weights), in place of all there is. Numbers that no
    /// histogram can have are an error and leave it unchanged.
    pub(super) fn restore(
        &mut self,
        reference: Option<Timestamp>,
        total: f64,
        weights: &[(usize, f64)],
    ) -> Result<(), LoadError> {
        let possible = |weight: f64| weight.is_finite() && weight >= 0.0;
        if !possible(total) {
            return Err(LoadError::TotalWeight(total));
        }
        for &(bucket, weight) in weights {
            if bucket >= self.buckets.count() {
                return Err(LoadError::Bucket { bucket: bucket as u32, count: self.buckets.count() });
            }
            if !possible(weight) {
                return Err(LoadError::TotalWeight(weight));
            }
        }
        let mut fresh = Self::new(self.buckets, self.half_life);
        fresh.reference = reference;
        fresh.total = total;
        for &(bucket, weight) in weights {
            *fresh.slot(bucket) = weight;
            if weight >= EPSILON {
                fresh.min = fresh.min.min(bucket);
                fresh.max = fresh.max.max(bucket);
            }
        }
        *self = fresh;
        Ok(())
    }

    /// How much more than its given weight a sample at `time` weighs. Moves the reference first where that would be
    /// too much.
    fn factor(&mut self, time: Timestamp) -> f64 {
        let limit = since_year_1(self.reference) + self.half_life.as_nanos() * MAX_EXPONENT;
        if since_year_1(Some(time)) > limit {
            self.move_reference(Some(time));
        }
        exp2(elapsed(Some(time), self.reference) / self.half_life.as_nanos() as f64)
    }

    /// Moves the reference to the multiple of the half-life nearest to `time` and scales the weights.
    fn move_reference(&mut self, time: Option<Timestamp>) {
        let moved = round_to_multiple(time, self.half_life.as_nanos());
        let exponent = (elapsed(self.reference, moved) / self.half_life.as_nanos() as f64 + 0.5).floor();
        self.scale(scale_by_power_of_two(1.0, exponent as i32));
        self.reference = moved;
    }

    /// Scales the buckets that have weight, and the total.
    fn scale(&mut self, factor: f64) {
        for bucket in self.min..=self.max {
            *self.slot(bucket) *= factor;
        }
        self.total *= factor;
        self.shrink();
    }

    /// Moves the first and last bucket inwards past those that count as empty.
    fn shrink(&mut self) {
        while self.min < self.buckets.last() && self.weight(self.min) < EPSILON {
            self.min += 1;
        }
        while self.max > 0 && self.weight(self.max) < EPSILON {
            self.max -= 1;
        }
    }

    /// The place of a bucket's weight; widens the window to it.
    fn slot(&mut self, bucket: usize) -> &mut f64 {
        if self.weights.is_empty() {
            self.offset = bucket;
        }
        if bucket < self.offset {
            let missing = self.offset - bucket;
            self.weights.splice(0..0, std::iter::repeat_n(0.0, missing));
            self.offset = bucket;
        }
        let slot = bucket - self.offset;
        if slot >= self.weights.len() {
            self.weights.reserve_exact(slot + 1 - self.weights.len());
            self.weights.resize(slot + 1, 0.0);
        }
        &mut self.weights[slot]
    }
}

/// `value - sub`, and 0 where that counts as empty.
fn less(value: f64, sub: f64) -> f64 {
    let rest = value - sub;
    if rest < EPSILON { 0.0 } else { rest }
}

fn since_year_1(time: Option<Timestamp>) -> i128 {
    time.map_or(0, |time| time.as_nanosecond() + YEAR_1_TO_1970_SECONDS * NANOS)
}

fn compare(a: Option<Timestamp>, b: Option<Timestamp>) -> Ordering {
    since_year_1(a).cmp(&since_year_1(b))
}

/// Nanoseconds from `b` to `a`, at most 292 years either way.
fn elapsed(a: Option<Timestamp>, b: Option<Timestamp>) -> f64 {
    (since_year_1(a) - since_year_1(b)).clamp(i64::MIN.into(), i64::MAX.into()) as f64
}

/// The multiple of `step` nanoseconds from year 1 nearest to `time`, the later one at equal distance.
fn round_to_multiple(time: Option<Timestamp>, step: i128) -> Option<Timestamp> {
    let since = since_year_1(time);
    let past = since.rem_euclid(step);
    let rounded = if past + past < step { since - past } else { since + step - past };
    if rounded == 0 {
        return None;
    }
    Timestamp::from_nanosecond(rounded - YEAR_1_TO_1970_SECONDS * NANOS).ok().or(time)
}
