//! How recommendations are made.

use jiff::SignedDuration;
use vpa_api::ResourceList;

use crate::model::Schedule;

/// How the amounts of one resource are taken from its distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceConfig {
    /// Percentile of the target, 0 to 1.
    pub target: f64,
    /// Percentile of the lower bound.
    pub lower_bound: f64,
    /// Percentile of the upper bound.
    pub upper_bound: f64,
    /// Length of history at which the bounds come close to their percentiles.
    pub confidence_interval: SignedDuration,
}

impl Default for ResourceConfig {
    fn default() -> Self {
        Self {
            target: 0.9,
            lower_bound: 0.5,
            upper_bound: 0.95,
            confidence_interval: SignedDuration::from_hours(24),
        }
    }
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// CPU.
    pub cpu: ResourceConfig,
    /// Memory.
    pub memory: ResourceConfig,
    /// Part of the usage that is added to it.
    pub margin_fraction: f64,
    /// Least CPU of a pod, shared out over its containers.
    pub pod_min_cpu_millicores: f64,
    /// Least memory of a pod in MiB, shared out over its containers.
    pub pod_min_memory_mib: f64,
    /// Step to which CPU is rounded up; 1 or less leaves it as it is.
    pub round_cpu_millicores: i64,
    /// Step to which memory is rounded up; 1 or less leaves it as it is.
    pub round_memory_bytes: i64,
    /// Whether memory is written with two decimals and a binary unit.
    pub humanize_memory: bool,
    /// Whether whole cores are recommended where a VPA's annotation asks for them.
    pub integer_cpu: bool,
    /// Highest amounts for a container whose VPA gives none.
    pub max_allowed: ResourceList,
    /// Part of itself by which a bound has to move to be published at once; 0 for any move.
    pub bounds_tolerance: f64,
    /// Longest time for which a smaller move waits.
    pub bounds_wait_max: SignedDuration,
    /// When checkpoints are written; `None` for as soon as they say something new.
    pub checkpoints: Option<Schedule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cpu: ResourceConfig::default(),
            memory: ResourceConfig::default(),
            margin_fraction: 0.15,
            pod_min_cpu_millicores: 25.0,
            pod_min_memory_mib: 250.0,
            round_cpu_millicores: 1,
            round_memory_bytes: 1,
            humanize_memory: false,
            integer_cpu: false,
            max_allowed: ResourceList::new(),
            bounds_tolerance: 0.0,
            bounds_wait_max: SignedDuration::from_mins(10),
            checkpoints: None,
        }
    }
}
