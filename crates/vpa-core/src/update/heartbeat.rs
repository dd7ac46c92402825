//! Whether the admission controller lives: without it an evicted pod comes back as it was, so nothing is evicted.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;

/// State of the admission controller as its lease tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// It is not asked for (`--use-admission-controller-status=false`).
    NotUsed,
    /// Good until this time (exclusive).
    ValidUntil(Timestamp),
    /// The lease is missing, could not be read or is of no use, for this reason.
    Missing(String),
}

impl Heartbeat {
    /// Reads the lease: it is good for `timeout` after its last renewal, and after its creation, since the admission
    /// controller creates it without a renewal.
    pub fn of(lease: &Lease, timeout: SignedDuration) -> Self {
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
        let created = lease.metadata.creation_timestamp.as_ref().map(|time| time.0);
        match renewed.max(created) {
            Some(last) => Self::ValidUntil(last.saturating_add(timeout).unwrap_or(Timestamp::MAX)),
            None => Self::Missing("its lease has neither a renew time nor a creation time".to_owned()),
        }
    }

    /// Whether it may be relied on at this time.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.problem(now).is_none()
    }

    /// Why it may not be relied on at this time; `None` where it may.
    pub fn problem(&self, now: Timestamp) -> Option<String> {
        match self {
            Self::NotUsed => None,
            Self::ValidUntil(until) if now < *until => None,
            Self::ValidUntil(until) => Some(format!("its lease ran out at {until}")),
            Self::Missing(why) => Some(why.clone()),
        }
    }
}

/// Waits between the reads of a lease that cannot be read for the moment. There is one read more than waits: the next
/// pass comes soon anyway.
pub const READ_RETRY_WAITS: [SignedDuration; 2] =
    [SignedDuration::from_millis(100), SignedDuration::from_millis(300)];

/// Whether reading the lease again may help: for an overloaded or failing API server, not for a refusal. A server that
/// says when to come back is asked again whatever the code.
pub fn is_retryable(code: u16, retry_after_seconds: Option<u32>) -> bool {
    matches!(code, 429 | 500 | 504) || retry_after_seconds.is_some_and(|seconds| seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_lease_is_no_heartbeat() {
        let heartbeat = Heartbeat::of(&Lease::default(), SignedDuration::from_mins(1));
        assert!(!heartbeat.is_valid(Timestamp::UNIX_EPOCH));
    }
}
