//! Models and decisions of the suite, without I/O, clock, environment or Kubernetes client.
//!
//! Time comes in as an argument, and so does everything else: a program takes a snapshot, asks for a plan, carries it
//! out and feeds back what happened.

pub mod admit;
pub mod leader;
pub mod limiter;
pub mod model;
pub mod pace;
pub mod policy;
pub mod recommend;
pub mod target;
pub mod update;
