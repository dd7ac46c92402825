//! Exponential buckets: each is wider than the one before by the same ratio.

use std::sync::LazyLock;

use super::math::{ln, powi};

/// Ratio of the widths of neighbouring buckets. Part of the checkpoint format.
const RATIO: f64 = 1.05;

/// Weight below which a bucket counts as empty: a thousandth of the lightest sample, so that samples at the end of the
/// history still count. Part of the checkpoint format.
pub const EPSILON: f64 = 0.000_1;

/// Buckets for CPU usage in cores: from 10 millicores to 1000 cores.
pub static CPU: LazyLock<Buckets> = LazyLock::new(|| Buckets::new(1000.0, 0.01, RATIO));

/// Buckets for memory in bytes: from 10 MB to 1 TB.
pub static MEMORY: LazyLock<Buckets> = LazyLock::new(|| Buckets::new(1e12, 1e7, RATIO));

/// A scheme of buckets.
#[derive(Debug, PartialEq)]
pub struct Buckets {
    first_width: f64,
    ratio: f64,
    starts: Vec<f64>,
}

impl Buckets {
    /// Buckets that cover 0 to `max`, the first `first_width` wide. All three must be positive and `ratio` above 1,
    /// with few enough buckets to number them in 8 bits; the two schemes above are the only ones there are.
    fn new(max: f64, first_width: f64, ratio: f64) -> Self {
        let count = (ln(max * (ratio - 1.0) / first_width + 1.0) / ln(ratio)).ceil() as i32 + 1;
        let starts = (0..count)
            .map(|n| if n == 0 { 0.0 } else { first_width * (powi(ratio, n) - 1.0) / (ratio - 1.0) })
            .collect();
        Self { first_width, ratio, starts }
    }

    /// Number of buckets.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Number of the last bucket.
    pub fn last(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bucket that holds a value; the first or last one for values outside the scheme.
    ///
    /// It is computed, not searched: the start of a bucket mostly falls into the bucket below it.
    pub fn find(&self, value: f64) -> usize {
        if value.is_nan() || value < self.first_width {
            return 0;
        }
        let bucket = ln(value * (self.ratio - 1.0) / self.first_width + 1.0) / ln(self.ratio);
        (bucket as usize).min(self.last())
    }

    /// Where a bucket starts; the last one for numbers outside the scheme.
    pub fn start(&self, bucket: usize) -> f64 {
        self.starts[bucket.min(self.last())]
    }
}
