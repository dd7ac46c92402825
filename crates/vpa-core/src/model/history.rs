//! History that outlives the program: checkpoints, read and written.
//!
//! A checkpoint's status is what the Go suite writes and reads. It leaves out the peak of each running memory interval,
//! and its weights are rounded. Were that all, a restart would lower memory to the minimum on the first day, count
//! again a usage sample or OOM kill that was counted before, and move a percentile now and then. So the rest goes into
//! an annotation beside it, [`DETAIL_ANNOTATION`]: the exact weights, and how far each live container's samples are
//! taken. It counts only while the status is the one that it was written with; a checkpoint that the Go suite wrote
//! since is read as that suite would read it.

use std::fmt::Write as _;

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vpa_api::VerticalPodAutoscalerCheckpoint;
use vpa_api::checkpoint::VerticalPodAutoscalerCheckpointStatus;

use super::aggregate::{Aggregate, CheckpointError};
use super::container::ContainerState;
use super::histogram::DecayingHistogram;
use super::settings::Settings;

/// Annotation of a checkpoint that holds what its status cannot.
pub const DETAIL_ANNOTATION: &str = "vpaCheckpointDetail";

/// Live containers of which a checkpoint tells how far their samples are taken. A container takes about 80 bytes, and
/// all annotations of an object together may take 256 KiB. Of those beyond, the running interval's peak goes into the
/// weights: it is not lost, but its interval may count twice after a restart.
pub const MAX_OPEN: usize = 1000;

/// A container's history as a checkpoint had it.
#[derive(Clone, Debug)]
pub struct History {
    /// All intervals that had ended.
    pub aggregate: Aggregate,
    /// Containers whose interval had not ended, by pod, until the pod is seen again.
    pub open: Vec<(CompactString, ContainerState)>,
    /// When the checkpoint was written; `None` where it does not say.
    pub until: Option<Timestamp>,
}

impl History {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// When its status cannot be read. An annotation that cannot be read is passed over.
    pub fn from_checkpoint(
        checkpoint: &VerticalPodAutoscalerCheckpoint,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let status = checkpoint.status.clone().unwrap_or_default();
        let mut aggregate = Aggregate::from_checkpoint(&status, settings, now)?;
        let mut open = Vec::new();
        let text = checkpoint.metadata.annotations.as_ref().and_then(|all| all.get(DETAIL_ANNOTATION));
        if let Some(detail) = text.and_then(|text| Detail::parse(text)).filter(|d| d.belongs_to(&status)) {
            let mut exact = aggregate.clone();
            if restore(&mut exact.cpu, &detail.cpu).and(restore(&mut exact.memory, &detail.memory)).is_some()
            {
                aggregate = exact;
                open = detail.open.into_iter().map(Into::into).collect();
            }
        }
        let until = status.last_update_time.map(|time| time.0);
        Ok(Self { aggregate, open, until })
    }

    /// Counts the open intervals as ended; for containers that are gone.
    pub(super) fn settle(&mut self) {
        for (_, state) in self.open.drain(..) {
            if let Some(end) = state.window_end.filter(|_| state.peak() > 0) {
                self.aggregate.add_memory_peak(state.peak(), end);
            }
        }
    }
}

/// A checkpoint's status and annotation from a container's full history and its live containers, whose running
/// intervals are taken out of the status.
pub(super) fn to_checkpoint(
    mut full: Aggregate,
    live: &[(&CompactString, &ContainerState)],
    now: Timestamp,
) -> (VerticalPodAutoscalerCheckpointStatus, String) {
    let mut closed = full.memory.clone();
    let mut open = Vec::new();
    for (pod, state) in live {
        if let Some((end, peak)) = state.open_peak(now) {
            full.subtract_memory_peak(peak, end);
        }
        if open.len() < MAX_OPEN {
            // An interval that has just ended may still get samples, which come late: it counts as open here.
            if let Some(end) = state.window_end.filter(|_| state.peak() > 0) {
                closed.subtract_held(state.peak() as f64, 1.0, end);
            }
            open.push(Open::new(pod, state));
        }
    }
    let status = full.to_checkpoint(now);
    let detail = Detail {
        at: now.as_second(),
        samples: full.samples,
        cpu: Exact::new(&full.cpu),
        memory: Exact::new(&closed),
        open,
    };
    (status, serde_json::to_string(&detail).unwrap_or_default())
}

/// Content of the annotation.
#[derive(Serialize, Deserialize)]
struct Detail {
    /// Second at which the status was written.
    at: i64,
    /// Its number of samples.
    samples: i64,
    cpu: Exact,
    /// Without the open intervals below.
    memory: Exact,
    open: Vec<Open>,
}

impl Detail {
    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn belongs_to(&self, status: &VerticalPodAutoscalerCheckpointStatus) -> bool {
        status.last_update_time.as_ref().is_some_and(|time| time.0.as_second() == self.at)
            && status.total_samples_count == self.samples
    }
}

/// A histogram to the last bit: the hexadecimal bits of its numbers.
#[derive(Serialize, Deserialize)]
struct Exact {
    /// Nanosecond of the reference time since 1970, as text for the sake of readers that keep numbers as floats.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    total: String,
    /// First bucket, colon, weights separated by commas, nothing standing for 0.
    weights: String,
}

impl Exact {
    fn new(histogram: &DecayingHistogram) -> Self {
        let mut weights = String::new();
        let mut next = 0;
        for (bucket, weight) in histogram.weights() {
            if weights.is_empty() {
                let _ = write!(weights, "{bucket}:");
            } else {
                weights.extend((next..=bucket).map(|_| ','));
            }
            let _ = write!(weights, "{:x}", weight.to_bits());
            next = bucket + 1;
        }
        Self {
            reference: histogram.reference().map(|time| time.as_nanosecond().to_string()),
            total: format!("{:x}", histogram.total().to_bits()),
            weights,
        }
    }
}

fn restore(histogram: &mut DecayingHistogram, exact: &Exact) -> Option<()> {
    let number = |text: &str| u64::from_str_radix(text, 16).ok().map(f64::from_bits);
    let reference = match &exact.reference {
        Some(text) => Some(Timestamp::from_nanosecond(text.parse().ok()?).ok()?),
        None => None,
    };
    let mut weights = Vec::new();
    if let Some((first, rest)) = exact.weights.split_once(':') {
        let first: usize = first.parse().ok()?;
        for (place, text) in rest.split(',').enumerate().filter(|(_, text)| !text.is_empty()) {
            weights.push((first.checked_add(place)?, number(text)?));
        }
    }
    histogram.restore(reference, number(&exact.total)?, &weights).ok()
}

/// State of a container: pod, times in seconds, peaks in bytes.
#[derive(Serialize, Deserialize)]
struct Open {
    pod: CompactString,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    usage: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    oom: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oom_at: Option<i64>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Open {
    fn new(pod: &CompactString, state: &ContainerState) -> Self {
        let seconds = |time: Option<Timestamp>| time.map(Timestamp::as_second);
        Self {
            pod: pod.clone(),
            end: seconds(state.window_end),
            usage: state.memory_peak,
            oom: state.oom_peak,
            cpu_at: seconds(state.last_cpu),
            memory_at: seconds(state.last_memory),
            oom_at: seconds(state.last_oom),
        }
    }
}

impl From<Open> for (CompactString, ContainerState) {
    fn from(open: Open) -> Self {
        let time = |seconds: Option<i64>| seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let state = ContainerState {
            last_cpu: time(open.cpu_at),
            last_memory: time(open.memory_at),
            window_end: time(open.end),
            memory_peak: open.usage.max(0),
            oom_peak: open.oom.max(0),
            last_oom: time(open.oom_at),
        };
        (open.pod, state)
    }
}
