//! Figures of the three programs, beside those of the Go suite: `make bench`.
//!
//! ```text
//! row ─────────── what there is to measure: recommender has rows a to f, updater g to j, admission controller k to n
//! fleet, usage ── what there is: workloads, their VPAs, and what their pods use
//! past ────────── eight days of usage before the first one, as checkpoints
//! subject ─────── a program of either suite, to be started on a control plane
//! stage ───────── the real control plane with the fleet and its usage
//! trial ───────── one recommender on the stage, seen from outside: progress (what is written), requests (how often,
//!                 by the API server's own count), os (CPU time and memory, by the kernel's)
//! in_process ──── model and plan alone; simulated: the largest fleet, on the embedded cluster
//! updater ─────── the same for an updater: its stage, its trial, the changes of pods
//! admission ───── reviews over TLS: its stage, the client, a server of constant answers, the rounds
//! table, machine ─ the report
//! ```
//!
//! Nothing is asserted: a figure depends on the machine, which is printed with it.

use std::path::PathBuf;
use std::time::Duration;

use kube::Client;

use crate::error::{Error, OnFile, Result};
use crate::programs::Program;
use machine::Machine;
use subject::Subject;
use table::{Figure, Line, Report};

pub use row::Row;

pub mod admission;
pub mod fleet;
pub mod in_process;
pub mod machine;
pub mod os;
mod past;
mod pool;
pub mod progress;
mod recommender;
pub mod requests;
mod row;
pub mod simulated;
pub mod stage;
pub mod subject;
pub mod table;
pub mod trial;
mod updater;
pub mod usage;

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
    /// Rounds of reviews, of which the median counts.
    pub rounds: usize,
    /// Numbers of VPAs are divided by this, to try the bench itself.
    pub divisor: usize,
    /// Folder for logs.
    pub logs: PathBuf,
}

/// Measures and returns the report. Says on standard error what it is at.
///
/// # Errors
/// If a program is missing, cannot be started, or ends by itself, or a figure does not come.
pub async fn run(options: &Options) -> Result<Report> {
    match std::fs::remove_dir_all(&options.logs) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).on_file(&options.logs, "empty");
        }
        _ => {}
    }
    let mut bench = Bench { options, machine: Machine::here(), lines: Vec::new(), notes: Vec::new() };
    // What is missing is told before the first hour of measuring, not after it.
    for row in &options.rows {
        bench.subjects(row.program())?;
    }
    bench.recommender().await?;
    bench.updater().await?;
    bench.admission().await?;
    bench.lines.sort_by_key(|line| line.row);
    let notes = notes(options).into_iter().chain(bench.notes).collect();
    Ok(Report { machine: bench.machine, notes, lines: bench.lines })
}

struct Bench<'a> {
    options: &'a Options,
    machine: Machine,
    lines: Vec<Line>,
    /// What is to be said of the figures, beside what is said of every run.
    notes: Vec<String>,
}

impl Bench<'_> {
    fn wants(&self, row: Row) -> bool {
        self.options.rows.contains(&row)
    }

    fn scaled(&self, vpas: usize) -> usize {
        (vpas / self.options.divisor.max(1)).max(1)
    }

    /// This suite's program, then the other one where it is to be measured too.
    fn subjects(&self, program: Program) -> Result<Vec<Subject>> {
        let mut subjects = vec![Subject::own(program)?];
        subjects
            .extend(self.options.peer.as_deref().map(|folder| Subject::peer(folder, program)).transpose()?);
        Ok(subjects)
    }

    async fn versions(&mut self, client: &Client) -> Result<()> {
        let version = client.apiserver_version().await;
        let version = version.map_err(|error| Error::Client(error.to_string()))?.git_version;
        let mut versions = vec![format!("kube-apiserver {version}")];
        if self.options.peer.is_some() {
            let name = self.options.peer_version.as_deref().unwrap_or("of unknown version");
            versions.push(format!("Go suite {name}"));
        }
        versions.retain(|version| !self.machine.versions.contains(version));
        self.machine.versions.extend(versions);
        Ok(())
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
}

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
    let mut notes = Vec::new();
    let measured = |program| options.rows.iter().any(|row| row.program() == program);
    if measured(Program::Recommender) {
        let text = "Times are counted from a recommender's first reading of usage, that is from the beginning of its \
                    first cycle. Writes are counted by the API server.";
        notes.push(text.to_owned());
    }
    if measured(Program::Updater) {
        notes.extend(updater::notes());
    }
    if measured(Program::AdmissionController) {
        notes.extend(admission::notes());
    }
    notes.push("CPU time and memory (resident, at most) are counted by the kernel.".to_owned());
    if let Some(cycle) = options.cycle {
        notes.push(format!(
            "Cycles and passes began every {:.0} s instead of every 60 s; usage moved with them, and this suite's \
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
    fn numbers_are_grouped() {
        let texts = [7, 999, 1000, 50_000, 1_002_003].map(grouped);
        assert_eq!(texts, ["7", "999", "1,000", "50,000", "1,002,003"]);
        assert_eq!(scale(1000), "1,000 VPAs, 2,000 pods");
    }
}
