//! Flags, and what they mean to the recommender.

mod history;
mod writes;

use std::time::Duration;

use jiff::SignedDuration;
use vpa_api::names::DEFAULT_RECOMMENDER;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::{Quantity, ResourceList};
use vpa_core::model::Settings;
use vpa_core::recommend::{Config, ResourceConfig, Scope as ServedScope};
use vpa_runtime::FlagError;
use vpa_runtime::flags::{
    CommonFlags, FeatureGates, GoDuration, LeaderElectFlags, Scope, parse_non_negative,
    parse_positive_duration,
};

use history::HistoryFlags;
pub(crate) use history::{Credentials, HistorySource, PrometheusOptions, UsageSource};
use writes::{WriteFlags, Writing};

/// Flags of the recommender.
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Flags that every program has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Leader election.
    #[command(flatten)]
    pub leader: LeaderElectFlags,
    /// Its own.
    #[command(flatten)]
    pub recommender: RecommenderFlags,
}

impl AsRef<CommonFlags> for Args {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

/// Flags of the recommender alone.
#[derive(clap::Args, Debug)]
pub struct RecommenderFlags {
    /// Name of this recommender; VPAs that name it are served, and by the one called `default` also those that name none
    #[arg(long, default_value = DEFAULT_RECOMMENDER, value_name = "NAME")]
    recommender_name: String,
    /// How often usage is read and recommendations are made; metrics-server has new numbers every 15 s to 1 min
    #[arg(long, default_value = "1m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    recommender_interval: GoDuration,
    /// How often checkpoints of VPAs that are gone are removed
    #[arg(long, default_value = "10m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    checkpoints_gc_interval: GoDuration,
    /// Keep track only of pods that a VPA selects; a new VPA then starts without history
    #[arg(long)]
    memory_saver: bool,
    /// Time that a target may be missing before the history of its pods is dropped; covers a workload that is deleted
    /// and created again
    #[arg(long, default_value = "10m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    target_grace_period: GoDuration,
    /// What is written, and when
    #[command(flatten)]
    writes: WriteFlags,
    /// Where history and usage come from
    #[command(flatten)]
    history: HistoryFlags,

    /// Part of the usage that is added to it
    #[arg(long, default_value_t = 0.15, value_parser = parse_non_negative, value_name = "FRACTION")]
    recommendation_margin_fraction: f64,
    /// Least CPU that a pod is recommended, in millicores, shared out over its containers
    #[arg(long, default_value_t = 25.0, value_parser = parse_non_negative, value_name = "MILLICORES")]
    pod_recommendation_min_cpu_millicores: f64,
    /// Least memory that a pod is recommended, in MiB, shared out over its containers
    #[arg(long, default_value_t = 250.0, value_parser = parse_non_negative, value_name = "MIB")]
    pod_recommendation_min_memory_mb: f64,
    /// Percentile of CPU usage that the target is made from, 0 to 1
    #[arg(long, default_value_t = 0.9, value_parser = parse_fraction, value_name = "FRACTION")]
    target_cpu_percentile: f64,
    /// Percentile of CPU usage that the lower bound is made from, 0 to 1
    #[arg(long, default_value_t = 0.5, value_parser = parse_fraction, value_name = "FRACTION")]
    recommendation_lower_bound_cpu_percentile: f64,
    /// Percentile of CPU usage that the upper bound is made from, 0 to 1
    #[arg(long, default_value_t = 0.95, value_parser = parse_fraction, value_name = "FRACTION")]
    recommendation_upper_bound_cpu_percentile: f64,
    /// Length of history at which the upper bound of CPU is twice its percentile; the bounds are wider with less
    #[arg(long, default_value = "24h0m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    confidence_interval_cpu: GoDuration,
    /// Percentile of memory peaks that the target is made from, 0 to 1
    #[arg(long, default_value_t = 0.9, value_parser = parse_fraction, value_name = "FRACTION")]
    target_memory_percentile: f64,
    /// Percentile of memory peaks that the lower bound is made from, 0 to 1
    #[arg(long, default_value_t = 0.5, value_parser = parse_fraction, value_name = "FRACTION")]
    recommendation_lower_bound_memory_percentile: f64,
    /// Percentile of memory peaks that the upper bound is made from, 0 to 1
    #[arg(long, default_value_t = 0.95, value_parser = parse_fraction, value_name = "FRACTION")]
    recommendation_upper_bound_memory_percentile: f64,
    /// As --confidence-interval-cpu, for memory
    #[arg(long, default_value = "24h0m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    confidence_interval_memory: GoDuration,
    /// Write memory with two decimals and a unit (deprecated: a text like 3.13Gi is no whole number of bytes; use
    /// --round-memory-bytes)
    #[arg(long)]
    humanize_memory: bool,
    /// Round CPU up to a multiple of this many millicores
    #[arg(long, default_value_t = 1, value_name = "MILLICORES")]
    round_cpu_millicores: i64,
    /// Round memory up to a multiple of this many bytes
    #[arg(long, default_value_t = 1, value_name = "BYTES")]
    round_memory_bytes: i64,

    /// Length of an interval of which the memory peak counts as one sample
    #[arg(long, default_value = "24h0m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    memory_aggregation_interval: GoDuration,
    /// Number of such intervals after which a container without samples is forgotten
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    memory_aggregation_interval_count: i64,
    /// Time in which a memory peak loses half of its weight
    #[arg(long, default_value = "24h0m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    memory_histogram_decay_half_life: GoDuration,
    /// Time in which a CPU sample loses half of its weight
    #[arg(long, default_value = "24h0m0s", value_parser = parse_positive_duration, value_name = "DURATION")]
    cpu_histogram_decay_half_life: GoDuration,
    /// Factor by which an OOM kill raises the memory sample
    #[arg(long, default_value_t = 1.2, value_parser = parse_non_negative, value_name = "FACTOR")]
    oom_bump_up_ratio: f64,
    /// Least number of bytes by which an OOM kill raises the memory sample: 100 MiB
    #[arg(long, default_value_t = 104_857_600.0, value_parser = parse_non_negative, value_name = "BYTES")]
    oom_min_bump_up_bytes: f64,

    /// Recommend whole cores for the containers that a VPA's annotation
    /// vpa-post-processor.kubernetes.io/CONTAINER_integerCPU=true names
    #[arg(long)]
    cpu_integer_post_processor_enabled: bool,
    /// Highest CPU that a container is recommended where its VPA gives no maximum; none by default
    #[arg(long, value_name = "QUANTITY")]
    container_recommendation_max_allowed_cpu: Option<Quantity>,
    /// Highest memory that a container is recommended where its VPA gives no maximum; none by default
    #[arg(long, value_name = "QUANTITY")]
    container_recommendation_max_allowed_memory: Option<Quantity>,
}

/// What the flags come to.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) scope: ServedScope,
    pub(crate) settings: Settings,
    pub(crate) config: Config,
    pub(crate) interval: Duration,
    pub(crate) checkpoints_gc_interval: Duration,
    pub(crate) memory_saver: bool,
    pub(crate) writing: Writing,
    pub(crate) history: HistorySource,
    pub(crate) usage: UsageSource,
}

impl RecommenderFlags {
    /// Takes the flags apart.
    ///
    /// # Errors
    /// When values contradict each other or cannot be served.
    pub(crate) fn options(self, scope: &Scope, gates: &FeatureGates) -> Result<Options, FlagError> {
        let Self {
            recommender_name,
            recommender_interval,
            checkpoints_gc_interval,
            memory_saver,
            target_grace_period,
            writes,
            history,
            recommendation_margin_fraction,
            pod_recommendation_min_cpu_millicores,
            pod_recommendation_min_memory_mb,
            target_cpu_percentile,
            recommendation_lower_bound_cpu_percentile,
            recommendation_upper_bound_cpu_percentile,
            confidence_interval_cpu,
            target_memory_percentile,
            recommendation_lower_bound_memory_percentile,
            recommendation_upper_bound_memory_percentile,
            confidence_interval_memory,
            humanize_memory,
            round_cpu_millicores,
            round_memory_bytes,
            memory_aggregation_interval,
            memory_aggregation_interval_count,
            memory_histogram_decay_half_life,
            cpu_histogram_decay_half_life,
            oom_bump_up_ratio,
            oom_min_bump_up_bytes,
            cpu_integer_post_processor_enabled,
            container_recommendation_max_allowed_cpu,
            container_recommendation_max_allowed_memory,
        } = self;
        if memory_aggregation_interval_count < 1 {
            let found = memory_aggregation_interval_count.to_string();
            return Err(FlagError::new("memory-aggregation-interval-count", found, "1 or more"));
        }
        let (history, usage) = history.sources(scope.namespace.as_deref())?;
        let writing = writes.writing(recommender_interval)?;
        let maxima = [
            (CPU, container_recommendation_max_allowed_cpu),
            (MEMORY, container_recommendation_max_allowed_memory),
        ];
        let max_allowed: ResourceList = maxima
            .into_iter()
            .filter_map(|(name, max)| Some((name, max.filter(|max| max.signum() > 0)?)))
            .collect();
        Ok(Options {
            scope: ServedScope {
                recommender: recommender_name,
                namespace: scope.namespace.clone(),
                ignored_namespaces: scope.ignored.iter().cloned().collect(),
            },
            settings: Settings {
                memory_interval: signed(memory_aggregation_interval),
                memory_interval_count: memory_aggregation_interval_count,
                cpu_half_life: signed(cpu_histogram_decay_half_life),
                memory_half_life: signed(memory_histogram_decay_half_life),
                oom_bump_up_ratio,
                oom_min_bump_up_bytes,
                per_vpa_config: gates.per_vpa_config,
                target_grace: signed(target_grace_period),
            },
            config: Config {
                cpu: ResourceConfig {
                    target: target_cpu_percentile,
                    lower_bound: recommendation_lower_bound_cpu_percentile,
                    upper_bound: recommendation_upper_bound_cpu_percentile,
                    confidence_interval: signed(confidence_interval_cpu),
                },
                memory: ResourceConfig {
                    target: target_memory_percentile,
                    lower_bound: recommendation_lower_bound_memory_percentile,
                    upper_bound: recommendation_upper_bound_memory_percentile,
                    confidence_interval: signed(confidence_interval_memory),
                },
                margin_fraction: recommendation_margin_fraction,
                pod_min_cpu_millicores: pod_recommendation_min_cpu_millicores,
                pod_min_memory_mib: pod_recommendation_min_memory_mb,
                round_cpu_millicores,
                round_memory_bytes,
                humanize_memory,
                integer_cpu: cpu_integer_post_processor_enabled,
                max_allowed,
                bounds_tolerance: writing.bounds_tolerance,
                bounds_wait_max: writing.bounds_wait_max,
                checkpoints: Some(writing.schedule),
            },
            interval: recommender_interval.into(),
            checkpoints_gc_interval: checkpoints_gc_interval.into(),
            memory_saver,
            writing,
            history,
            usage,
        })
    }
}

fn signed(duration: GoDuration) -> SignedDuration {
    SignedDuration::try_from(Duration::from(duration)).unwrap_or(SignedDuration::MAX)
}

/// Reads a number from 0 to 1.
fn parse_fraction(text: &str) -> Result<f64, String> {
    parse_non_negative(text)
        .ok()
        .filter(|value| *value <= 1.0)
        .ok_or_else(|| "a number from 0 to 1".to_owned())
}
