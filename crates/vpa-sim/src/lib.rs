//! A cluster in one process, to try programs on that scale and move workloads.
//!
//! * [`ApiServer`] serves the Kubernetes API over HTTP on loopback, with all objects in memory.
//! * [`simulate`] is everything that moves: workload controllers, scheduler, kubelets, and programs that use CPU and
//!   memory. It acts through the API alone, so it also moves a real kube-apiserver.
//! * [`metrics_api`] tells what containers use, as metrics-server does.

pub mod metrics_api;
mod server;
pub mod simulate;

pub use server::{
    ApiServer, ExternalMetrics, ExternalValue, Fault, FaultAction, Options, Running, ServerError,
};
