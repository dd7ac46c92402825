//! Admission against the golden cases: reviews go through the real router, single rules through the core.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod cluster;
mod functions;
mod reviews;
mod sound;

#[test]
fn golden_admission() {
    let mut suite = golden::Suite::new("admission");
    for file in ["pod_admission.json", "pod_admission_random.json", "vpa_validation.json", "matching.json"] {
        suite.section(file, "cases", reviews::review);
    }
    suite.section("malformed.json", "cases", reviews::http);
    suite.section("capping.json", "cases", functions::capping);
    suite.section("scaling.json", "cases", functions::scaling);
    suite.finish();
}
