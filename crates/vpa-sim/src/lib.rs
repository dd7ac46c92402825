//! A cluster in one process, to try programs on that scale and move workloads.
//!
//! * [`ApiServer`] serves the Kubernetes API over HTTP on loopback, with all objects in memory.

mod server;

pub use server::{
    ApiServer, ContainerUsage, ExternalValue, Fault, FaultAction, MetricsTable, Options, PodUsage, Running,
    ServerError,
};
