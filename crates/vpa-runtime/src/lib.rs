//! The shell that the programs of the suite share: everything that touches the network, the clock, the process or the
//! log, so that `vpa-core` does not have to.
//!
//! # Data model
//! - A [`Store`] is the present state of one kind of object in the cluster: a list and a watch feed a map by namespace
//!   and name, readers take [`Arc`](std::sync::Arc)s out of it. An object that cannot be decoded is skipped, logged and
//!   counted; nothing stops a store.
//! - A [`targets::Targets`] answers "which controller is this, who owns it, which pods does it select" from stores of the
//!   well-known kinds and a cache of scale subresources.
//! - A [`Cluster`] is the way to the API server. Every request passes metrics → retry (by kind of call) → limiter →
//!   deadline, so each attempt is paid for and none lasts for ever.
//! - A [`Leadership`] says whether this replica may write; its token is cancelled the moment it may not.
//! - An [`Executor`] carries out a plan: typed work items, bounded parallel, each with its own outcome.
//! - A [`Shell`] owns the process: its shutdown token, its vital tasks, its registry of metrics, its health.
//!
//! ```text
//!   argv ─▶ flags ─▶ run_main ─▶ Shell ──▶ connect ─▶ preflight ─▶ stores ─▶ leadership ─▶ loop: snapshot
//!                                  │                                                     ─▶ vpa-core plans
//!                            serve /metrics,                                             ─▶ executor writes
//!                            /readyz, …                                                  ─▶ outcomes, metrics
//! ```
//!
//! # How a program is wired
//! `main.rs` only names the component; the library takes the struct of flags apart in one place, exhaustively, so that a
//! flag that nobody uses does not compile:
//!
//! ```no_run
//! use std::time::Duration;
//! use vpa_runtime::flags::{CommonFlags, GoDuration, LeaderElectFlags};
//! use vpa_runtime::{Component, Error, Shell, StoreOptions, preflight};
//!
//! #[derive(clap::Parser, Debug)]
//! struct Args {
//!     #[command(flatten)]
//!     common: CommonFlags,
//!     #[command(flatten)]
//!     leader: LeaderElectFlags,
//!     /// How often to run
//!     #[arg(long, default_value = "1m0s")]
//!     interval: GoDuration,
//! }
//! impl AsRef<CommonFlags> for Args {
//!     fn as_ref(&self) -> &CommonFlags {
//!         &self.common
//!     }
//! }
//!
//! const COMPONENT: Component = Component {
//!     name: "vpa-example",
//!     about: "An example.",
//!     default_address: ":8950",
//!     lease_name: Some("vpa-example"),
//! };
//!
//! async fn run(args: Args, shell: Shell) -> Result<(), Error> {
//!     let Args { common, leader, interval } = args;
//!     let CommonFlags { kube, scope, log: _, address, profiling, feature_gates: _ } = common;
//!     shell.serve(&address, profiling).await?;
//!     let scope = scope.scope()?;
//!     let cluster = shell.connect(&kube).await?;
//!     preflight::crds(&cluster, &[preflight::VPA_CRD]).await?;
//!     preflight::permissions(&cluster, &[preflight::Permission::new("list", "", "pods", "find pods")]).await?;
//!     let pods = shell.watch::<vpa_api::pod::Pod>(&cluster, StoreOptions::named("pods").scope(&scope));
//!     let Some(leadership) = shell.lead(&cluster, &leader).await? else { return Ok(()) };
//!     pods.wait_synced(&shell.stopping()).await;
//!     shell.health().monitor(Duration::from(interval) * 5);
//!     while shell.sleep(Duration::from(interval)).await && leadership.holds() {
//!         println!("{} pods", pods.len());
//!         shell.health().active();
//!     }
//!     leadership.release().await;
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     vpa_runtime::run_main(&COMPONENT, run)
//! }
//! ```
//!
//! # Bounds
//! Queues, retries, bodies and waits have a bound, with its reason at the constant: [`client`], [`store`], [`targets`],
//! [`executor`], [`server`].

pub mod client;
pub mod clock;
pub mod errors;
pub mod executor;
pub mod flags;
pub mod lease;
pub mod metrics;
pub mod nodes;
mod pace;
pub mod patch;
pub mod preflight;
mod run;
pub mod server;
pub mod store;
pub mod targets;
pub mod telemetry;
#[cfg(test)]
mod testing;

pub use client::Cluster;
pub use errors::{Error, FlagError};
pub use executor::{Executor, Outcome};
pub use lease::Leadership;
pub use pace::Pacer;
pub use run::{Component, Shell, run_main, run_main_with};
pub use server::{Health, Pages};
pub use store::{Store, StoreEvent, StoreOptions};
