//! Which checkpoints to write, and what they say.
//!
//! A checkpoint is due as soon as it would say something new, but is not written at once: its samples are in memory, and
//! only a crash would lose them. So each waits up to [`Schedule::unsaved_max`], in which many samples come together in
//! one write, and the cycles share out the writes evenly. An OOM kill, and a first checkpoint, do not wait.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use compact_str::CompactString;
use jiff::{SignedDuration, Timestamp};
use vpa_api::VerticalPodAutoscalerCheckpoint;
use vpa_api::checkpoint::VerticalPodAutoscalerCheckpointSpec;
use vpa_api::names::condition::FETCHING_HISTORY;

use super::aggregate::Aggregate;
use super::cluster::ClusterState;
use super::container::ContainerState;
use super::history::{self, DETAIL_ANNOTATION};
use super::ids::VpaId;
use super::namespace::{ByContainer, Namespace};

/// When checkpoints are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Longest time for which samples may be in memory only.
    pub unsaved_max: SignedDuration,
    /// Time from one plan to the next.
    pub cycle: SignedDuration,
}

/// A checkpoint to write. What it says is made when its turn comes, by [`ClusterState::checkpoint`]: all of them at
/// once would take more memory than the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointWrite {
    /// Its VPA.
    pub vpa: VpaId,
    /// Its container.
    pub container: CompactString,
    /// What it says, as a hash; fed back by [`ClusterState::checkpoint_written`].
    pub content: u64,
}

/// What is known of the checkpoint of a container.
#[derive(Clone, Debug, Default)]
pub(super) struct Saved {
    /// What was last written, as a hash; `None` where it was not written since the start.
    content: Option<u64>,
    /// What there is to write, as a hash.
    due: u64,
    /// When it was last written, also before the start.
    at: Option<Timestamp>,
    /// Since when there has been something to write.
    unsaved_since: Option<Timestamp>,
    /// Whether an OOM kill was taken since it was written.
    urgent: bool,
}

impl Saved {
    /// A checkpoint that was found.
    pub(super) fn found(at: Option<Timestamp>) -> Self {
        Self { at, ..Self::default() }
    }

    /// Takes note of an OOM kill.
    pub(super) fn hasten(&mut self) {
        self.urgent = true;
    }

    fn notice(&mut self, content: u64, now: Timestamp) {
        self.due = content;
        if self.content == Some(content) {
            self.unsaved_since = None;
            self.urgent = false;
        } else {
            // One that was found counts as waiting since it was written: a program that is killed again and again, each
            // time sooner than a checkpoint is due, would otherwise never write any.
            let since = self.at.filter(|at| self.content.is_none() && *at < now).unwrap_or(now);
            self.unsaved_since.get_or_insert(since);
        }
    }
}

/// Checkpoints that a plan writes, and those that it does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    /// Those to write, the most urgent first.
    pub(crate) writes: Vec<CheckpointWrite>,
    /// Number of those that say nothing new.
    pub(crate) unchanged: usize,
    /// Number of those that wait for more to say.
    pub(crate) waiting: usize,
}

/// Name of the checkpoint of a container.
pub fn checkpoint_name(vpa: &str, container: &str) -> String {
    format!("{vpa}-{container}")
}

impl ClusterState {
    /// Takes note of what the checkpoints of a VPA have to say, given its merged history.
    pub(crate) fn notice_checkpoints(
        &mut self,
        id: &VpaId,
        merged: &BTreeMap<CompactString, Aggregate>,
        now: Timestamp,
    ) {
        let Some(namespace) = self.namespaces.get_mut(&id.namespace) else { return };
        let Some(vpa) = namespace.vpas.get(&id.name) else { return };
        let contents: Vec<_> = merged
            .iter()
            .map(|(container, aggregate)| {
                (container, content(aggregate, namespace.live(vpa, container), now))
            })
            .collect();
        let Some(vpa) = namespace.vpas.get_mut(&id.name) else { return };
        if vpa.saved.is_empty() {
            vpa.saved = ByContainer::with_capacity(merged.len());
        }
        vpa.saved.retain(|container, _| merged.contains_key(container));
        for (container, content) in contents {
            match vpa.saved.get_mut(container) {
                Some(saved) => saved.notice(content, now),
                None => vpa.saved.entry(container.clone()).or_default().notice(content, now),
            }
        }
    }

    /// The checkpoints to write now; without a schedule all that say something new. Those of VPAs whose history is being
    /// loaded are left out.
    pub(crate) fn choose_checkpoints(&mut self, schedule: Option<&Schedule>, now: Timestamp) -> Chosen {
        let mut chosen = Chosen::default();
        let mut due = Vec::new();
        for (id, vpa) in self.vpas().filter(|(_, vpa)| vpa.is_serving() && !is_fetching_history(&vpa.object))
        {
            for (container, saved) in &vpa.saved {
                let Some(since) = saved.unsaved_since else {
                    chosen.unchanged += 1;
                    continue;
                };
                let write =
                    CheckpointWrite { vpa: id.clone(), container: container.clone(), content: saved.due };
                due.push(((Reverse(saved.urgent), saved.at.is_some(), since, saved.at), write));
            }
        }
        due.sort_unstable_by(|(a, one), (b, other)| {
            a.cmp(b).then_with(|| (&one.vpa, &one.container).cmp(&(&other.vpa, &other.container)))
        });
        let pressing = due.iter().take_while(|((Reverse(urgent), known, ..), _)| *urgent || !known).count();
        let count = schedule.map_or(due.len(), |schedule| {
            let overdue =
                |since: &Timestamp| now.duration_since(*since) + schedule.cycle >= schedule.unsaved_max;
            let last = due.iter().skip(pressing).take_while(|((_, _, since, _), _)| overdue(since)).count();
            pressing + last.max(self.take_share(due.len() - pressing, schedule))
        });
        chosen.waiting = due.len() - count;
        chosen.writes = due.into_iter().take(count).map(|(_, write)| write).collect();
        chosen
    }

    /// How many of so many checkpoints a cycle has to write so that the work is the same in each.
    fn take_share(&mut self, due: usize, schedule: &Schedule) -> usize {
        let cycles = schedule.unsaved_max.as_secs_f64() / schedule.cycle.as_secs_f64().max(1e-3);
        // What is left of one beyond whole ones is for the next cycle.
        self.checkpoint_credit = self.checkpoint_credit.fract() + due as f64 / cycles.max(1.0);
        (self.checkpoint_credit as usize).min(due)
    }

    /// What the checkpoint of a container says, without a resource version; `None` where it has no history. Apart from
    /// reference times of histograms, which move when they are merged, the state stays as it is.
    pub fn checkpoint(
        &mut self,
        id: &VpaId,
        container: &str,
        now: Timestamp,
    ) -> Option<VerticalPodAutoscalerCheckpoint> {
        let full = self.aggregate_of(id, container, now)?;
        let namespace = self.namespaces.get(&id.namespace)?;
        let vpa = namespace.vpas.get(&id.name)?;
        let live: Vec<_> = namespace.live(vpa, container).collect();
        let (status, detail) = history::to_checkpoint(full, &live, now);
        let spec = VerticalPodAutoscalerCheckpointSpec {
            vpa_object_name: Some(id.name.to_string()),
            container_name: Some(container.to_owned()),
        };
        let mut object = VerticalPodAutoscalerCheckpoint::new(&checkpoint_name(&id.name, container), spec);
        object.metadata.namespace = Some(id.namespace.to_string());
        object.metadata.annotations = Some([(DETAIL_ANNOTATION.to_owned(), detail)].into());
        object.status = Some(status);
        Some(object)
    }

    /// Takes note that a checkpoint was written.
    pub fn checkpoint_written(&mut self, id: &VpaId, container: &str, content: u64, now: Timestamp) {
        if let Some(saved) = self.vpa_mut(id).and_then(|vpa| vpa.saved.get_mut(container)) {
            saved.content = Some(content);
            saved.at = Some(now);
            saved.notice(saved.due, now);
        }
    }

    /// Since when the samples that have waited longest have not been in any checkpoint.
    pub fn oldest_unsaved(&self) -> Option<Timestamp> {
        self.vpas().flat_map(|(_, vpa)| vpa.saved.values().filter_map(|saved| saved.unsaved_since)).min()
    }

    /// Counts running intervals in checkpoints as ended where the container is not there any more. To be called once
    /// all pods are known.
    pub fn settle_histories(&mut self) {
        for vpa in self.namespaces.values_mut().flat_map(|namespace| namespace.vpas.values_mut()) {
            if vpa.serving {
                vpa.history.iter_mut().for_each(|(_, history)| history.settle());
            }
        }
    }
}

impl Namespace {
    /// Takes note of an OOM kill of a container under these VPAs.
    pub(super) fn hasten_checkpoints(&mut self, vpas: &[CompactString], container: &str) {
        for name in vpas {
            if let Some(vpa) = self.vpas.get_mut(name) {
                vpa.saved.entry(container.into()).or_default().hasten();
            }
        }
    }
}

fn is_fetching_history(vpa: &vpa_api::VerticalPodAutoscaler) -> bool {
    let conditions = vpa.status.as_ref().and_then(|status| status.conditions.as_deref());
    let last = conditions.into_iter().flatten().rfind(|condition| condition.type_ == FETCHING_HISTORY);
    last.is_some_and(|condition| condition.status == "True")
}

/// What a checkpoint says, without when it says it. Two with the same samples have the same; weights of single buckets
/// need not be looked at, since no weight moves without a sample, or a container's interval, being another one.
fn content<'a>(
    merged: &Aggregate,
    live: impl Iterator<Item = (&'a CompactString, &'a ContainerState)>,
    now: Timestamp,
) -> u64 {
    let mut hasher = DefaultHasher::new();
    merged.samples.hash(&mut hasher);
    for histogram in [&merged.cpu, &merged.memory] {
        histogram.total().to_bits().hash(&mut hasher);
        histogram.reference().hash(&mut hasher);
    }
    (merged.first_sample, merged.last_sample).hash(&mut hasher);
    for (pod, state) in live {
        // An interval that ends goes from the annotation to the status.
        (pod, state, state.open_peak(now).is_some()).hash(&mut hasher);
    }
    hasher.finish()
}
