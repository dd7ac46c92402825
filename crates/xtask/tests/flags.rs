//! The flag reference is fresh, and the programs take every flag of the Go suite but those listed as open.

use xtask::flags;

#[test]
fn the_reference_is_fresh() {
    flags::run(true).unwrap();
}

#[test]
fn every_flag_of_the_go_suite_is_taken_or_listed_as_open() {
    let open: Vec<&str> =
        include_str!("../data/flags-open.txt").lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(flags::missing(), open, "left: what is not taken; right: crates/xtask/data/flags-open.txt");
}
