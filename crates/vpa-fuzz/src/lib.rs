//! What must hold for any input of the admission controller, whatever it is.
//!
//! The fuzz targets in `fuzz/` feed these checks with inputs that libFuzzer makes up; the tests here feed them with the
//! golden inputs, with the corpus that fuzzing left behind, and with a few thousand mutations of both, so that each
//! change runs them without a fuzzer.
//!
//! - Each check takes the bytes of one input and answers with what is wrong, or with nothing: [`review`] a body as it
//!   comes over HTTP, [`pod`] a pod with the VPA and limits over it, [`vpa`] a VPA with its old form, [`maths`]
//!   quantities and single functions. Every input but a review's is JSON, so that it stays readable and survives a
//!   change of types.
//! - [`mutate`] and [`cross`] change JSON where it is JSON: an added field, a doubled container, an odd quantity.
//! - [`seeds`] makes first inputs from the golden data.
//!
//! What is asserted does not follow the code's own arithmetic: the patch applies to what was sent and changes nothing
//! else, a pod that was valid stays valid, amounts keep their sign, bounds are kept, rounding is within one unit.

mod cluster;
mod glue;
mod maths;
mod mutate;
mod pod;
mod quantity;
mod review;
mod sound;
mod vpa;

/// How the admission controller writes answers. Only this file of it: with the whole program the fuzz targets would take
/// three times as long to build, for code that they do not run.
#[allow(dead_code, unreachable_pub)]
#[path = "../../vpa-admission-controller/src/response.rs"]
mod response;

pub mod seeds;

pub use maths::maths;
pub use mutate::{cross, mutate};
pub use pod::pod;
pub use review::review;
pub use vpa::vpa;

/// What is wrong with an answer.
pub type Problem = String;

/// Whether an input was worth the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It was looked at in full.
    Checked,
    /// It does not have the form that the check needs, and leads nowhere.
    Nothing,
}

/// Fails with the text where something does not hold.
fn ensure(holds: bool, problem: impl FnOnce() -> Problem) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(problem()) }
}
