//! What is taken from the series of an answer.

use std::collections::{BTreeMap, BTreeSet};

use compact_str::CompactString;
use jiff::Timestamp;
use vpa_core::model::amount::truncate;
use vpa_core::model::pod::Labels;
use vpa_core::model::{ContainerId, PodId};

use super::answer::Series;
use super::{SAMPLES_MAX, TOO_MANY_SAMPLES};

/// Takes series, one by one.
pub(super) trait Take: Send + 'static {
    /// # Errors
    /// Why it does not go on.
    fn take(&mut self, series: Series) -> Result<(), String>;
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// CPU in cores.
    Cpu,
    /// Memory in bytes.
    Memory,
}

/// Samples by container.
#[derive(Debug)]
pub(super) struct Samples {
    /// Labels with namespace, pod and container.
    names: [String; 3],
    resource: Resource,
    containers: BTreeMap<ContainerId, Vec<(Timestamp, i64)>>,
    count: usize,
}

impl Samples {
    pub(super) fn new(names: [String; 3], resource: Resource) -> Self {
        Self { names, resource, containers: BTreeMap::new(), count: 0 }
    }

    pub(super) fn resource(&self) -> Resource {
        self.resource
    }

    /// Time and amount, in millicores or bytes, of each sample.
    pub(super) fn into_containers(self) -> BTreeMap<ContainerId, Vec<(Timestamp, i64)>> {
        self.containers
    }
}

impl Take for Samples {
    fn take(&mut self, series: Series) -> Result<(), String> {
        let [namespace, pod, container] = label_values(&series, &self.names)?;
        let samples = self.containers.entry(ContainerId::new(namespace, pod, container)).or_default();
        let before = samples.len();
        for (time, value) in series.samples() {
            let Ok(time) = Timestamp::from_millisecond((time * 1000.0) as i64) else { continue };
            let scale = match self.resource {
                Resource::Cpu => 1000.0,
                Resource::Memory => 1.0,
            };
            samples.push((time, truncate(value * scale)));
        }
        self.count += samples.len() - before;
        if self.count > SAMPLES_MAX { Err(TOO_MANY_SAMPLES.to_owned()) } else { Ok(()) }
    }
}

/// Labels of pods, as they were last seen.
#[derive(Debug)]
pub(super) struct SeenLabels {
    /// Labels with namespace and pod.
    names: [String; 2],
    prefix: String,
    /// Keys of labels in the cluster, by what Prometheus makes of them.
    keys: BTreeMap<String, CompactString>,
    pods: BTreeMap<PodId, (f64, Labels)>,
}

impl SeenLabels {
    /// `keys` are those that labels of pods have: Prometheus writes `app.kubernetes.io/name` as
    /// `app_kubernetes_io_name`, and a selector would not find it again.
    pub(super) fn new(names: [String; 2], prefix: String, keys: BTreeSet<CompactString>) -> Self {
        let keys = keys.into_iter().map(|key| (sanitized(&key), key)).collect();
        Self { names, prefix, keys, pods: BTreeMap::new() }
    }

    pub(super) fn into_labels(self) -> BTreeMap<PodId, Labels> {
        self.pods.into_iter().map(|(pod, (_, labels))| (pod, labels)).collect()
    }
}

impl Take for SeenLabels {
    fn take(&mut self, series: Series) -> Result<(), String> {
        let [namespace, pod] = label_values(&series, &self.names)?;
        // A vector of times says by its value when a pod was seen, a matrix by the time of its last sample.
        let last = series
            .samples()
            .last()
            .map_or(0.0, |(time, value)| if series.is_matrix() { time } else { value });
        let entry = self.pods.entry(PodId::new(namespace, pod)).or_insert_with(|| (-1.0, Labels::new()));
        if last > entry.0 {
            let labels = series.metric.iter().filter_map(|(name, value)| {
                let key = name.strip_prefix(self.prefix.as_str())?;
                let key = self.keys.get(key).cloned().unwrap_or_else(|| key.into());
                Some((key, value.as_str().into()))
            });
            *entry = (last, labels.collect());
        }
        Ok(())
    }
}

/// A key of a label as Prometheus writes it.
fn sanitized(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// Values of labels that a series must have.
fn label_values<'a, const N: usize>(series: &'a Series, names: &[String; N]) -> Result<[&'a str; N], String> {
    let mut values = [""; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = series.metric.get(name).ok_or_else(|| {
            format!(
                "a series has no label {name:?}, only {:?}; see the flags that name labels",
                series.metric.keys()
            )
        })?;
    }
    Ok(values)
}
