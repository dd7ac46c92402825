//! Rows k to n: the admission controller.

use super::row::Row;
use super::table::Figure;
use super::{Bench, grouped, say, seconds};
use crate::bench::subject::Suite;
use crate::error::Result;
use crate::programs::Program;
use contest::{CONNECTIONS, Found, Round, Who};
use stage::Stage;

mod client;
pub mod constant;
mod contest;
mod load;
mod review;
mod stage;

/// VPAs of rows k and l.
const SMALL: usize = 1000;
/// VPAs of row m.
const MEDIUM: usize = 5000;
/// VPAs of row n.
const LARGE: usize = 50_000;

/// CPU time of a review that must be reached, in seconds.
const CPU: f64 = 80e-6;
/// How many times the Go suite's reviews a second must be reached.
const RATE_FACTOR: f64 = 1.8;
/// Which part of its p99.
const P99_PART: f64 = 3.0;
/// How much longer than a constant answer an answer may take, and one with many VPAs than one with few.
const LONGER: f64 = 1.1;

impl Bench<'_> {
    /// Rows k to n, as far as they are wanted, on one control plane: a review leaves no trace.
    pub(super) async fn admission(&mut self) -> Result<()> {
        let rows = [
            (&[Row::K, Row::L][..], SMALL, 20_000_000),
            (&[Row::M][..], MEDIUM, 40_000_000),
            (&[Row::N][..], LARGE, 250_000_000),
        ];
        if !rows.iter().any(|(rows, ..)| rows.iter().any(|row| self.wants(*row))) {
            return Ok(());
        }
        say("starting the control plane");
        let mut stage = Stage::start(&self.options.logs).await?;
        self.versions(&stage.client()).await?;
        let mut small = None;
        for (rows, vpas, peak) in rows {
            if !rows.iter().any(|row| self.wants(*row)) {
                continue;
            }
            let found = self.contest(&mut stage, self.scaled(vpas)).await?;
            for row in rows {
                match row {
                    row if !self.wants(*row) => {}
                    Row::L => self.latency_line(&found),
                    row => self.load_lines(*row, vpas, &found, small.as_deref(), peak),
                }
            }
            small.get_or_insert(found);
        }
        Ok(())
    }

    async fn contest(&mut self, stage: &mut Stage, vpas: usize) -> Result<Vec<Found>> {
        let what = format!("{} VPAs in one namespace", grouped(vpas));
        say(&format!("{what}: making them"));
        stage.grow(vpas).await?;
        say(&format!("{what}: reviews, {} rounds", self.options.rounds));
        let subjects = self.subjects(Program::AdmissionController)?;
        let found = contest::run(stage, &subjects, self.options.rounds).await?;
        for found in &found {
            say(&format!("{found}"));
            self.notes.push(format!("{what}, median of the rounds with their least and most: {found}."));
        }
        Ok(found)
    }

    /// Work under load. `small` is what was found with the fewest VPAs: with more a review may hardly take more CPU time.
    /// Rates are compared with the Go suite's alone, of the same rounds.
    fn load_lines(&mut self, row: Row, vpas: usize, found: &[Found], small: Option<&[Found]>, peak: u64) {
        let what = format!("{} VPAs in one namespace, {CONNECTIONS} connections", grouped(self.scaled(vpas)));
        let peer = of(found, Who::Program(Suite::Peer));
        let rate = |round: &Round| round.many.rate();
        let cpu = |round: &Round| round.many.cpu();
        let p99 = |round: &Round| round.many.percentile(0.99);
        let cpu_max = small.and_then(|small| cpu_max(small, found)).unwrap_or(CPU);
        let rate_min = peer.map(|peer| peer.median(rate) * RATE_FACTOR);
        let p99_max = peer.map(|peer| peer.median(p99) / P99_PART);
        let programs = programs(found);
        self.line(row, format!("{what}: CPU time of a review"), &programs, Some(seconds(cpu_max)), |found| {
            seconds(found.median(cpu))
        });
        self.line(row, format!("{what}: reviews a second"), &programs, rate_min.map(Figure::Rate), |found| {
            Figure::Rate(found.median(rate))
        });
        self.line(row, format!("{what}: p99"), &programs, p99_max.map(seconds), |found| {
            seconds(found.median(p99))
        });
        let constant: Vec<_> = of(found, Who::Constant).into_iter().collect();
        self.line(
            row,
            "the same, a constant answer: reviews a second".to_owned(),
            &constant,
            None,
            |found| Figure::Rate(found.median(rate)),
        );
        self.line(row, "the same, a constant answer: p99".to_owned(), &constant, None, |found| {
            seconds(found.median(p99))
        });
        let vpas = grouped(self.scaled(vpas));
        self.line(row, format!("{vpas} VPAs: peak memory"), &programs, Some(Figure::Bytes(peak)), |found| {
            Figure::Bytes(found.usage.peak)
        });
    }

    /// Time of a review when nothing else is under way.
    fn latency_line(&mut self, found: &[Found]) {
        let what = format!("{} VPAs in one namespace, 1 connection", grouped(self.scaled(SMALL)));
        let p50 = |round: &Round| round.one.percentile(0.5);
        let constant: Vec<_> = of(found, Who::Constant).into_iter().collect();
        let most = constant.first().map(|constant| seconds(constant.median(p50) * LONGER));
        self.line(Row::L, format!("{what}: p50"), &programs(found), most, |found| seconds(found.median(p50)));
        self.line(Row::L, "the same, a constant answer: p50".to_owned(), &constant, None, |found| {
            seconds(found.median(p50))
        });
    }
}

/// CPU time that a review may take now, in seconds, by what it took with the fewest VPAs. The machine is not the same for
/// minutes: what a constant answer takes more or less now is taken into account.
fn cpu_max(small: &[Found], now: &[Found]) -> Option<f64> {
    let cpu = |found, who| Some(of(found, who)?.median(|round| round.many.cpu()));
    let drift = cpu(now, Who::Constant)? / cpu(small, Who::Constant)?;
    Some(cpu(small, Who::Program(Suite::Own))? * drift * LONGER)
}

fn of(found: &[Found], who: Who) -> Option<&Found> {
    found.iter().find(|found| found.who == who)
}

/// The admission controllers, this suite's first.
fn programs(found: &[Found]) -> Vec<&Found> {
    found.iter().filter(|found| found.who != Who::Constant).collect()
}

/// What is to be known to read the rows.
pub(super) fn notes() -> [String; 1] {
    ["Reviews: client and server share the processors. A constant answer is given by this suite's HTTPS server, in a \
      process of its own."
        .to_owned()]
}
