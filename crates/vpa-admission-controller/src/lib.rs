//! The admission controller: a webhook that the API server asks when pods and VPAs are created.
//!
//! # Data model
//! - A [`View`](webhook::View) is what a review is decided against: VPAs by target, controllers, limits of namespaces,
//!   and for [warnings](surroundings) horizontal autoscalers and nodes.
//!   It is filled by watches and read without waiting; a review never asks the API server, except for the scale
//!   subresource of a custom controller that is seen for the first time.
//! - A review comes in over HTTPS, is decoded once ([`vpa_core::admit::decode`]), decided in the core
//!   ([`vpa_core::admit::review`]) and answered ([`response`]). What cannot be decided admits the pod as it is.

pub mod args;
pub mod body;
pub mod certificates;
pub mod connections;
pub mod deregister;
pub mod load;
pub mod metrics;
pub mod program;
pub mod registration;
pub mod response;
pub mod self_review;
pub mod state;
pub mod surroundings;
#[cfg(test)]
mod testing;
pub mod tls;
mod upkeep;
pub mod webhook;

pub use program::command;

/// Runs what the command line asks for: the program, or [`deregister`] where its first word says so.
pub fn main(mut argv: Vec<std::ffi::OsString>) -> std::process::ExitCode {
    if argv.get(1).is_some_and(|word| word == deregister::WORD) {
        argv.remove(1);
        return vpa_runtime::run_main_with(&deregister::COMPONENT, argv, deregister::run);
    }
    vpa_runtime::run_main_with(&program::COMPONENT, argv, program::run)
}
