//! Figures of the recommender, beside those of the Go suite: `make bench`.
//!
//! ```text
//! fleet, usage ── what there is: workloads, their VPAs, and what their pods use
//! past ────────── eight days of usage before the first one, as checkpoints
//! stage ───────── the real control plane with the fleet; subject: a recommender to be started on it
//! trial ───────── one recommender on the stage, seen from outside: progress (what is written), requests (how often,
//!                 by the API server's own count), os (CPU time and memory, by the kernel's)
//! in_process ──── model and plan alone; simulated: the largest fleet, on the embedded cluster
//! table, machine ─ the report
//! ```
//!
//! Nothing is asserted: a figure depends on the machine, which is printed with it.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, OnFile, Result};
use crate::process::Process;
use machine::Machine;
use stage::Stage;
use subject::Subject;
use table::{Figure, Line, Report};
use trial::{Length, Trial};

pub mod fleet;
pub mod in_process;
pub mod machine;
pub mod os;
mod past;
mod pool;
pub mod progress;
pub mod requests;
pub mod simulated;
pub mod stage;
pub mod subject;
pub mod table;
pub mod trial;
pub mod usage;

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

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// 1,000 VPAs: time until all is written.
    A,
    /// 2,700 VPAs: time until all is written, memory.
    B,
    /// 2,700 VPAs: writes in steady state.
    C,
    /// 1,000 VPAs: CPU time and memory.
    D,
    /// 10,000 VPAs without an API.
    E,
    /// 50,000 VPAs on the embedded cluster.
    F,
}

impl Row {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];

    fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
            Self::C => 'c',
            Self::D => 'd',
            Self::E => 'e',
            Self::F => 'f',
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|row| row.to_string() == text.trim());
        found.ok_or_else(|| format!("there is no row {text:?}; rows are a, b, c, d, e and f"))
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows.
    pub rows: Vec<Row>,
    /// Folder with the Go suite's programs.
    pub peer: Option<PathBuf>,
    /// What the Go suite is called in the report, such as its version.
    pub peer_version: Option<String>,
    /// Time between two cycles; none for the default of the programs.
    pub cycle: Option<Duration>,
    /// Cycles of steady state in row c.
    pub steady_cycles: usize,
    /// Numbers of VPAs are divided by this, to try the bench itself.
    pub divisor: usize,
    /// Folder for logs.
    pub logs: PathBuf,
}

/// Measures and returns the report. Says on standard error what it is at.
///
/// # Errors
/// If a program cannot be started, or ends by itself, or a figure does not come.
pub async fn run(options: &Options) -> Result<Report> {
    match std::fs::remove_dir_all(&options.logs) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).on_file(&options.logs, "empty");
        }
        _ => {}
    }
    let mut subjects = vec![Subject::own()?];
    subjects.extend(options.peer.as_deref().map(Subject::peer).transpose()?);
    let mut bench = Bench { options, machine: Machine::here(), subjects, lines: Vec::new() };
    bench.real().await?;
    if bench.wants(Row::E) {
        bench.in_process().await?;
    }
    if bench.wants(Row::F) {
        bench.simulated().await?;
    }
    bench.lines.sort_by_key(|line| line.row);
    Ok(Report { machine: bench.machine, notes: notes(options), lines: bench.lines })
}

struct Bench<'a> {
    options: &'a Options,
    machine: Machine,
    /// This suite's recommender, then the other one.
    subjects: Vec<Subject>,
    lines: Vec<Line>,
}

impl Bench<'_> {
    fn wants(&self, row: Row) -> bool {
        self.options.rows.contains(&row)
    }

    fn scaled(&self, vpas: usize) -> usize {
        (vpas / self.options.divisor.max(1)).max(1)
    }

    /// Rows a to d.
    async fn real(&mut self) -> Result<()> {
        let small = self.wants(Row::A) || self.wants(Row::D);
        if !small && !self.wants(Row::B) && !self.wants(Row::C) {
            return Ok(());
        }
        say("starting the control plane");
        let mut stage = Stage::start(&self.options.logs).await?;
        self.versions(&stage).await?;
        let interval = self.options.cycle;
        let length = Length { interval, first_cycles: 0, steady_cycles: 0 };
        if small {
            let first_cycles = if self.wants(Row::D) { CPU_CYCLES } else { 0 };
            let trials = self.trials(&mut stage, SMALL, false, Length { first_cycles, ..length }).await?;
            self.small_lines(&trials);
        }
        if self.wants(Row::B) {
            let trials = self.trials(&mut stage, LARGE, false, length).await?;
            self.large_lines(&trials);
        }
        if self.wants(Row::C) {
            let steady_cycles = self.options.steady_cycles;
            let trials = self.trials(&mut stage, LARGE, true, Length { steady_cycles, ..length }).await?;
            self.steady_lines(&trials);
        }
        Ok(())
    }

    async fn versions(&mut self, stage: &Stage) -> Result<()> {
        let version = stage.client().apiserver_version().await;
        let version = version.map_err(|error| Error::Client(error.to_string()))?.git_version;
        self.machine.versions.push(format!("kube-apiserver {version}"));
        if self.subjects.len() > 1 {
            let name = self.options.peer_version.as_deref().unwrap_or("of unknown version");
            self.machine.versions.push(format!("Go suite {name}"));
        }
        Ok(())
    }

    /// One recommender after the other on the same fleet, each as if it were the first.
    async fn trials(&self, stage: &mut Stage, vpas: usize, past: bool, length: Length) -> Result<Vec<Trial>> {
        let vpas = self.scaled(vpas);
        let mut trials = Vec::new();
        for subject in &self.subjects {
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

    fn line<T>(
        &mut self,
        row: Row,
        what: String,
        found: &[T],
        must_reach: Option<Figure>,
        figure: impl Fn(&T) -> Figure,
    ) {
        let mut figures = found.iter().map(figure);
        let (own, peer) = (figures.next(), figures.next());
        self.lines.push(Line { row: row.letter(), what, own, peer, must_reach });
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
        let figures = [simulated::run(&self.subjects[0], vpas, &self.options.logs).await?];
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

/// Time for row e: seconds, but on a busy machine.
const IN_PROCESS_MAX: Duration = Duration::from_secs(10 * 60);

fn seconds(seconds: f64) -> Figure {
    Figure::Seconds(seconds)
}

fn scale(vpas: usize) -> String {
    format!("{} VPAs, {} pods", grouped(vpas), grouped(fleet::Fleet { vpas }.pods()))
}

/// With a comma at the thousands.
fn grouped(number: usize) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", grouped(number / 1000), number % 1000)
    }
}

fn say(text: &str) {
    eprintln!("bench: {text}");
}

fn notes(options: &Options) -> Vec<String> {
    let mut notes = vec![
        "Times are counted from a program's first reading of usage, that is from the beginning of its first cycle."
            .to_owned(),
        "Writes are counted by the API server, CPU time and memory (resident, at most) by the kernel.".to_owned(),
    ];
    if let Some(cycle) = options.cycle {
        notes.push(format!(
            "Cycles began every {:.0} s instead of every 60 s; usage moved with them, and this suite's \
             --checkpoints-write-interval was as many cycles as by default. Small moves of bounds still waited up to 10 min.",
            cycle.as_secs_f64()
        ));
    }
    if options.divisor > 1 {
        notes.push(format!("All numbers of VPAs and pods were divided by {}.", options.divisor));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_letters() {
        for row in Row::ALL {
            assert_eq!(row.to_string().parse(), Ok(row));
        }
        assert!("g".parse::<Row>().unwrap_err().contains("no row"));
    }

    #[test]
    fn numbers_are_grouped() {
        let texts = [7, 999, 1000, 50_000, 1_002_003].map(grouped);
        assert_eq!(texts, ["7", "999", "1,000", "50,000", "1,002,003"]);
        assert_eq!(scale(1000), "1,000 VPAs, 2,000 pods");
    }
}
