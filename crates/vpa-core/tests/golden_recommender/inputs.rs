//! Usage samples and OOM kills.

use golden::expect;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde::Deserialize;
use vpa_api::ResourceList;
use vpa_core::model::ContainerId;
use vpa_core::model::ObservedPod;
use vpa_core::model::oom::{Oom, ooms_of_event, ooms_of_pod};
use vpa_core::model::usage::amounts;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    usage: ResourceList,
    cpu_millicores: Option<i64>,
    memory_bytes: Option<i64>,
}

pub(crate) fn usage(case: &Usage) -> Result<(), String> {
    let got = amounts(&case.usage);
    expect("cpu", &case.cpu_millicores, &got.cpu_millicores)?;
    expect("memory", &case.memory_bytes, &got.memory_bytes)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    namespace: String,
    pod: String,
    container: String,
    memory_bytes: i64,
    time: Timestamp,
}

#[derive(Deserialize)]
pub(crate) struct PodUpdate {
    old: ObservedPod,
    new: ObservedPod,
    ooms: Vec<Record>,
}

#[derive(Deserialize)]
pub(crate) struct Eviction {
    event: Event,
    ooms: Vec<Record>,
}

fn compare(want: &[Record], got: Vec<Oom>) -> Result<(), String> {
    let want: Vec<_> = want
        .iter()
        .map(|r| (ContainerId::new(&r.namespace, &r.pod, &r.container), r.time, r.memory_bytes))
        .collect();
    let got: Vec<_> = got.into_iter().map(|oom| (oom.container, oom.time, oom.requested_bytes)).collect();
    expect("OOM kills", &want, &got)
}

pub(crate) fn pod_update(case: &PodUpdate) -> Result<(), String> {
    compare(&case.ooms, ooms_of_pod(Some(&case.old), &case.new))
}

pub(crate) fn eviction(case: &Eviction) -> Result<(), String> {
    compare(&case.ooms, ooms_of_event(&case.event))
}
