//! From the model to recommendations.
//!
//! [`plan`] goes through all VPAs: merge the history of each container, [`estimate`](estimate::estimate) amounts from
//! it, make them fit to [`publish`](post::publish), set the conditions, and compare with what the object says already.

mod conditions;
mod config;
pub mod estimate;
mod news;
mod offline;
mod plan;
pub mod post;
mod report;
mod serves;

pub use conditions::Conditions;
pub use config::{Config, ResourceConfig};
pub use estimate::{Amounts, Estimate};
pub use news::{Need, News};
pub use offline::{Offline, WorkloadRecommendation};
pub use plan::{CyclePlan, StatusWrite, conditions_after_load, plan};
pub use report::{ContainerReport, CycleReport, VpaReport};
pub use serves::{Scope, resolve};
