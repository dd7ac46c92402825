//! How samples are aggregated.

use jiff::SignedDuration;
use vpa_api::vpa::ContainerResourcePolicy;

/// Settings for the whole cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Of each interval of this length, the memory peak is one sample.
    pub memory_interval: SignedDuration,
    /// Intervals after which a container without samples is forgotten.
    pub memory_interval_count: i64,
    /// Time in which a CPU sample loses half of its weight.
    pub cpu_half_life: SignedDuration,
    /// Time in which a memory peak loses half of its weight.
    pub memory_half_life: SignedDuration,
    /// Factor by which an OOM kill raises the memory sample.
    pub oom_bump_up_ratio: f64,
    /// Least number of bytes by which an OOM kill raises the memory sample.
    pub oom_min_bump_up_bytes: f64,
    /// Whether a VPA's policy may override the interval and the OOM settings (gate `PerVPAConfig`).
    pub per_vpa_config: bool,
    /// How long a target may be gone before the history of its pods is dropped. Long enough for a workload that is
    /// deleted and created again by its deployment tool.
    pub target_grace: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        let day = SignedDuration::from_hours(24);
        Self {
            memory_interval: day,
            memory_interval_count: 8,
            cpu_half_life: day,
            memory_half_life: day,
            oom_bump_up_ratio: 1.2,
            oom_min_bump_up_bytes: 104_857_600.0,
            per_vpa_config: true,
            target_grace: SignedDuration::from_mins(10),
        }
    }
}

/// Settings in force for one container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContainerSettings {
    /// See [`Settings::memory_interval`].
    pub memory_interval: SignedDuration,
    /// See [`Settings::memory_interval_count`].
    pub memory_interval_count: i64,
    /// See [`Settings::oom_bump_up_ratio`].
    pub oom_bump_up_ratio: f64,
    /// See [`Settings::oom_min_bump_up_bytes`].
    pub oom_min_bump_up_bytes: f64,
}

impl Settings {
    /// Settings for a container under this policy. They hold as long as the policy says so.
    pub fn for_container(&self, policy: Option<&ContainerResourcePolicy>) -> ContainerSettings {
        let policy = policy.filter(|_| self.per_vpa_config);
        let thousandths = |quantity: &vpa_api::Quantity| quantity.milli_value_saturating() as f64 / 1000.0;
        let ratio = policy.and_then(|policy| policy.oom_bump_up_ratio.as_ref()).map(thousandths);
        let bump = policy.and_then(|policy| policy.oom_min_bump_up.as_ref()).map(thousandths);
        let seconds = policy.and_then(|policy| policy.memory_aggregation_interval_seconds);
        let count = policy.and_then(|policy| policy.memory_aggregation_interval_count);
        ContainerSettings {
            // Shorter than a second makes no sense and would divide by zero.
            memory_interval: seconds
                .map_or(self.memory_interval, |seconds| SignedDuration::from_secs(seconds.into()))
                .max(SignedDuration::from_secs(1)),
            memory_interval_count: count.unwrap_or(self.memory_interval_count),
            oom_bump_up_ratio: ratio.unwrap_or(self.oom_bump_up_ratio),
            oom_min_bump_up_bytes: bump.unwrap_or(self.oom_min_bump_up_bytes),
        }
    }
}

impl ContainerSettings {
    /// Time after its last sample at which a container's history ends.
    pub fn history(&self) -> SignedDuration {
        let count = i32::try_from(self.memory_interval_count).unwrap_or(i32::MAX);
        self.memory_interval.checked_mul(count).unwrap_or(SignedDuration::MAX)
    }
}
