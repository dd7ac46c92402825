//! Rows g to j: the updater.

use std::time::Duration;

use super::row::Row;
use super::table::Figure;
use super::{Bench, grouped, say, scale, seconds};
use crate::error::Result;
use crate::programs::Program;
use changes::Change;
use stage::Stage;
use trial::{Idle, Update};

mod changes;
mod kubelet;
mod stage;
mod trial;

/// VPAs of rows g, h and i.
const SMALL: usize = 1000;
/// VPAs of row j.
const LARGE: usize = 10_000;
/// Update mode of the rows in which nothing is to do: the one that looks at most.
const IDLE_MODE: &str = "InPlaceOrRecreate";

impl Bench<'_> {
    /// Rows g to j, as far as they are wanted.
    pub(super) async fn updater(&mut self) -> Result<()> {
        if self.wants(Row::G) {
            let updates = self.updates("Recreate", Change::Evicted).await?;
            self.update_lines(Row::G, "evictions", &updates);
        }
        if self.wants(Row::H) {
            let updates = self.updates("InPlaceOrRecreate", Change::Resized).await?;
            self.update_lines(Row::H, "resizes in place", &updates);
        }
        if self.wants(Row::I) || self.wants(Row::J) {
            self.idle_rows().await?;
        }
        Ok(())
    }

    /// One pod of each VPA is due. Each updater works on a control plane of its own: what the first one has done cannot
    /// be taken back without a trace.
    async fn updates(&mut self, mode: &'static str, change: Change) -> Result<Vec<Update>> {
        let vpas = self.scaled(SMALL);
        let mut updates = Vec::new();
        for subject in self.subjects(Program::Updater)? {
            say(&format!("{}, mode {mode}: making them", scale(vpas)));
            let mut stage = Stage::start(&self.options.logs).await?;
            self.versions(&stage.client()).await?;
            stage.grow(vpas, mode, true).await?;
            say(&format!("{}, mode {mode}: running {}", scale(vpas), subject.path().display()));
            let update = trial::update(&mut stage, &subject, self.options.cycle, change).await?;
            say(&format!("{update}"));
            updates.push(update);
        }
        Ok(updates)
    }

    fn update_lines(&mut self, row: Row, changes: &str, updates: &[Update]) {
        let vpas = self.scaled(SMALL);
        let what = scale(vpas);
        let count = grouped(vpas);
        self.line(
            row,
            format!("{what}: {count} {changes}, first to last"),
            updates,
            Some(seconds(6.0)),
            |update| seconds(update.took.as_secs_f64()),
        );
        self.line(row, format!("{what}: peak memory"), updates, Some(PEAK), |update| {
            Figure::Bytes(update.usage.peak)
        });
    }

    /// Rows i and j, on one control plane: a pass with nothing to do leaves no trace.
    async fn idle_rows(&mut self) -> Result<()> {
        say("starting the control plane");
        let mut stage = Stage::start(&self.options.logs).await?;
        self.versions(&stage.client()).await?;
        let rows = [
            (Row::I, SMALL, Duration::from_millis(20), Some(PEAK)),
            (Row::J, LARGE, Duration::from_millis(200), None),
        ];
        for (row, vpas, pass, peak) in rows {
            if !self.wants(row) {
                continue;
            }
            let idle = self.idle(&mut stage, self.scaled(vpas)).await?;
            let what = scale(self.scaled(vpas));
            self.line(
                row,
                format!("{what}: a pass with nothing to do"),
                &idle,
                Some(seconds(pass.as_secs_f64())),
                |idle| seconds(idle.pass.as_secs_f64()),
            );
            self.line(row, format!("{what}: peak memory"), &idle, peak, |idle| {
                Figure::Bytes(idle.usage.peak)
            });
        }
        Ok(())
    }

    async fn idle(&self, stage: &mut Stage, vpas: usize) -> Result<Vec<Idle>> {
        say(&format!("{}, nothing due: making them", scale(vpas)));
        stage.grow(vpas, IDLE_MODE, false).await?;
        let mut found = Vec::new();
        for subject in self.subjects(Program::Updater)? {
            say(&format!("{}, nothing due: running {}", scale(vpas), subject.path().display()));
            let idle = trial::idle(stage, &subject).await?;
            say(&format!("{idle}"));
            found.push(idle);
        }
        Ok(found)
    }
}

/// Memory that an updater of 1,000 VPAs may use.
const PEAK: Figure = Figure::Bytes(30_000_000);

/// What is to be known to read the rows.
pub(super) fn notes() -> [String; 2] {
    [
        "Evictions and resizes are counted from the first to the last that a watch of the pods tells."
            .to_owned(),
        format!(
            "A pass with nothing to do is the mean of {} passes or more after the first, by the programs' own \
             vpa_updater_execution_latency_seconds{{step=\"total\"}}; passes began every {} s.",
            trial::IDLE_PASSES,
            trial::IDLE_INTERVAL.as_secs()
        ),
    ]
}
