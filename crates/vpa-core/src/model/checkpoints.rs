//! Which checkpoints to write and which to delete.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use compact_str::CompactString;
use jiff::Timestamp;
use vpa_api::VerticalPodAutoscalerCheckpoint;
use vpa_api::checkpoint::{VerticalPodAutoscalerCheckpointSpec, VerticalPodAutoscalerCheckpointStatus};
use vpa_api::names::condition::FETCHING_HISTORY;

use super::aggregate::Aggregate;
use super::cluster::ClusterState;
use super::history::{self, DETAIL_ANNOTATION};
use super::ids::VpaId;

/// A checkpoint to write.
#[derive(Clone, Debug)]
pub struct CheckpointWrite {
    /// Its VPA.
    pub vpa: VpaId,
    /// Its container.
    pub container: CompactString,
    /// The object, without a resource version.
    pub object: VerticalPodAutoscalerCheckpoint,
    /// The UID of the VPA, for the owner of the history.
    pub vpa_uid: Option<String>,
    /// What it says, as a hash; fed back by [`ClusterState::checkpoint_written`].
    pub content: u64,
    /// Whether that is something else than what was written last.
    pub changed: bool,
}

/// Name of the checkpoint of a container.
pub fn checkpoint_name(vpa: &str, container: &str) -> String {
    format!("{vpa}-{container}")
}

impl ClusterState {
    /// VPAs in the order in which their checkpoints are due: those with an OOM kill since, then those never written,
    /// then those written longest ago. VPAs whose history is being loaded are left out.
    pub fn checkpoint_order(&self) -> Vec<VpaId> {
        let mut due: Vec<_> = self
            .vpas()
            .filter(|(_, vpa)| vpa.is_serving() && !is_fetching_history(&vpa.object))
            .map(|(id, vpa)| ((!vpa.urgent, vpa.checkpointed()), id))
            .collect();
        due.sort();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// The checkpoints of a VPA, given its merged history, whether they say something new or not.
    pub fn checkpoints_of(
        &self,
        id: &VpaId,
        merged: &BTreeMap<CompactString, Aggregate>,
        now: Timestamp,
    ) -> Vec<CheckpointWrite> {
        let Some(namespace) = self.namespaces.get(&id.namespace) else { return Vec::new() };
        let Some(vpa) = namespace.vpas.get(&id.name) else { return Vec::new() };
        let mut writes = Vec::new();
        for (container, aggregate) in merged {
            let live: Vec<_> =
                namespace.live(vpa, container).map(|(pod, state)| (pod.clone(), state)).collect();
            let (status, detail) = history::to_checkpoint(aggregate.clone(), &live, now);
            let content = content(&status, &detail);
            let mut object = VerticalPodAutoscalerCheckpoint::new(
                &checkpoint_name(&id.name, container),
                VerticalPodAutoscalerCheckpointSpec {
                    vpa_object_name: Some(id.name.to_string()),
                    container_name: Some(container.to_string()),
                },
            );
            object.metadata.namespace = Some(id.namespace.to_string());
            object.metadata.annotations = Some([(DETAIL_ANNOTATION.to_owned(), detail)].into());
            object.status = Some(status);
            writes.push(CheckpointWrite {
                vpa: id.clone(),
                container: container.clone(),
                object,
                vpa_uid: vpa.object.metadata.uid.clone(),
                changed: vpa.written.get(container).is_none_or(|(written, _)| *written != content),
                content,
            });
        }
        writes
    }

    /// Takes note that a checkpoint was written.
    pub fn checkpoint_written(&mut self, id: &VpaId, container: &str, content: u64, now: Timestamp) {
        if let Some(vpa) = self.vpa_mut(id) {
            vpa.written.insert(container.into(), (content, now));
            vpa.urgent = false;
        }
    }

    /// Takes note that a checkpoint is gone, so that it is written again.
    pub fn checkpoint_gone(&mut self, id: &VpaId, container: &str) {
        if let Some(vpa) = self.vpa_mut(id) {
            vpa.written.remove(container);
        }
    }

    /// Counts running intervals in checkpoints as ended where the container is not there any more. To be called once
    /// all pods are known.
    pub fn settle_histories(&mut self) {
        for vpa in self.namespaces.values_mut().flat_map(|namespace| namespace.vpas.values_mut()) {
            if vpa.serving {
                vpa.history.values_mut().for_each(history::History::settle);
            }
        }
    }
}

fn is_fetching_history(vpa: &vpa_api::VerticalPodAutoscaler) -> bool {
    let conditions = vpa.status.as_ref().and_then(|status| status.conditions.as_deref());
    let last = conditions.into_iter().flatten().rfind(|condition| condition.type_ == FETCHING_HISTORY);
    last.is_some_and(|condition| condition.status == "True")
}

/// What a checkpoint says, without when it says it.
fn content(status: &VerticalPodAutoscalerCheckpointStatus, detail: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.total_samples_count.hash(&mut hasher);
    for histogram in [&status.cpu_histogram, &status.memory_histogram] {
        histogram.bucket_weights.hash(&mut hasher);
        histogram.total_weight.to_bits().hash(&mut hasher);
        histogram.reference_timestamp.as_ref().map(|time| time.0).hash(&mut hasher);
    }
    for time in [&status.first_sample_start, &status.last_sample_start] {
        time.as_ref().map(|time| time.0).hash(&mut hasher);
    }
    // The annotation begins with the time of writing.
    detail.split_once(',').map_or("", |(_, rest)| rest).hash(&mut hasher);
    hasher.finish()
}
