//! The reviews that are sent: those of pods as the ReplicaSet controller creates them, in the bytes of an API server.
//!
//! One request is encoded once; for each review only what differs is written over it, all of it of fixed width.

use std::io::Write as _;

use serde_json::Value;

use crate::bench::fleet;
use crate::error::{Error, Result};

/// A review, with [`TOKENS`] for what differs. The microbench of the core reads the same file.
const TEXT: &str = include_str!("../../../../crates/vpa-core/benches/review.json");

/// Namespace of all objects and reviews.
pub(super) const NAMESPACE: &str = "bench-reviews";

/// What stands in the text for a workload's name, for the hash of its template, and for the review's own identity.
const TOKENS: [&str; 3] = ["WORKLOAD-NAME", "TEMPLATE#", "REVIEW-UID-REVIEW-UID-REVIEW-UID-REV"];

/// A request that becomes that of any workload.
#[derive(Clone, Debug)]
pub(super) struct Review {
    request: Vec<u8>,
    /// Length of the request's head.
    head: usize,
    /// Places of each token.
    places: [Vec<usize>; 3],
}

impl Review {
    /// A request to a webhook on this port of loopback.
    ///
    /// # Errors
    /// If the text has a token nowhere.
    pub(super) fn new(port: u16) -> Result<Self> {
        let body = compact(TEXT);
        // As client-go sends it.
        let head = format!(
            "POST /?timeout=10s HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: kube-apiserver-admission\r\n\
             Content-Length: {}\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\n\
             Accept-Encoding: gzip\r\n\r\n",
            body.len()
        );
        let text = format!("{head}{body}");
        let places =
            TOKENS.map(|token| text.match_indices(token).map(|(place, _)| place).collect::<Vec<_>>());
        if let Some((token, _)) = TOKENS.iter().zip(&places).find(|(_, places)| places.is_empty()) {
            return Err(Error::expectation(format!("the review's text holds no {token}")));
        }
        Ok(Self { request: text.into_bytes(), head: head.len(), places })
    }

    /// Makes it the review with this number, of a pod of this workload.
    pub(super) fn set(&mut self, workload: usize, number: usize) {
        let values = [fleet::name(workload), fleet::hash(workload), uid(number)];
        for (value, places) in values.iter().zip(&self.places) {
            for place in places {
                // Fits: names and numbers have the width of their tokens, which a test holds.
                let _ = (&mut self.request[*place..]).write_all(value.as_bytes());
            }
        }
    }

    /// The request, head and body.
    pub(super) fn request(&self) -> &[u8] {
        &self.request
    }

    /// The review in it.
    pub(super) fn body(&self) -> Result<Value> {
        let body = serde_json::from_slice(&self.request[self.head..]);
        body.map_err(|error| Error::expectation(format!("the review is not JSON: {error}")))
    }
}

/// Identity of a review.
fn uid(number: usize) -> String {
    format!("5a1c83e0-7d24-4f6b-9c15-{:012x}", number & 0xFFFF_FFFF_FFFF)
}

/// JSON without blanks between its tokens, in its own order.
fn compact(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            let kept = quoted || !c.is_ascii_whitespace();
            quoted ^= *c == '"' && !escaped;
            escaped = quoted && *c == '\\' && !escaped;
            kept
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_that_of_its_workload_and_nothing_else_changes() {
        let mut review = Review::new(443).unwrap();
        let length = review.request().len();
        for (workload, number) in [(0, 0), (99_999, usize::MAX), (7, 8)] {
            review.set(workload, number);
            assert_eq!(review.request().len(), length);
            let body = review.body().unwrap();
            let pod = &body["request"]["object"];
            let (name, hash) = (fleet::name(workload), fleet::hash(workload));
            assert_eq!(body["request"]["uid"], uid(number));
            assert_eq!(body["request"]["namespace"], NAMESPACE);
            assert_eq!(pod["metadata"]["labels"]["app"], name);
            assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], format!("{name}-{hash}"));
            assert_eq!(pod["spec"]["containers"][0]["name"], fleet::CONTAINER);
        }
        for (token, text) in TOKENS.iter().zip([fleet::name(1), fleet::hash(1), uid(1)]) {
            assert_eq!(token.len(), text.len(), "{token}");
        }
    }

    #[test]
    fn blanks_within_texts_are_kept() {
        let json = "{ \"a b\" :\n [ \"c \\\" d\", 1 ] }";
        assert_eq!(compact(json), "{\"a b\":[\"c \\\" d\",1]}");
    }
}
