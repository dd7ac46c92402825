//! Test bed for the suite: a cluster, the three programs as processes against it, and scenarios.

pub mod chart;
pub mod control_plane;
pub mod error;
pub mod guard;
pub mod kubeconfig;
pub mod pki;
pub mod process;
pub mod runner;
pub mod tools;
pub mod wait;
