//! Rows a to f: the recommender.

use std::process::Command;
use std::time::Duration;

use super::row::Row;
use super::stage::Stage;
use super::subject::Subject;
use super::table::Figure;
use super::trial::{self, Length, Trial};
use super::{Bench, in_process, say, scale, seconds, simulated};
use crate::error::{Error, Result};
use crate::process::Process;
use crate::programs::Program;

/// Time between two cycles where nothing else is said: the default of `--recommender-interval` in both suites.
const INTERVAL: Duration = Duration::from_secs(60);

/// VPAs of rows a and d.
const SMALL: usize = 1000;
/// VPAs of rows b and c.
const LARGE: usize = 2700;
/// VPAs of row e.
const IN_PROCESS: usize = 10_000;
/// VPAs of row f.
const SIMULATED: usize = 50_000;
/// Cycles of which row d counts the CPU time.
const CPU_CYCLES: usize = 3;
/// Time for row e: seconds, but on a busy machine.
const IN_PROCESS_MAX: Duration = Duration::from_secs(10 * 60);

impl Bench<'_> {
    /// Rows a to f, as far as they are wanted.
    pub(super) async fn recommender(&mut self) -> Result<()> {
        self.real().await?;
        if self.wants(Row::E) {
            self.in_process().await?;
        }
        if self.wants(Row::F) {
            self.simulated().await?;
        }
        Ok(())
    }

    /// Rows a to d.
    async fn real(&mut self) -> Result<()> {
        let small = self.wants(Row::A) || self.wants(Row::D);
        if !small && !self.wants(Row::B) && !self.wants(Row::C) {
            return Ok(());
        }
        let subjects = self.subjects(Program::Recommender)?;
        say("starting the control plane");
        let mut stage = Stage::start(&self.options.logs).await?;
        self.versions(&stage.client()).await?;
        let interval = self.options.cycle;
        let length = Length { interval, first_cycles: 0, steady_cycles: 0 };
        if small {
            let first_cycles = if self.wants(Row::D) { CPU_CYCLES } else { 0 };
            let trials =
                self.trials(&subjects, &mut stage, SMALL, false, Length { first_cycles, ..length }).await?;
            self.small_lines(&trials);
        }
        if self.wants(Row::B) {
            let trials = self.trials(&subjects, &mut stage, LARGE, false, length).await?;
            self.large_lines(&trials);
        }
        if self.wants(Row::C) {
            let steady_cycles = self.options.steady_cycles;
            let trials =
                self.trials(&subjects, &mut stage, LARGE, true, Length { steady_cycles, ..length }).await?;
            self.steady_lines(&trials);
        }
        Ok(())
    }

    /// One recommender after the other on the same fleet, each as if it were the first.
    async fn trials(
        &self,
        subjects: &[Subject],
        stage: &mut Stage,
        vpas: usize,
        past: bool,
        length: Length,
    ) -> Result<Vec<Trial>> {
        let vpas = self.scaled(vpas);
        let mut trials = Vec::new();
        for subject in subjects {
            say(&format!("{}: making them", scale(vpas)));
            stage.set(vpas, past, length.interval.unwrap_or(INTERVAL)).await?;
            say(&format!("{}: running {}", scale(vpas), subject.path().display()));
            let trial = trial::run(stage, subject, length).await?;
            say(&format!("{trial}"));
            trials.push(trial);
        }
        Ok(trials)
    }

    fn small_lines(&mut self, trials: &[Trial]) {
        let what = scale(self.scaled(SMALL));
        if self.wants(Row::A) {
            self.times(Row::A, &what, trials, 10.0);
        }
        if self.wants(Row::D) {
            let cycles = |trial: &Trial| trial.first_cycles.unwrap_or(trial.complete);
            self.line(
                Row::D,
                format!("{what}: CPU time of {CPU_CYCLES} cycles"),
                trials,
                Some(seconds(2.0)),
                |trial| seconds(cycles(trial).cpu.as_secs_f64()),
            );
            self.line(
                Row::D,
                format!("{what}: peak memory"),
                trials,
                Some(Figure::Bytes(30_000_000)),
                |trial| Figure::Bytes(cycles(trial).peak),
            );
        }
    }

    fn large_lines(&mut self, trials: &[Trial]) {
        let what = scale(self.scaled(LARGE));
        self.times(Row::B, &what, trials, 20.0);
        let peak = Some(Figure::Bytes(60_000_000));
        self.line(Row::B, format!("{what}: peak memory"), trials, peak, |trial| {
            Figure::Bytes(trial.complete.peak)
        });
    }

    fn steady_lines(&mut self, trials: &[Trial]) {
        let vpas = self.scaled(LARGE);
        let steady: Vec<_> = trials.iter().filter_map(|trial| trial.steady.clone()).collect();
        let cycles = steady.first().map_or(0, |steady| steady.cycles);
        let what = format!("{} with 8 days behind them, {cycles} steady cycles", scale(vpas));
        self.line(
            Row::C,
            format!("{what}: writes per VPA and cycle"),
            &steady,
            Some(Figure::Writes(0.2)),
            |steady| Figure::Writes(steady.writes.total() as f64 / (vpas * steady.cycles.max(1)) as f64),
        );
        self.line(Row::C, format!("{what}: CPU time of a cycle"), &steady, None, |steady| {
            seconds(steady.cpu.as_secs_f64() / steady.cycles.max(1) as f64)
        });
        self.line(Row::C, format!("{what}: memory at the end"), &steady, None, |steady| {
            Figure::Bytes(steady.end.resident)
        });
        self.line(Row::C, format!("{what}: peak memory"), &steady, None, |steady| {
            Figure::Bytes(steady.end.peak)
        });
    }

    /// How long it took until all was written.
    fn times(&mut self, row: Row, what: &str, trials: &[Trial], must_reach: f64) {
        self.line(row, format!("{what}: all recommended"), trials, None, |trial| {
            seconds(trial.recommended.as_secs_f64())
        });
        self.line(row, format!("{what}: all checkpointed too"), trials, Some(seconds(must_reach)), |trial| {
            seconds(trial.recommended.max(trial.checkpointed).as_secs_f64())
        });
    }

    /// Row e, in a process of its own, whose memory then is its own.
    async fn in_process(&mut self) -> Result<()> {
        let vpas = self.scaled(IN_PROCESS);
        say(&format!("{} without an API", scale(vpas)));
        let own = std::env::current_exe();
        let own = own.map_err(|source| Error::Spawn { program: "bench".to_owned(), source })?;
        let mut command = Command::new(own);
        command.args(["--in-process", &vpas.to_string()]);
        let log = self.options.logs.join("in-process.log");
        let mut process = Process::start("the model", command, &log)?;
        let status = process.wait(IN_PROCESS_MAX).await?;
        let text = process.log_text();
        let figures: in_process::Figures = serde_json::from_str(&text)
            .map_err(|error| Error::expectation(format!("the model ended with {status}: {error}: {text}")))?;
        say(&format!("{figures:?}"));
        let figures = [figures];
        let what = format!("{}, usage made in process", scale(vpas));
        self.line(Row::E, format!("{what}: first cycle"), &figures, None, |figures| {
            seconds(figures.first.as_secs_f64())
        });
        self.line(Row::E, format!("{what}: later cycle"), &figures, Some(seconds(0.5)), |figures| {
            seconds(figures.later.as_secs_f64())
        });
        self.line(
            Row::E,
            format!("{what}: peak memory"),
            &figures,
            Some(Figure::Bytes(200_000_000)),
            |figures| Figure::Bytes(figures.peak),
        );
        Ok(())
    }

    /// Row f.
    async fn simulated(&mut self) -> Result<()> {
        let vpas = self.scaled(SIMULATED);
        say(&format!("{} on the embedded cluster", scale(vpas)));
        let own = Subject::own(Program::Recommender)?;
        let figures = [simulated::run(&own, vpas, &self.options.logs).await?];
        let what = format!("{}, embedded cluster", scale(vpas));
        self.line(Row::F, format!("{what}: first cycle, all written"), &figures, None, |figures| {
            seconds(figures.cycle.as_secs_f64())
        });
        self.line(Row::F, format!("{what}: CPU time until then"), &figures, None, |figures| {
            seconds(figures.recommender.cpu.as_secs_f64())
        });
        self.line(Row::F, format!("{what}: peak memory"), &figures, None, |figures| {
            Figure::Bytes(figures.recommender.peak)
        });
        self.line(Row::F, format!("{what}: memory of the cluster itself"), &figures, None, |figures| {
            Figure::Bytes(figures.cluster)
        });
        Ok(())
    }
}
