//! The flag reference is fresh, and the programs take every flag of the Go suite.

use xtask::flags;

#[test]
fn the_reference_is_fresh() {
    flags::run(true).unwrap();
}

#[test]
fn every_flag_of_the_go_suite_is_taken() {
    let missing = flags::missing();
    assert!(missing.is_empty(), "not taken: {missing:#?}");
}
