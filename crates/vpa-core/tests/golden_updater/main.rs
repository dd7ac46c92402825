//! The updater's decisions against the golden cases.
//!
//! Fallback timers are kept by pod UID and attempt here, by name and for ever in the reference, so they are compared
//! where both have one: for pods that are in a resize. Texts of refusals that come from inside the reference, not from
//! the API, are its own; that a step is refused is compared.

// Helpers outside of test functions; what they panic on is a case that does not have its form.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod inputs;
mod lease;
mod passes;
mod units;

use golden::Suite;

#[test]
fn golden_updater() {
    let mut suite = Suite::new("updater");
    suite.section("priority.json", "cases", units::priority);
    suite.section("update_order.json", "cases", units::update_order);
    suite.section("eviction.json", "cases", units::eviction);
    suite.section("inplace.json", "cases", units::in_place);
    suite.section("resize_patch.json", "cases", units::resize_patches);
    suite.section("startup_boost.json", "cases", units::startup_boost);
    suite.section("lease_check.json", "cases", lease::check);
    suite.section("loop.json", "cases", passes::check);
    suite.finish();
}
