//! Cases of the admission controller's lease.

use golden::expect;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use serde::Deserialize;
use serde_json::Value;
use vpa_core::update::{Heartbeat, READ_RETRY_WAITS, is_retryable};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Case {
    now: Timestamp,
    lease: Option<Lease>,
    lease_name: String,
    lease_namespace: String,
    lease_timeout_seconds: i64,
    use_admission_controller_status: Option<bool>,
    #[serde(default)]
    get_errors: Vec<Value>,
    want: Want,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Want {
    loop_runs: bool,
    lease_reads: usize,
    elapsed_ms: i64,
}

pub(crate) fn check(case: &Case) -> Result<(), String> {
    let (heartbeat, reads, elapsed) = read(case);
    let now = case.now.checked_add(elapsed).unwrap();
    expect("leaseReads", &case.want.lease_reads, &reads)?;
    expect("elapsedMs", &case.want.elapsed_ms, &(elapsed.as_millis() as i64))?;
    expect("loopRuns", &case.want.loop_runs, &heartbeat.is_valid(now))
}

/// Reads the lease as the program does, with its waits on a clock that is set by hand.
fn read(case: &Case) -> (Heartbeat, usize, SignedDuration) {
    let mut elapsed = SignedDuration::ZERO;
    if case.use_admission_controller_status == Some(false) {
        return (Heartbeat::NotUsed, 0, elapsed);
    }
    for read in 0.. {
        if let Some(error) = case.get_errors.get(read) {
            let number = |pointer: &str| error.pointer(pointer).and_then(Value::as_u64);
            let code = number("/code").unwrap_or_default() as u16;
            let retry_after = number("/details/retryAfterSeconds").map(|seconds| seconds as u32);
            match READ_RETRY_WAITS.get(read) {
                Some(wait) if is_retryable(code, retry_after) => elapsed += *wait,
                _ => return (Heartbeat::Missing(error["message"].to_string()), read + 1, elapsed),
            }
            continue;
        }
        let found = case.lease.as_ref().filter(|lease| {
            lease.metadata.name.as_deref() == Some(&case.lease_name)
                && lease.metadata.namespace.as_deref() == Some(&case.lease_namespace)
        });
        let timeout = SignedDuration::from_secs(case.lease_timeout_seconds);
        let missing = || Heartbeat::Missing("the lease does not exist".to_owned());
        return (found.map_or_else(missing, |lease| Heartbeat::of(lease, timeout)), read + 1, elapsed);
    }
    unreachable!("the loop ends with the last wait")
}
