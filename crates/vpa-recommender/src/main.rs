//! vpa-recommender
fn main() {}
