//! Leases: leader election among replicas, and the heartbeat by which the updater knows that the admission controller is
//! alive.

mod election;
mod heartbeat;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;
use vpa_core::leader::Record;

pub use election::Leadership;
pub(crate) use election::lead;
pub use heartbeat::{HeartbeatReader, HeartbeatState, HeartbeatWriter};

/// Longest time of a single read or write of a lease. Two of them fit into the renew deadline of 10 s.
const CALL_MAX: Duration = Duration::from_secs(5);

/// A name for this process that no other one has: the host (in a cluster the pod) and a random part.
pub fn identity() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{}_{:016x}{:016x}", host_name(), random(), random())
}

/// Name of the host; in a cluster the name of the pod.
pub fn host_name() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown-host".to_owned())
}

fn record_of(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration_seconds: spec.lease_duration_seconds.unwrap_or_default(),
        acquired: spec.acquire_time.map(|MicroTime(time)| time),
        renewed: spec.renew_time.map(|MicroTime(time)| time),
        transitions: spec.lease_transitions.unwrap_or_default(),
        resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// The lease to write for a record. What is not ours to say (labels, owners) stays as it was `before`.
fn lease_of(record: &Record, before: Option<Lease>, namespace: &str, name: &str) -> Lease {
    let mut lease = before.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    lease.metadata.resource_version =
        Some(record.resource_version.clone()).filter(|version| !version.is_empty());
    lease.metadata.managed_fields = None;
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(record.holder.clone());
    spec.lease_duration_seconds = Some(record.duration_seconds);
    spec.acquire_time = record.acquired.map(MicroTime);
    spec.renew_time = record.renewed.map(MicroTime);
    spec.lease_transitions = Some(record.transitions);
    lease
}

#[cfg(test)]
mod tests;
