//! vpa-updater
fn main() {}
