//! The rows of the table.

use std::fmt;
use std::str::FromStr;

use crate::programs::Program;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Recommender, 1,000 VPAs: time until all is written.
    A,
    /// Recommender, 2,700 VPAs: time until all is written, memory.
    B,
    /// Recommender, 2,700 VPAs: writes in steady state.
    C,
    /// Recommender, 1,000 VPAs: CPU time and memory.
    D,
    /// Recommender, 10,000 VPAs without an API.
    E,
    /// Recommender, 50,000 VPAs on the embedded cluster.
    F,
    /// Updater, 1,000 VPAs: an eviction for each.
    G,
    /// Updater, 1,000 VPAs: a resize in place for each.
    H,
    /// Updater, 1,000 VPAs: a pass with nothing to do.
    I,
    /// Updater, 10,000 VPAs: a pass with nothing to do.
    J,
    /// Admission controller, 1,000 VPAs: reviews under load, memory.
    K,
    /// Admission controller, 1,000 VPAs: one review at a time.
    L,
    /// Admission controller, 5,000 VPAs: reviews under load, memory.
    M,
    /// Admission controller, 50,000 VPAs: reviews under load, memory.
    N,
}

impl Row {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::A,
        Self::B,
        Self::C,
        Self::D,
        Self::E,
        Self::F,
        Self::G,
        Self::H,
        Self::I,
        Self::J,
        Self::K,
        Self::L,
        Self::M,
        Self::N,
    ];

    /// The program that is measured.
    pub fn program(self) -> Program {
        if self < Self::G {
            Program::Recommender
        } else if self < Self::K {
            Program::Updater
        } else {
            Program::AdmissionController
        }
    }

    pub(super) fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
            Self::C => 'c',
            Self::D => 'd',
            Self::E => 'e',
            Self::F => 'f',
            Self::G => 'g',
            Self::H => 'h',
            Self::I => 'i',
            Self::J => 'j',
            Self::K => 'k',
            Self::L => 'l',
            Self::M => 'm',
            Self::N => 'n',
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
        found.ok_or_else(|| format!("there is no row {text:?}; rows are the letters from a to n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_letters_in_their_order() {
        for row in Row::ALL {
            assert_eq!(row.to_string().parse(), Ok(row));
        }
        assert!(Row::ALL.is_sorted() && Row::ALL.is_sorted_by_key(|row| row.letter()));
        assert!("o".parse::<Row>().unwrap_err().contains("no row"));
    }
}
