//! Test bed for the suite: a cluster, the three programs as processes against it, and scenarios.
//!
//! ```text
//! runner ── runs scenarios side by side, each with a Bed
//! bed ───── gives a scenario its cluster: an embedded one of its own, or the shared real one
//! cluster ─ namespaces, workloads, VPAs, waiting, and starting the programs with the chart's rights (access)
//! control_plane ─ etcd, kube-apiserver, kube-controller-manager; found or built by tools
//! bench ─── figures of the three programs, on control planes of their own
//! demo ──── the demonstration, on a cluster of the same making
//! process, guard ─ started programs, and that none outlives the run
//! ```

pub mod access;
pub mod bed;
pub mod bench;
pub mod chart;
pub mod cluster;
pub mod control_plane;
pub mod demo;
pub mod error;
pub mod guard;
pub mod kubeconfig;
pub mod launch;
pub mod pki;
pub mod pods;
pub mod ports;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod runner;
pub mod tools;
pub mod wait;
pub mod workload;
