//! How carefully the updater goes about it: limits per hour, nodes, small steps, restarts, what it tells, and whose turn
//! it is. All over whole passes.

// Helpers outside of test functions; what they panic on is a broken test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../updater_world/mod.rs"]
mod updater_world;

mod hourly_limits;
mod memory_limits;
mod nodes;
mod replacements;
mod restarts;
mod small_steps;
mod told;
mod turns;
