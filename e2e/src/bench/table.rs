//! The figures as a table: for a terminal, as Markdown, as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::machine::Machine;

/// A figure with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "unit", content = "value")]
pub enum Figure {
    /// Seconds.
    Seconds(f64),
    /// Memory in bytes.
    Bytes(u64),
    /// Writes per VPA and cycle.
    Writes(f64),
    /// Number in a second; more is better.
    Rate(f64),
}

impl Figure {
    /// As text, with its unit.
    pub fn text(self) -> String {
        match self {
            Self::Seconds(seconds) if seconds < 0.001 => format!("{:.3} ms", seconds * 1000.0),
            Self::Seconds(seconds) if seconds < 0.01 => format!("{:.1} ms", seconds * 1000.0),
            Self::Seconds(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
            Self::Seconds(seconds) => format!("{seconds:.1} s"),
            // As the figures of the Go suite were given: 1 MB is a million bytes.
            Self::Bytes(bytes) => format!("{:.1} MB", bytes as f64 / 1e6),
            Self::Writes(writes) => format!("{writes:.2}"),
            Self::Rate(rate) => format!("{rate:.0} /s"),
        }
    }

    fn number(self) -> f64 {
        match self {
            Self::Seconds(number) | Self::Writes(number) | Self::Rate(number) => number,
            Self::Bytes(bytes) => bytes as f64,
        }
    }
}

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Letter of the row that it belongs to.
    pub row: char,
    /// What was measured.
    pub what: String,
    /// This suite's figure.
    pub own: Option<Figure>,
    /// The Go suite's.
    pub peer: Option<Figure>,
    /// What has to be reached.
    pub must_reach: Option<Figure>,
}

impl Line {
    fn cells(&self) -> [String; 6] {
        let text = |figure: Option<Figure>| figure.map_or("—".to_owned(), Figure::text);
        let ratio = match (self.own, self.peer) {
            (Some(Figure::Rate(own)), Some(Figure::Rate(peer))) if peer > 0.0 => format!("{:.1}", own / peer),
            (Some(own), Some(peer)) if own.number() > 0.0 => format!("{:.1}", peer.number() / own.number()),
            _ => "—".to_owned(),
        };
        [
            self.row.to_string(),
            self.what.clone(),
            text(self.own),
            text(self.peer),
            ratio,
            text(self.must_reach),
        ]
    }
}

/// Head of the columns. How many times better is Go / this, for what there should be more of this / Go.
const HEAD: [&str; 6] = ["row", "what", "this suite", "Go suite", "times better", "must reach"];

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What they were measured on.
    pub machine: Machine,
    /// How the run differed from a full one, and what is to be known to read it.
    pub notes: Vec<String>,
    /// The figures.
    pub lines: Vec<Line>,
}

impl Report {
    /// For a terminal.
    pub fn terminal(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING).set_header(HEAD);
        for line in &self.lines {
            table.add_row(line.cells());
        }
        let mut text = format!("{}\n\n{table}\n", self.machine);
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("{}\n\n", self.machine);
        text += &row(&HEAD.map(str::to_owned));
        text += &row(&HEAD.map(|_| "---".to_owned()));
        for line in &self.lines {
            text += &row(&line.cells());
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_both_figures_their_ratio_and_the_aim() {
        let report = Report {
            machine: Machine::default(),
            notes: vec!["a note".to_owned()],
            lines: vec![
                Line {
                    row: 'a',
                    what: "time".to_owned(),
                    own: Some(Figure::Seconds(4.0)),
                    peer: Some(Figure::Seconds(46.0)),
                    must_reach: Some(Figure::Seconds(10.0)),
                },
                Line {
                    row: 'k',
                    what: "reviews".to_owned(),
                    own: Some(Figure::Rate(9000.4)),
                    peer: Some(Figure::Rate(3000.0)),
                    must_reach: Some(Figure::Seconds(0.00008)),
                },
                Line {
                    row: 'e',
                    what: "memory".to_owned(),
                    own: Some(Figure::Bytes(123_400_000)),
                    peer: None,
                    must_reach: None,
                },
            ],
        };
        let markdown = report.markdown();
        assert!(markdown.contains("| a | time | 4.0 s | 46.0 s | 11.5 | 10.0 s |\n"), "{markdown}");
        assert!(markdown.contains("| k | reviews | 9000 /s | 3000 /s | 3.0 | 0.080 ms |\n"), "{markdown}");
        assert!(markdown.contains("| e | memory | 123.4 MB | — | — | — |\n"), "{markdown}");
        let terminal = report.terminal();
        assert!(terminal.contains("11.5") && terminal.contains("- a note"), "{terminal}");
    }
}
