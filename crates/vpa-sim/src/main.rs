//! vpa-sim
fn main() {}
