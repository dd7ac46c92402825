//! The distribution of the usage of all containers that share a name and their pods' labels.

use jiff::{SignedDuration, Timestamp};
use vpa_api::checkpoint::{CHECKPOINT_VERSION, VerticalPodAutoscalerCheckpointStatus};

use super::buckets;
use super::histogram::{DecayingHistogram, LoadError};
use super::settings::Settings;

/// Weight of a CPU sample before decay. Memory peaks weigh 1. Part of the checkpoint format.
const CPU_SAMPLE_WEIGHT: f64 = 0.1;

/// Why a checkpoint cannot be loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// Another version of the format.
    #[error("status.version is {0:?}, but only {CHECKPOINT_VERSION:?} can be read")]
    Version(String),
    /// The CPU histogram cannot be loaded.
    #[error("status.cpuHistogram: {0}")]
    Cpu(LoadError),
    /// The memory histogram cannot be loaded.
    #[error("status.memoryHistogram: {0}")]
    Memory(LoadError),
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// CPU usage in cores.
    pub cpu: DecayingHistogram,
    /// Memory peaks in bytes, one for each container and interval.
    pub memory: DecayingHistogram,
    /// Time of the first CPU sample.
    pub first_sample: Option<Timestamp>,
    /// Time of the last CPU sample.
    pub last_sample: Option<Timestamp>,
    /// Number of CPU samples.
    pub samples: i64,
    /// When the aggregate was made.
    pub created: Timestamp,
}

impl Aggregate {
    /// An empty aggregate, made now.
    pub fn new(settings: &Settings, now: Timestamp) -> Self {
        Self {
            cpu: DecayingHistogram::new(&buckets::CPU, settings.cpu_half_life),
            memory: DecayingHistogram::new(&buckets::MEMORY, settings.memory_half_life),
            first_sample: None,
            last_sample: None,
            samples: 0,
            created: now,
        }
    }

    /// Adds a CPU sample.
    pub fn add_cpu(&mut self, millicores: i64, time: Timestamp) {
        self.cpu.add(millicores as f64 / 1000.0, CPU_SAMPLE_WEIGHT, time);
        self.last_sample = self.last_sample.max(Some(time));
        self.first_sample = earlier(self.first_sample, Some(time));
        self.samples += 1;
    }

    /// Adds the memory peak of an interval that ends at `window_end`.
    pub fn add_memory_peak(&mut self, bytes: i64, window_end: Timestamp) {
        self.memory.add(bytes as f64, 1.0, window_end);
    }

    /// Takes a memory peak out again.
    pub fn subtract_memory_peak(&mut self, bytes: i64, window_end: Timestamp) {
        self.memory.subtract_held(bytes as f64, 1.0, window_end);
    }

    /// Adds all samples of another aggregate. Both may have their reference times moved.
    pub fn merge(&mut self, other: &mut Self) {
        self.cpu.merge(&mut other.cpu);
        self.memory.merge(&mut other.memory);
        self.first_sample = earlier(self.first_sample, other.first_sample);
        self.last_sample = self.last_sample.max(other.last_sample);
        self.samples = self.samples.saturating_add(other.samples);
    }

    /// Whether it has no CPU sample.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Whether its last CPU sample (its making, where it has none) is `history` or more ago.
    pub fn is_expired(&self, history: SignedDuration, now: Timestamp) -> bool {
        let since = if self.is_empty() { Some(self.created) } else { self.last_sample };
        since.is_none_or(|since| now.duration_since(since) >= history)
    }

    /// The form that goes into a checkpoint.
    pub fn to_checkpoint(&self, now: Timestamp) -> VerticalPodAutoscalerCheckpointStatus {
        VerticalPodAutoscalerCheckpointStatus {
            last_update_time: Some(now.into()),
            version: Some(CHECKPOINT_VERSION.to_owned()),
            cpu_histogram: self.cpu.to_checkpoint(),
            memory_histogram: self.memory.to_checkpoint(),
            first_sample_start: self.first_sample.map(Into::into),
            last_sample_start: self.last_sample.map(Into::into),
            total_samples_count: self.samples,
        }
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// When its version is another one or a number is out of range.
    pub fn from_checkpoint(
        checkpoint: &VerticalPodAutoscalerCheckpointStatus,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let version = checkpoint.version.as_deref().unwrap_or("");
        if version != CHECKPOINT_VERSION {
            return Err(CheckpointError::Version(version.to_owned()));
        }
        let mut aggregate = Self::new(settings, now);
        aggregate.samples = checkpoint.total_samples_count.max(0);
        aggregate.first_sample = checkpoint.first_sample_start.as_ref().map(|time| time.0);
        aggregate.last_sample = checkpoint.last_sample_start.as_ref().map(|time| time.0);
        aggregate.memory.load(&checkpoint.memory_histogram).map_err(CheckpointError::Memory)?;
        aggregate.cpu.load(&checkpoint.cpu_histogram).map_err(CheckpointError::Cpu)?;
        Ok(aggregate)
    }
}

/// The earlier of two times, of which one may be unknown.
fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (known, None) | (None, known) => known,
    }
}
