//! The tree is tidy.

#[test]
fn no_rule_is_broken() {
    let report = xtask::tidy::report().unwrap();
    assert!(report.errors.is_empty(), "{}", report.errors.join("\n"));
}
