//! Kinds of requests, which differ in what a failure means.

use std::time::Duration;

use http::{Method, Request};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Get or list.
    Read,
    /// A watch: its answer lasts for minutes.
    Watch,
    /// A patch.
    Patch,
    /// A replacement of a whole object, with its resource version as the condition.
    Replace,
    /// A creation.
    Create,
    /// An eviction: 429 means that a disruption budget says no, which waiting for milliseconds does not change.
    Evict,
    /// A deletion.
    Delete,
}

impl CallKind {
    /// Kind of a request.
    pub fn of<B>(request: &Request<B>) -> Self {
        let uri = request.uri();
        let watches = || {
            uri.query().is_some_and(|query| {
                query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"))
            })
        };
        match *request.method() {
            Method::GET if watches() => Self::Watch,
            Method::PATCH => Self::Patch,
            Method::PUT => Self::Replace,
            Method::POST if uri.path().ends_with("/eviction") => Self::Evict,
            Method::POST => Self::Create,
            Method::DELETE => Self::Delete,
            _ => Self::Read,
        }
    }

    /// Value of the metrics' label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Watch => "watch",
            Self::Patch => "patch",
            Self::Replace => "replace",
            Self::Create => "create",
            Self::Evict => "evict",
            Self::Delete => "delete",
        }
    }

    /// Attempts in all. A read that fails holds up a whole cycle, so it gets the most; a watch is taken up again by its
    /// store; leases and evictions are tried again by those who know when.
    pub(super) const fn attempts_max(self) -> u32 {
        match self {
            Self::Read => 5,
            Self::Patch => 4,
            Self::Create | Self::Delete => 3,
            Self::Watch | Self::Replace | Self::Evict => 1,
        }
    }

    /// Whether an answer of this code is worth another attempt. After 429 nothing was done. A patch may be sent
    /// twice, since it says what should be; a creation and a deletion may not when they might have been done.
    pub(super) const fn retries_code(self, code: u16) -> bool {
        match self {
            Self::Read => matches!(code, 429 | 500 | 502 | 503 | 504),
            Self::Patch => matches!(code, 429 | 502 | 503 | 504),
            Self::Create | Self::Delete => code == 429,
            Self::Watch | Self::Replace | Self::Evict => false,
        }
    }

    /// Whether an attempt that got no answer is worth another.
    pub(super) const fn retries_silence(self) -> bool {
        matches!(self, Self::Read | Self::Patch)
    }

    /// Whether its answer counts for the pace of writes. Reads are few and as long as what they bring; leases and watches
    /// have nothing to do with it.
    pub(super) const fn sets_the_pace(self) -> bool {
        matches!(self, Self::Patch | Self::Create | Self::Evict | Self::Delete)
    }

    /// Longest time of one attempt, to the end of the answer; none for a watch, whose head is bounded instead.
    /// 60 s is the API server's own limit on a request; an attempt that takes half of it comes from a server that is
    /// not well, or is a page of a list that is larger than the pages asked for here.
    pub(super) const fn deadline(self) -> Duration {
        match self {
            // A lease that is not renewed within 10 s is lost, so a hanging attempt has to leave time for a second.
            Self::Replace => Duration::from_secs(5),
            // Validation webhooks of others may take up to 30 s.
            Self::Read | Self::Patch | Self::Create | Self::Evict | Self::Delete => Duration::from_secs(35),
            Self::Watch => Duration::from_secs(35),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_tells_its_kind() {
        let cases = [
            (Method::GET, "/api/v1/pods?limit=500", CallKind::Read),
            (Method::GET, "/api/v1/pods?watch=true&resourceVersion=5", CallKind::Watch),
            (Method::GET, "/api/v1/pods?labelSelector=watch%3Dtrue", CallKind::Read),
            (Method::PATCH, "/api/v1/namespaces/a/pods/b/resize", CallKind::Patch),
            (Method::POST, "/api/v1/namespaces/a/pods/b/eviction?", CallKind::Evict),
            (Method::POST, "/api/v1/namespaces/a/events", CallKind::Create),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", CallKind::Replace),
            (Method::DELETE, "/x", CallKind::Delete),
        ];
        for (method, uri, kind) in cases {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            assert_eq!(CallKind::of(&request), kind, "{uri}");
        }
    }
}
