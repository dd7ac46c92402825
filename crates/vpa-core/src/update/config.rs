//! What an operator can turn.

use jiff::SignedDuration;

use super::gradual::MaxStep;
use crate::limiter::{Limiter, RateError};

/// Settings of the updater that decisions depend on. Defaults are the Go suite's.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Live pods below which a group is left alone; a VPA's own `minReplicas` wins.
    pub min_replicas: i64,
    /// Fraction of a group's replicas that may be disrupted in one pass; the product is cut to a whole number.
    pub eviction_tolerance: f64,
    /// Evictions per second, and separately resizes per second; zero or less: no limit.
    pub rate_limit: f64,
    /// Evictions (and separately resizes) that may come at once.
    pub rate_burst: u32,
    /// Relative change below which a pod within its bounds is left alone.
    pub update_threshold: f64,
    /// Age below which a pod within its bounds is left alone.
    pub pod_lifetime_threshold: SignedDuration,
    /// A container that was OOM-killed sooner than this after its start makes its pod due at once.
    pub evict_after_oom_threshold: SignedDuration,
    /// Resizes that restart no container need no disruption budget.
    pub in_place_skip_disruption_budget: bool,
    /// Time a deferred resize may take before it falls back to eviction.
    pub deferred_fallback: SignedDuration,
    /// Time a resize may be in progress before it falls back to eviction.
    pub in_progress_fallback: SignedDuration,
    /// Disruptions of all VPAs within an hour; 0: no limit.
    pub max_disruptions_per_hour: u32,
    /// Disruptions of one VPA within an hour; 0: no limit.
    pub max_disruptions_per_hour_per_vpa: u32,
    /// How far a request may move in one resize.
    pub max_step: MaxStep,
    /// Whether the cluster lowers memory limits of a running container: from Kubernetes 1.34 on, before that only where
    /// the container restarts.
    pub lowers_memory_limits: bool,
    /// Longest time a pass may take; later steps are left to the next one.
    pub pass_deadline: SignedDuration,
    /// Namespaces whose VPAs are ignored.
    pub ignored_namespaces: Vec<String>,
    /// Features that can be switched off.
    pub features: Features,
}

/// Feature gates of the updater. All are on by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Update mode `InPlace`.
    pub in_place: bool,
    /// `evictAfterOOMSeconds` of a VPA.
    pub per_vpa_config: bool,
    /// Ending of CPU startup boosts.
    pub cpu_startup_boost: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self { in_place: true, per_vpa_config: true, cpu_startup_boost: true }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_replicas: 2,
            eviction_tolerance: 0.5,
            rate_limit: -1.0,
            rate_burst: 1,
            update_threshold: 0.1,
            pod_lifetime_threshold: SignedDuration::from_hours(12),
            evict_after_oom_threshold: SignedDuration::from_mins(10),
            in_place_skip_disruption_budget: false,
            deferred_fallback: SignedDuration::from_mins(5),
            in_progress_fallback: SignedDuration::from_hours(1),
            max_disruptions_per_hour: 0,
            max_disruptions_per_hour_per_vpa: 0,
            max_step: MaxStep::default(),
            lowers_memory_limits: true,
            pass_deadline: SignedDuration::from_mins(1),
            ignored_namespaces: Vec::new(),
            features: Features::default(),
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A rate that cannot be kept, or lets nothing through, ever.
    #[error("--eviction-rate-limit, --eviction-rate-burst: {0}")]
    Rate(#[from] RateError),
    /// Not a fraction.
    #[error("--eviction-tolerance is {0}: it must be a fraction from 0 to 1")]
    Tolerance(f64),
    /// Not a number, or below zero.
    #[error("--pod-update-threshold is {0}: it must be 0 or more")]
    Threshold(f64),
    /// Not a fraction by which a request can move.
    #[error("--{flag} is {value}: it must be {wanted}")]
    Step {
        /// Name of the flag.
        flag: &'static str,
        /// What was given.
        value: f64,
        /// What it may be.
        wanted: &'static str,
    },
    /// A duration that has to be positive is not.
    #[error("--{flag} is {value:#}: it must be longer than 0")]
    NotPositive {
        /// Name of the flag.
        flag: &'static str,
        /// What was given.
        value: SignedDuration,
    },
}

impl Config {
    /// Refuses settings under which the updater could do nothing, or harm.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Limiter::new(self.rate_limit, self.rate_burst)?;
        if !(0.0..=1.0).contains(&self.eviction_tolerance) {
            return Err(ConfigError::Tolerance(self.eviction_tolerance));
        }
        if !self.update_threshold.is_finite() || self.update_threshold < 0.0 {
            return Err(ConfigError::Threshold(self.update_threshold));
        }
        for (flag, value, most, wanted) in [
            ("max-step-up", self.max_step.up, f64::MAX, "0 for no bound, or a fraction above it"),
            ("max-step-down", self.max_step.down, 1.0, "0 for no bound, or a fraction up to 1"),
        ] {
            if let Some(value) = value.filter(|value| !(0.0..=most).contains(value)) {
                return Err(ConfigError::Step { flag, value, wanted });
            }
        }
        for (flag, value) in [
            ("updater-interval", self.pass_deadline),
            ("in-place-deferred-timeout", self.deferred_fallback),
            ("in-place-in-progress-timeout", self.in_progress_fallback),
        ] {
            if value <= SignedDuration::ZERO {
                return Err(ConfigError::NotPositive { flag, value });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_can_never_work() {
        let ok = Config::default();
        assert_eq!(ok.validate(), Ok(()));
        assert_eq!(
            Config { rate_limit: 1.0, rate_burst: 0, ..ok.clone() }.validate(),
            Err(ConfigError::Rate(RateError::Burst(1.0)))
        );
        assert_eq!(
            Config { rate_burst: 0, ..ok.clone() }.validate(),
            Ok(()),
            "without a rate the burst is not used"
        );
        assert!(Config { eviction_tolerance: f64::NAN, ..ok.clone() }.validate().is_err());
        assert!(Config { eviction_tolerance: 1.5, ..ok.clone() }.validate().is_err());
        for (up, down) in [(f64::NAN, 0.5), (-0.1, 0.5), (f64::INFINITY, 0.5), (0.5, 1.1), (0.5, -0.1)] {
            let max_step = MaxStep { up: Some(up), down: Some(down) };
            assert!(Config { max_step, ..ok.clone() }.validate().is_err(), "{max_step:?}");
        }
        assert!(Config { deferred_fallback: SignedDuration::ZERO, ..ok }.validate().is_err());
    }
}
