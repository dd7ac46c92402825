//! vpa-admission-controller
fn main() {}
