//! Waiting for something to become true, with a deadline and the last thing seen.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How often a wait looks: often against what it waits for, rare against what a look costs the API server.
const POLL: Duration = Duration::from_millis(100);

/// What one look found.
#[derive(Debug)]
pub enum Seen<T> {
    /// What was waited for.
    Done(T),
    /// Not yet; what is there instead, for the failure's text.
    Not(String),
}

/// Looks until it is there.
///
/// # Errors
/// [`Error::Timeout`] with what was last seen, or the error of a look that failed (it is not tried again: every look
/// goes to an API server on loopback).
pub async fn wait_for<T, F, Fut>(what: impl Into<String>, deadline: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Seen<T>>>,
{
    let started = Instant::now();
    loop {
        match look().await? {
            Seen::Done(value) => return Ok(value),
            Seen::Not(last) if started.elapsed() >= deadline => {
                return Err(Error::Timeout { what: what.into(), waited: deadline, last });
            }
            Seen::Not(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Looks for as long as `period` and fails as soon as `look` finds a violation.
///
/// # Errors
/// [`Error::Expectation`] with `what` and the violation, or the error of a look that failed.
pub async fn stays<F, Fut>(what: impl Into<String>, period: Duration, mut look: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<String>>>,
{
    let started = Instant::now();
    while started.elapsed() < period {
        if let Some(violation) = look().await? {
            let after = started.elapsed().as_millis();
            return Err(Error::expectation(format!("{}: after {after} ms {violation}", what.into())));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn timeout_tells_what_was_last_seen() {
        let error = wait_for::<(), _, _>("rain", Duration::from_millis(1), || async {
            Ok(Seen::Not("sunshine".to_owned()))
        })
        .await
        .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("rain") && text.contains("sunshine"), "{text}");
    }

    #[tokio::test]
    async fn a_violation_ends_the_watch_at_once() {
        let error = stays("dry", Duration::from_secs(60), || async { Ok(Some("it rained".to_owned())) })
            .await
            .unwrap_err();
        assert!(error.to_string().contains("it rained"));
    }
}
