//! Deviations of the admission cases.

use super::Deviation;

pub(super) const RULES: &[Deviation] = &[];
