//! Load on a webhook: connections that each send the next review when the last one is answered.

use std::io;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::client::{Connection, Target};
use super::review::Review;
use crate::bench::os::Usage;
use crate::error::{Error, Result};

/// Step from one review's workload to the next: a prime, so that all are met in an order in which they were not made.
const STRIDE: usize = 7919;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Connections at once.
    pub(super) connections: usize,
    /// Time that does not count, then time that does.
    pub(super) times: (Duration, Duration),
    /// Workloads over which the reviews are spread.
    pub(super) workloads: usize,
    /// Number of the first review.
    pub(super) first: usize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Reviews answered.
    pub(super) reviews: usize,
    /// How long it took.
    pub(super) took: Duration,
    /// CPU time of the program.
    pub(super) cpu: Duration,
    /// Time of each review, sorted.
    times: Vec<Duration>,
}

impl Load {
    /// Reviews in a second.
    pub(super) fn rate(&self) -> f64 {
        self.reviews as f64 / self.took.as_secs_f64()
    }

    /// CPU time of a review, in seconds.
    pub(super) fn cpu(&self) -> f64 {
        self.cpu.as_secs_f64() / self.reviews as f64
    }

    /// Time within which this part of the reviews was answered, in seconds.
    pub(super) fn percentile(&self, part: f64) -> f64 {
        let place = (self.times.len() as f64 * part).ceil() as usize;
        self.times.get(place.saturating_sub(1)).map_or(0.0, Duration::as_secs_f64)
    }
}

/// Sends reviews to a program; blocks for as long as it takes.
///
/// # Errors
/// If a connection fails, or an answer is not one that admits the pod with a patch.
pub(super) fn run(name: &str, process: u32, target: &Target, shape: Shape) -> Result<Load> {
    let failed = |error: io::Error| Error::expectation(format!("{name} under load: {error}"));
    let (ready, go) = (Barrier::new(shape.connections + 1), Barrier::new(shape.connections + 1));
    let mut sources = Vec::new();
    for lane in 0..shape.connections {
        sources.push(Source::open(target, shape, lane)?);
    }
    std::thread::scope(|scope| {
        let lanes: Vec<_> = sources
            .into_iter()
            .map(|mut source| {
                let (ready, go) = (&ready, &go);
                scope.spawn(move || {
                    // Both are passed whatever happens, as all others wait at them too.
                    let warmed = source.send_for(shape.times.0);
                    ready.wait();
                    go.wait();
                    warmed.and_then(|_| source.send_for(shape.times.1))
                })
            })
            .collect();
        ready.wait();
        let before = Usage::of(process);
        let began = Instant::now();
        go.wait();
        let mut times = Vec::new();
        for lane in lanes {
            let lane = lane.join().map_err(|_| Error::expectation("a connection's thread panicked"))?;
            times.extend(lane.map_err(failed)?);
        }
        let took = began.elapsed();
        let cpu = Usage::of(process)? - before?;
        times.sort_unstable();
        Ok(Load { reviews: times.len(), took, cpu, times })
    })
}

/// One connection with its part of the reviews.
struct Source {
    connection: Connection,
    review: Review,
    shape: Shape,
    /// Number of the next review.
    next: usize,
}

impl Source {
    fn open(target: &Target, shape: Shape, lane: usize) -> Result<Self> {
        let connection = target.connect().map_err(|error| {
            Error::expectation(format!("a webhook on port {} cannot be reached: {error}", target.port()))
        })?;
        Ok(Self { connection, review: Review::new(target.port())?, shape, next: shape.first + lane })
    }

    fn send_for(&mut self, time: Duration) -> io::Result<Vec<Duration>> {
        let end = Instant::now() + time;
        let mut times = Vec::new();
        loop {
            self.review.set(self.next * STRIDE % self.shape.workloads, self.next);
            self.next += self.shape.connections;
            let sent = Instant::now();
            if sent >= end {
                return Ok(times);
            }
            let answer = self.connection.exchange(self.review.request())?;
            times.push(sent.elapsed());
            if !answer.patches() {
                let text = format!("an answer of status {} without a patch: {}", answer.status, answer.body);
                return Err(io::Error::other(text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times = (1..=100).map(Duration::from_millis).collect();
        let second = Duration::from_secs(1);
        let load = Load { reviews: 100, took: second, cpu: second, times };
        assert_eq!((load.rate(), load.cpu()), (100.0, 0.01));
        assert_eq!((load.percentile(0.5), load.percentile(0.99), load.percentile(1.0)), (0.05, 0.099, 0.1));
    }
}
