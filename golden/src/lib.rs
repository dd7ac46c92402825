//! Runs the golden cases: what the Go suite answered to given inputs, as data.
//!
//! The cases lie in `golden/data`, one folder for each part of the suite; the variable `VPA_GOLDEN_DIR` names another
//! folder of the same form. A test opens a [`Suite`], hands each section of each file a closure that takes one typed
//! case and says what is wrong with the answer, and calls [`Suite::finish`]:
//!
//! ```no_run
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Case { input: String, ok: bool }
//!
//! let mut suite = golden::Suite::new("quantity");
//! suite.section("parse.json", "parse", |case: &Case| {
//!     golden::expect("ok", &case.ok, &case.input.parse::<f64>().is_ok())
//! });
//! suite.finish();
//! ```
//!
//! Nothing is passed over in silence. `finish` fails for a case whose answer is wrong, for a file that is missing or
//! unreadable, for a case that does not have the expected form, and for a file or section that no closure took.
//! There are two ways to differ, both written down and counted:
//! - `golden/golden-open.txt` lists by name the cases that are not answered yet. A listed case that passes fails the
//!   run, as does a name that does not exist.
//! - [`deviations`] holds the rules by which this suite answers differently on purpose.
//!
//! `GOLDEN_UPDATE_OPEN=1` rewrites the list from what fails; `GOLDEN_FILTER=text` runs only the cases whose name
//! contains the text and prints each failure in full.

mod compare;
pub mod deviations;
mod json;
pub mod metrics;
mod open_list;
mod source;
mod suite;

pub use compare::{expect, expect_close, expect_json};
pub use source::{data_dir, data_file};
pub use suite::Suite;
