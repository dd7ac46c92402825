//! Deviations of the quantity cases.

use super::Deviation;

pub(super) const RULES: &[Deviation] = &[];
