//! Deviations of the recommender cases.

use super::Deviation;

pub(super) const RULES: &[Deviation] = &[];
