//! One recommender on one fleet, from its start to the end of its steady cycles.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::os::Usage;
use super::progress::{Done, Progress};
use super::requests::Writes;
use super::stage::Stage;
use super::subject::{Subject, Suite};
use crate::error::{Error, Result};
use crate::process::Process;

/// Longest time until all is recommended and checkpointed. The Go suite takes 4 min for 2,700 VPAs on an idle machine.
const COMPLETE_MAX: Duration = Duration::from_secs(20 * 60);

/// Longest time until the first cycle begins, or the next one. The Go suite's begins one interval after its start.
const CYCLE_MAX: Duration = Duration::from_secs(10 * 60);

/// How often it is seen to that everything still runs.
const CHECK: Duration = Duration::from_millis(500);

/// How long to look.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Time between two cycles; none for the default.
    pub interval: Option<Duration>,
    /// Whole cycles from the start on whose CPU time counts.
    pub first_cycles: usize,
    /// Cycles of steady state after everything was written once.
    pub steady_cycles: usize,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Trial {
    /// From the process's start to the first reading of usage.
    pub until_first_cycle: Duration,
    /// From the first reading of usage to the last first recommendation.
    pub recommended: Duration,
    /// From there to the last first checkpoint.
    pub checkpointed: Duration,
    /// Use of memory and CPU by then.
    pub complete: Usage,
    /// At the end of the first cycles.
    pub first_cycles: Option<Usage>,
    /// Over the steady cycles.
    pub steady: Option<Steady>,
}

/// The steady state.
#[derive(Clone, Debug)]
pub struct Steady {
    /// Number of cycles.
    pub cycles: usize,
    /// How long they took.
    pub took: Duration,
    /// What was written.
    pub writes: Writes,
    /// CPU time.
    pub cpu: Duration,
    /// At the end.
    pub end: Usage,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { until_first_cycle, recommended, checkpointed, complete, first_cycles, steady } = self;
        let seconds = |time: &Duration| time.as_secs_f64();
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let usage = |usage: &Usage| {
            let (now, peak) = (megabytes(usage.resident), megabytes(usage.peak));
            format!("{:.2} s of CPU, {now:.1} MB resident, at most {peak:.1} MB", seconds(&usage.cpu))
        };
        write!(f, "first cycle after {:.1} s; ", seconds(until_first_cycle))?;
        write!(
            f,
            "recommended {:.1} s, checkpointed {:.1} s after its beginning: ",
            seconds(recommended),
            seconds(checkpointed)
        )?;
        f.write_str(&usage(complete))?;
        if let Some(found) = first_cycles {
            write!(f, "; after the first cycles {}", usage(found))?;
        }
        if let Some(Steady { cycles, took, writes, cpu, end }) = steady {
            write!(f, "; {cycles} steady cycles in {:.0} s: {:.2} s of CPU, ", seconds(took), seconds(cpu))?;
            write!(f, "{:?}, {} refused; at the end {}", writes.done, writes.refused, usage(end))?;
        }
        Ok(())
    }
}

/// The beginning of a cycle: usage was read.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    usage: Usage,
}

/// Runs it.
///
/// # Errors
/// If something ends by itself, or nothing happens for long.
pub async fn run(stage: &mut Stage, subject: &Subject, length: Length) -> Result<Trial> {
    let progress = Progress::follow(&stage.client());
    let mut readings = stage.metrics().readings();
    readings.mark_unchanged();
    let log = stage.logs().join(format!("{}-{}.log", subject.name(), stage.fleet().vpas));
    let started = Instant::now();
    let process = subject.start(stage.kubeconfig(), length.interval, &log)?.process;
    let mut running = Running { stage, process, readings, marks: Vec::new() };
    let trial = running.look(subject, &progress, started, length).await?;
    // Not waited for: how it ends is not measured.
    running.process.kill();
    Ok(trial)
}

struct Running<'a> {
    stage: &'a mut Stage,
    process: Process,
    readings: watch::Receiver<u64>,
    marks: Vec<Mark>,
}

impl Running<'_> {
    async fn look(
        &mut self,
        subject: &Subject,
        progress: &Progress,
        started: Instant,
        length: Length,
    ) -> Result<Trial> {
        let first = self.cycle(1).await?.at;
        self.complete(progress, first).await?;
        let complete = Usage::of(self.process.id())?;
        let since =
            |done: Done| done.last.map_or(Duration::ZERO, |last| last.saturating_duration_since(first));
        let (recommended, checkpointed) = (since(progress.recommended()), since(progress.checkpointed()));
        let mut first_cycles = None;
        if length.first_cycles > 0 {
            // They end where the next one begins.
            first_cycles = Some(self.cycle(length.first_cycles + 1).await?.usage);
        }
        let mut steady = None;
        if length.steady_cycles > 0 {
            steady = Some(self.steady(subject, length).await?);
        }
        let until_first_cycle = first - started;
        Ok(Trial { until_first_cycle, recommended, checkpointed, complete, first_cycles, steady })
    }

    /// The beginning of the `number`-th cycle, counted from 1; waits for it if it has not come.
    async fn cycle(&mut self, number: usize) -> Result<Mark> {
        let waited = Instant::now();
        while self.marks.len() < number {
            tokio::select! {
                changed = self.readings.changed() => {
                    changed.map_err(|error| Error::expectation(error.to_string()))?;
                    self.mark()?;
                }
                () = tokio::time::sleep(CHECK) => self.check()?,
            }
            if waited.elapsed() > CYCLE_MAX {
                return Err(self.timeout(format!("cycle {number} to begin"), waited));
            }
        }
        Ok(self.marks[number - 1])
    }

    async fn complete(&mut self, progress: &Progress, first: Instant) -> Result<()> {
        let count = self.stage.fleet().vpas;
        let mut complete = std::pin::pin!(progress.complete(count));
        loop {
            tokio::select! {
                () = &mut complete => return Ok(()),
                changed = self.readings.changed() => {
                    changed.map_err(|error| Error::expectation(error.to_string()))?;
                    self.mark()?;
                }
                () = tokio::time::sleep(CHECK) => self.check()?,
            }
            if first.elapsed() > COMPLETE_MAX {
                let (recommended, checkpointed) = (progress.recommended(), progress.checkpointed());
                let what = format!(
                    "{count} VPAs; {} have a recommendation and {} a checkpoint",
                    recommended.count, checkpointed.count
                );
                return Err(self.timeout(what, first));
            }
        }
    }

    async fn steady(&mut self, subject: &Subject, length: Length) -> Result<Steady> {
        let from = self.marks.len() + 1;
        let begin = self.cycle(from).await?;
        let before = Writes::count(&self.stage.client()).await?;
        let interval = length.interval.unwrap_or(Duration::from_secs(60));
        // A suite whose cycles take longer than their interval is looked at for the same time.
        let enough = interval * u32::try_from(length.steady_cycles).unwrap_or(u32::MAX);
        let mut cycles = 0;
        while cycles < length.steady_cycles {
            let mark = self.cycle(from + cycles + 1).await?;
            cycles += 1;
            if subject.suite == Suite::Peer && mark.at - begin.at >= enough {
                break;
            }
        }
        let end = self.marks[from + cycles - 1];
        let writes = Writes::count(&self.stage.client()).await?.since(&before);
        Ok(Steady { cycles, took: end.at - begin.at, writes, cpu: end.usage - begin.usage, end: end.usage })
    }

    fn mark(&mut self) -> Result<()> {
        self.marks.push(Mark { at: Instant::now(), usage: Usage::of(self.process.id())? });
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        self.process.check_running()?;
        self.stage.check_running()
    }

    fn timeout(&self, what: String, since: Instant) -> Error {
        let last = format!("the end of its log:\n{}", crate::process::tail(self.process.log(), 15));
        Error::Timeout { what, waited: since.elapsed(), last }
    }
}
