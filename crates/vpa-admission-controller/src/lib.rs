//! The admission controller: a webhook that the API server asks when pods and VPAs are created.
//!
//! # Data model
//! - A [`View`](webhook::View) is what a review is decided against: VPAs by target, controllers, limits of namespaces.
//!   It is filled by watches and read without waiting; a review never asks the API server, except for the scale
//!   subresource of a custom controller that is seen for the first time.
//! - A review comes in over HTTPS, is decoded once ([`vpa_core::admit::decode`]), decided in the core
//!   ([`vpa_core::admit::review`]) and answered ([`response`]). What cannot be decided admits the pod as it is.

pub mod args;
pub mod certificates;
pub mod metrics;
pub mod program;
pub mod registration;
pub mod response;
pub mod state;
pub mod tls;
pub mod webhook;

pub use program::command;
