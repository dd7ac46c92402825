//! Flags of the updater.

use vpa_core::update::{Config, ConfigError, Features, MaxStep};
use vpa_runtime::FlagError;
use vpa_runtime::flags::{
    CommonFlags, FeatureGates, GoDuration, LeaderElectFlags, Scope, parse_positive_duration,
};

/// Flags of the updater.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Flags that every program has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Leader election.
    #[command(flatten)]
    pub leader: LeaderElectFlags,
    /// The admission controller's lease.
    #[command(flatten)]
    pub heartbeat: HeartbeatFlags,
    /// How pods are chosen.
    #[command(flatten)]
    pub policy: PolicyFlags,
    /// Time from the beginning of one pass over all VPAs to that of the next; also the longest time of a pass
    #[arg(long, default_value = "1m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    pub updater_interval: GoDuration,
    /// Most evictions and resizes under way at once, each of another VPA. It starts with 4 and goes up while the API
    /// server answers quickly, down on delays and errors. An eviction takes about 100 ms, so 32 make some 300 a second
    #[arg(long, default_value_t = 32, value_name = "COUNT")]
    pub max_parallel_updates: usize,
}

impl AsRef<CommonFlags> for Args {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

/// Flags for the admission controller's lease.
#[derive(clap::Args, Clone, Debug)]
pub struct HeartbeatFlags {
    /// Update pods only while the admission controller renews its lease: without it an evicted pod would come back as
    /// it was
    #[arg(long, default_value_t = true)]
    pub use_admission_controller_status: bool,
    /// Name of that lease; the admission controller's --status-lease-name
    #[arg(long, default_value = vpa_api::names::lease::ADMISSION_CONTROLLER, value_name = "NAME")]
    pub admission_controller_status_lease_name: String,
    /// Namespace of that lease; without it the one in the environment variable NAMESPACE, else kube-system
    #[arg(long, default_value = "", value_name = "NAMESPACE")]
    pub admission_controller_status_lease_namespace: String,
    /// Age at which the lease is stale; longer than the admission controller's --status-lease-update-interval
    #[arg(long, default_value = "1m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    pub admission_controller_status_lease_timeout: GoDuration,
}

impl HeartbeatFlags {
    /// Namespace of the lease.
    pub fn namespace(&self) -> String {
        let given = Some(self.admission_controller_status_lease_namespace.clone());
        let environment = || std::env::var("NAMESPACE").ok();
        let some = |namespace: &String| !namespace.is_empty();
        given.filter(some).or_else(|| environment().filter(some)).unwrap_or_else(|| "kube-system".to_owned())
    }
}

/// 0 stands for no bound.
fn above_zero(value: f64) -> Option<f64> {
    (value != 0.0).then_some(value)
}

/// Flags for the choice of pods.
#[derive(clap::Args, Clone, Debug)]
pub struct PolicyFlags {
    /// Live pods of one owner below which none of them is touched; a VPA's own minReplicas wins
    #[arg(long, default_value_t = 2, value_name = "COUNT")]
    pub min_replicas: i64,
    /// Fraction of an owner's replicas that may be disrupted in one pass, cut to a whole number; with less than one
    /// whole replica one pod at a time, while all run
    #[arg(long, default_value_t = 0.5, value_name = "FRACTION")]
    pub eviction_tolerance: f64,
    /// Evictions per second, and as many resizes; 0 or less for no limit
    #[arg(long, default_value_t = -1.0, value_name = "PER_SECOND", allow_negative_numbers = true)]
    pub eviction_rate_limit: f64,
    /// Evictions (and resizes) that may come at once before --eviction-rate-limit applies
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub eviction_rate_burst: u32,
    /// Relative change of requests, summed over the resources, below which a pod within its bounds is left alone
    #[arg(long, default_value_t = 0.1, value_name = "FRACTION")]
    pub pod_update_threshold: f64,
    /// Age below which a pod within its bounds is left alone
    #[arg(long, default_value = "12h0m0s", value_name = "DURATION")]
    pub in_recommendation_bounds_eviction_lifetime_threshold: GoDuration,
    /// A container that runs out of memory sooner than this after its start makes its pod due at once
    #[arg(long, default_value = "10m0s", value_name = "DURATION")]
    pub evict_after_oom_threshold: GoDuration,
    /// Resize in place without regard to the disruption budget, where no container asks for a restart on resize
    #[arg(long)]
    pub in_place_skip_disruption_budget: bool,
    /// Time that the kubelet may defer a resize before an InPlaceOrRecreate pod is evicted
    #[arg(long, default_value = "5m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    pub in_place_deferred_timeout: GoDuration,
    /// Time that a resize may be in progress before an InPlaceOrRecreate pod is evicted
    #[arg(long, default_value = "1h0m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    pub in_place_in_progress_timeout: GoDuration,
    /// Most pods of all VPAs that may be disrupted within an hour: evicted, or resized where that may restart a
    /// container; 0 for no limit
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub max_disruptions_per_hour: u32,
    /// Most pods of one VPA that may be disrupted within an hour; 0 for no limit
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub max_disruptions_per_hour_per_vpa: u32,
    /// Fraction by which one resize in place may raise a request, so that a large change takes several passes; 0 for no
    /// bound
    #[arg(long, default_value_t = 0.0, value_name = "FRACTION")]
    pub max_step_up: f64,
    /// Fraction by which one resize in place may lower a request; 0 for no bound
    #[arg(long, default_value_t = 0.0, value_name = "FRACTION")]
    pub max_step_down: f64,
}

/// Settings of the core from the flags.
///
/// # Errors
/// The first flag that makes no sense.
pub fn config(
    policy: &PolicyFlags,
    interval: GoDuration,
    gates: FeatureGates,
    scope: &Scope,
) -> Result<Config, FlagError> {
    let config = Config {
        min_replicas: policy.min_replicas,
        eviction_tolerance: policy.eviction_tolerance,
        rate_limit: policy.eviction_rate_limit,
        rate_burst: policy.eviction_rate_burst,
        update_threshold: policy.pod_update_threshold,
        pod_lifetime_threshold: policy.in_recommendation_bounds_eviction_lifetime_threshold.as_signed(),
        evict_after_oom_threshold: policy.evict_after_oom_threshold.as_signed(),
        in_place_skip_disruption_budget: policy.in_place_skip_disruption_budget,
        deferred_fallback: policy.in_place_deferred_timeout.as_signed(),
        in_progress_fallback: policy.in_place_in_progress_timeout.as_signed(),
        pass_deadline: interval.as_signed(),
        ignored_namespaces: scope.ignored.iter().cloned().collect(),
        features: Features {
            in_place: gates.in_place,
            per_vpa_config: gates.per_vpa_config,
            cpu_startup_boost: gates.cpu_startup_boost,
        },
        max_disruptions_per_hour: policy.max_disruptions_per_hour,
        max_disruptions_per_hour_per_vpa: policy.max_disruptions_per_hour_per_vpa,
        max_step: MaxStep { up: above_zero(policy.max_step_up), down: above_zero(policy.max_step_down) },
        lowers_memory_limits: true,
    };
    config.validate().map_err(|error| match error {
        ConfigError::Rate(error) => {
            let found = format!(
                "{} with --eviction-rate-burst {}",
                policy.eviction_rate_limit, policy.eviction_rate_burst
            );
            FlagError::new("eviction-rate-limit", found, error.to_string())
        }
        ConfigError::Tolerance(found) => {
            FlagError::new("eviction-tolerance", found.to_string(), "a fraction from 0 to 1")
        }
        ConfigError::Threshold(found) => {
            FlagError::new("pod-update-threshold", found.to_string(), "0 or more")
        }
        ConfigError::Step { flag, value, wanted } => FlagError::new(flag, value.to_string(), wanted),
        ConfigError::NotPositive { flag, value } => {
            FlagError::new(flag, format!("{value:#}"), "longer than 0")
        }
    })?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn policy(argv: &[&str]) -> PolicyFlags {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            policy: PolicyFlags,
        }
        Only::try_parse_from(std::iter::once(&"updater").chain(argv)).unwrap().policy
    }

    #[test]
    fn defaults_are_those_of_the_core() {
        let policy = policy(&[]);
        let interval = GoDuration::from_secs(60);
        let config = config(&policy, interval, FeatureGates::default(), &Scope::default()).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn settings_without_effect_are_refused() {
        let interval = GoDuration::from_secs(60);
        for (argv, flag) in [
            (["--eviction-rate-limit=1", "--eviction-rate-burst=0"], "eviction-rate-limit"),
            (["--eviction-tolerance=1.5", "--eviction-rate-burst=1"], "eviction-tolerance"),
            (["--pod-update-threshold=-1", "--eviction-rate-burst=1"], "pod-update-threshold"),
            (["--max-step-down=1.5", "--max-step-up=0"], "max-step-down"),
            (["--max-step-down=0", "--max-step-up=-0.5"], "max-step-up"),
        ] {
            let error =
                config(&policy(&argv), interval, FeatureGates::default(), &Scope::default()).unwrap_err();
            assert_eq!(error.flag, flag);
        }
    }
}
