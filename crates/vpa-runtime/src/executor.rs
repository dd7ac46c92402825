//! Carrying out a plan: many independent writes, some at once, each with its own outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{Failure, Rate};
use crate::metrics::RuntimeMetrics;
use crate::pace::Pacer;

/// What became of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Done, with what it gave.
    Done(T),
    /// What is there is what is wanted; nothing was sent.
    Unchanged,
    /// The object, or its kind, is gone.
    NotFound,
    /// It changed under each attempt.
    Conflict,
    /// Not allowed, or refused by an admission check.
    Forbidden(String),
    /// Refused for now; an eviction by a disruption budget.
    TooMany(String),
    /// Will not be accepted as it is.
    Invalid(String),
    /// No answer, an error on the other side, or no answer in time.
    Failed(String),
    /// The deadline came before its turn.
    NotStarted,
    /// The program stops, or leadership is lost.
    Cancelled,
}

impl<T> Outcome<T> {
    /// Value of the metrics' label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Unchanged => "unchanged",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Forbidden(_) => "forbidden",
            Self::TooMany(_) => "too_many",
            Self::Invalid(_) => "invalid",
            Self::Failed(_) => "failed",
            Self::NotStarted => "not_started",
            Self::Cancelled => "cancelled",
        }
    }

    /// Why it was not done, for the log; `None` where it was, or needed not to be.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Done(_) | Self::Unchanged => None,
            Self::NotFound => Some("not found"),
            Self::Conflict => Some("changed under every attempt"),
            Self::Forbidden(text) | Self::TooMany(text) | Self::Invalid(text) | Self::Failed(text) => {
                Some(text)
            }
            Self::NotStarted => Some("the deadline came first"),
            Self::Cancelled => Some("stopping"),
        }
    }

    /// Whether it was done, or needed not to be.
    pub const fn is_ok(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Unchanged)
    }
}

impl<T> From<Failure> for Outcome<T> {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound => Self::NotFound,
            Failure::Conflict => Self::Conflict,
            Failure::Forbidden(text) => Self::Forbidden(text),
            Failure::TooMany(text) => Self::TooMany(text),
            Failure::Invalid(text) => Self::Invalid(text),
            Failure::Unavailable(text) => Self::Failed(text),
        }
    }
}

impl<T> From<Result<T, kube::Error>> for Outcome<T> {
    fn from(result: Result<T, kube::Error>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(error) => Failure::of(&error).into(),
        }
    }
}

/// What an attempt at a write says about another one.
#[derive(Debug)]
pub enum Attempt<T> {
    /// It is over.
    Over(Outcome<T>),
    /// The object changed since it was read; read it and try again.
    Conflict,
}

impl<T> From<Result<T, kube::Error>> for Attempt<T> {
    fn from(result: Result<T, kube::Error>) -> Self {
        match Outcome::from(result) {
            Outcome::Conflict => Self::Conflict,
            outcome => Self::Over(outcome),
        }
    }
}

/// Outcomes of a plan, in the order of its items.
#[derive(Debug)]
#[must_use]
pub struct Report<I, T> {
    /// Each item with its outcome.
    pub outcomes: Vec<(I, Outcome<T>)>,
}

impl<I, T> Report<I, T> {
    /// Number of items by outcome.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (_, outcome) in &self.outcomes {
            *counts.entry(outcome.label()).or_default() += 1;
        }
        counts
    }
}

/// Carries out plans under a name for metrics.
#[derive(Clone, Debug)]
pub struct Executor {
    plan: &'static str,
    pace: Pacer,
    rate: Option<Rate>,
    metrics: Arc<RuntimeMetrics>,
}

/// Attempts at a write that keeps meeting conflicts. Five others would have to write to the same object in between;
/// the next cycle is the better moment then.
const CONFLICT_ATTEMPTS: u32 = 5;

impl Executor {
    /// An executor with as many writes at once as the pace allows.
    pub fn new(plan: &'static str, pace: Pacer, metrics: Arc<RuntimeMetrics>) -> Self {
        Self { plan, pace, rate: None, metrics }
    }

    /// With a budget of writes over time.
    pub fn at_rate(self, rate: Rate) -> Self {
        Self { rate: Some(rate), ..self }
    }

    /// Carries out all items, begun in their order. `work` gets an item and the number of the attempt, from 0; on [`Attempt::Conflict`] it
    /// is called again after a short wait and has to read the object anew when the number is not 0.
    ///
    /// An item whose turn comes after `deadline`, or after `stop`, is not started; one that is at work then is given
    /// up at the deadline, but is finished after `stop`. A failure of one never touches the others, nor does a slow one hold
    /// up those behind it.
    pub async fn run<I, T, F, Fut>(
        &self,
        items: Vec<I>,
        deadline: Instant,
        stop: &CancellationToken,
        work: F,
    ) -> Report<I, T>
    where
        F: Fn(&I, u32) -> Fut,
        Fut: Future<Output = Attempt<T>>,
    {
        let work = &work;
        let queue = self.metrics.queue_length.with_label_values(&[self.plan]);
        let mut waiting = items.into_iter().enumerate();
        let mut running = FuturesUnordered::new();
        let mut outcomes: Vec<(usize, I, Outcome<T>)> = Vec::with_capacity(waiting.len());
        loop {
            let limit = self.pace.limit();
            self.metrics.workers.set(clamp(limit));
            let free = limit.saturating_sub(running.len());
            running.extend(waiting.by_ref().take(free).map(|(place, item)| async move {
                let outcome = self.one(&item, deadline, stop, work).await;
                self.metrics.writes.with_label_values(&[self.plan, outcome.label()]).inc();
                (place, item, outcome)
            }));
            queue.set(clamp(waiting.len()));
            let Some(done) = running.next().await else { break };
            outcomes.push(done);
        }
        outcomes.sort_by_key(|(place, ..)| *place);
        Report { outcomes: outcomes.into_iter().map(|(_, item, outcome)| (item, outcome)).collect() }
    }

    async fn one<I, T, F, Fut>(
        &self,
        item: &I,
        deadline: Instant,
        stop: &CancellationToken,
        work: &F,
    ) -> Outcome<T>
    where
        F: Fn(&I, u32) -> Fut,
        Fut: Future<Output = Attempt<T>>,
    {
        if let Some(rate) = &self.rate {
            tokio::select! {
                _ = rate.take() => {}
                () = tokio::time::sleep_until(deadline) => return Outcome::NotStarted,
                () = stop.cancelled() => return Outcome::Cancelled,
            }
        }
        for attempt in 0..CONFLICT_ATTEMPTS {
            if stop.is_cancelled() {
                return Outcome::Cancelled;
            }
            if Instant::now() >= deadline {
                return if attempt == 0 { Outcome::NotStarted } else { Outcome::Conflict };
            }
            match tokio::time::timeout_at(deadline, work(item, attempt)).await {
                Ok(Attempt::Over(outcome)) => return outcome,
                Ok(Attempt::Conflict) => self.metrics.conflicts.with_label_values(&[self.plan]).inc(),
                Err(_) => return Outcome::Failed("no answer before the deadline".to_owned()),
            }
            // Long enough for the other writer to finish, short against a cycle.
            tokio::time::sleep(Duration::from_millis(20 << attempt) + jitter(Duration::from_millis(20)))
                .await;
        }
        Outcome::Conflict
    }
}

fn clamp(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A wait between nothing and `most`, different each time, so that many waiters do not move in step.
pub fn jitter(most: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's hash seeds are random enough for this, and no dependency is needed.
    let random = RandomState::new().hash_one(0u8);
    most.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests;
