//! Deviations of the updater cases.

use super::Deviation;

pub(super) const RULES: &[Deviation] = &[];
