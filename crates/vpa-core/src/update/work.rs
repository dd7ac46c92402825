//! Progress of one VPA through a pass.
//!
//! The stages come in this order: boosts are ended, pods whose fallback is due are evicted, pods are resized by
//! priority, pods are evicted by priority. What each stage may do depends on what the ones before have used of the
//! budget, so a stage is planned when it is reached.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::{Pod, ResourceRequirements};
use vpa_api::vpa::RecommendedContainerResources;

use super::attempt::NotSent;
use super::blocked::blocks;
use super::boost::{expired_annotations, is_boosted};
use super::config::Config;
use super::decide::restarts_containers;
use super::group::{GroupRules, Groups};
use super::heartbeat::Heartbeat;
use super::in_place::{FallbackReason, InPlaceState};
use super::memory::UpdaterMemory;
use super::nodes::NodeSource;
use super::priority::PodPriority;
use super::reason::Reason;
use super::report::{PodReport, Tally, Verdict, VpaReport, failure};
use super::snapshot::{Snapshot, mode_label, replicas, vpa_name};
use super::step::{Action, Event};
use crate::policy::{LimitRanges, Mode, depends_on_requests, has_startup_boost, mode, process};

/// What a decision depends on beside the VPA's own pods.
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) memory: &'a mut UpdaterMemory,
    pub(super) heartbeat: &'a Heartbeat,
    pub(super) nodes: &'a dyn NodeSource,
    pub(super) events: &'a mut Vec<Event>,
    pub(super) now: Timestamp,
}

/// Which rate limit a step comes under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Resize,
    Evict,
}

/// A step that may be taken now.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) index: usize,
    pub(super) pod: Arc<Pod>,
    pub(super) action: Action,
    pub(super) after: Vec<ResourceRequirements>,
    pub(super) retry: bool,
    /// It counts against the limits on disruptions per hour.
    pub(super) disrupts: bool,
    /// When it was taken.
    pub(super) taken: Timestamp,
}

/// What a pod's turn leads to.
pub(super) struct Offer {
    pub(super) action: Action,
    pub(super) after: Vec<ResourceRequirements>,
    pub(super) retry: bool,
    pub(super) disrupts: bool,
}

impl Candidate {
    pub(super) fn kind(&self) -> Kind {
        match self.action {
            Action::Evict { .. } => Kind::Evict,
            Action::Resize { .. } | Action::Unboost { .. } => Kind::Resize,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    EndBoosts,
    Plan,
    Update,
    Done,
}

/// A capped recommendation, by container.
type SharedRecommendation = Arc<[RecommendedContainerResources]>;

pub(super) struct PodWork {
    pub(super) pod: Arc<Pod>,
    pub(super) verdict: Option<Verdict>,
    /// The capped recommendation; `None` where the VPA has neither recommendation nor policy.
    pub(super) processed: Option<SharedRecommendation>,
    /// What a resize asks for, where that is only a step towards the capped recommendation.
    pub(super) step: Option<Vec<RecommendedContainerResources>>,
    pub(super) limits_kept: Vec<(String, String)>,
}

/// Caps a VPA's recommendation for one pod after the other; pods of the same containers share one where it is the same.
struct Capped<'a> {
    vpa: &'a VerticalPodAutoscaler,
    limit_ranges: &'a LimitRanges,
    shared: bool,
    last: Option<(Arc<Pod>, Option<SharedRecommendation>)>,
}

impl<'a> Capped<'a> {
    fn new(vpa: &'a VerticalPodAutoscaler, limit_ranges: &'a LimitRanges) -> Self {
        Self { vpa, limit_ranges, shared: !depends_on_requests(vpa, limit_ranges), last: None }
    }

    fn of(&mut self, pod: &Arc<Pod>) -> Option<SharedRecommendation> {
        if let Some((like, processed)) = &self.last
            && self.shared
            && names(like).eq(names(pod))
        {
            return processed.clone();
        }
        let processed =
            process(self.vpa, pod, self.limit_ranges).map(|processed| processed.containers.into());
        self.last = Some((Arc::clone(pod), processed.clone()));
        processed
    }
}

fn names(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.spec.containers.iter().map(|container| container.name.as_str())
}

/// One VPA in one pass.
pub(super) struct VpaWork {
    pub(super) vpa: Arc<VerticalPodAutoscaler>,
    pub(super) key: String,
    pub(super) tally: Tally,
    pub(super) mode: Mode,
    pub(super) handled: bool,
    pub(super) has_recommendation: bool,
    pub(super) pods: Vec<PodWork>,
    pub(super) groups: Groups,
    pub(super) limit_ranges: Arc<LimitRanges>,
    pub(super) stage: Stage,
    pub(super) boosts: VecDeque<usize>,
    pub(super) stuck: VecDeque<(usize, FallbackReason)>,
    pub(super) resizes: VecDeque<usize>,
    pub(super) evictions: VecDeque<(usize, Option<FallbackReason>)>,
    /// The most urgent of the pods that are due.
    pub(super) need: Option<PodPriority>,
    /// Steps taken in this pass.
    pub(super) steps: usize,
    /// Resizes of its pods were seen to restart containers.
    pub(super) disruptive: bool,
    /// Evictions are stopped for the sake of this pod, which came back unchanged.
    pub(super) stopped_for: Option<String>,
}

impl VpaWork {
    pub(super) fn new(
        vpa: Arc<VerticalPodAutoscaler>,
        pods: Vec<Arc<Pod>>,
        snapshot: &Snapshot<'_>,
        config: &Config,
        memory: &UpdaterMemory,
        now: Timestamp,
    ) -> Self {
        let mode = mode(&vpa);
        let boosts_on = config.features.cpu_startup_boost && has_startup_boost(&vpa);
        let limit_ranges =
            snapshot.limit_ranges.limit_ranges(vpa.metadata.namespace.as_deref().unwrap_or_default());
        let groups = groups(&vpa, &pods, config, |key| replicas(snapshot.controllers, key));
        let mut capped = Capped::new(&vpa, &limit_ranges);
        let pods: Vec<PodWork> = pods
            .into_iter()
            .map(|pod| {
                let processed = capped.of(&pod);
                let step = processed.as_deref().and_then(|list| config.max_step.within(list, &pod));
                PodWork { pod, verdict: None, processed, step, limits_kept: Vec::new() }
            })
            .collect();
        let ends = |work: &PodWork| boosts_on && !expired_annotations(&work.pod, &vpa, now).is_empty();
        let boosts = (0..pods.len()).filter(|index| ends(&pods[*index])).collect();
        let key = vpa_name(&vpa);
        Self {
            disruptive: memory.restarts.disruptive(&key),
            key,
            tally: Tally::default(),
            mode,
            handled: true,
            has_recommendation: vpa.status.as_ref().is_some_and(|status| status.recommendation.is_some()),
            groups,
            limit_ranges,
            stage: Stage::EndBoosts,
            boosts,
            stuck: VecDeque::new(),
            resizes: VecDeque::new(),
            evictions: VecDeque::new(),
            need: None,
            steps: 0,
            stopped_for: None,
            pods,
            vpa,
        }
    }

    /// Plans ahead where nothing comes before the plan, so that the needs of the VPAs can be compared. Whether there is
    /// anything to be done.
    pub(super) fn prepare(&mut self, cx: &mut Context<'_>) -> bool {
        if self.boosts.is_empty() {
            self.plan(cx);
            self.stage = Stage::Update;
        }
        let nothing = self.boosts.is_empty()
            && self.stuck.is_empty()
            && self.resizes.is_empty()
            && self.evictions.is_empty();
        if nothing {
            self.stage = Stage::Done;
        }
        !nothing
    }

    /// Which of two VPAs comes first: the one that ends a boost or has a pod that is stuck, then the one with the more
    /// urgent pod.
    pub(super) fn cmp_need(&self, other: &Self) -> Ordering {
        let first = |work: &Self| !work.boosts.is_empty() || !work.stuck.is_empty();
        first(other).cmp(&first(self)).then_with(|| match (&self.need, &other.need) {
            (Some(a), Some(b)) => a.cmp_urgency(b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        })
    }

    /// The next step that may be taken, without taking it; `None` when all is done. Pods that may not be touched get
    /// their verdict on the way.
    pub(super) fn peek(&mut self, cx: &mut Context<'_>) -> Option<Candidate> {
        loop {
            match self.stage {
                Stage::EndBoosts => match self.boosts.front().copied() {
                    None => self.stage = Stage::Plan,
                    Some(index) => match self.try_end_boost(index, cx) {
                        Ok(offer) => return Some(self.candidate(index, offer, cx.now)),
                        Err(reason) => {
                            self.boosts.pop_front();
                            self.leave(index, reason);
                        }
                    },
                },
                Stage::Plan => {
                    self.plan(cx);
                    self.stage = Stage::Update;
                }
                Stage::Update => match self.peek_update(cx) {
                    Some(candidate) => return Some(candidate),
                    None => self.stage = Stage::Done,
                },
                Stage::Done => return None,
            }
        }
    }

    fn peek_update(&mut self, cx: &mut Context<'_>) -> Option<Candidate> {
        while let Some((index, why)) = self.stuck.front().copied() {
            match self.try_evict(index, Some(why), cx) {
                Ok(offer) => return Some(self.candidate(index, offer, cx.now)),
                Err(reason) => {
                    self.stuck.pop_front();
                    self.leave(index, reason);
                }
            }
        }
        while let Some(index) = self.resizes.front().copied() {
            match self.try_resize(index, cx) {
                Ok(offer) => return Some(self.candidate(index, offer, cx.now)),
                Err(blocked) => {
                    self.resizes.pop_front();
                    match blocked {
                        NotSent::Left(reason) => self.leave(index, reason),
                        NotSent::FallBack(why) => self.evictions.push_back((index, Some(why))),
                    }
                }
            }
        }
        while let Some((index, fallback)) = self.evictions.front().copied() {
            match self.try_evict(index, fallback, cx) {
                Ok(offer) => return Some(self.candidate(index, offer, cx.now)),
                Err(reason) => {
                    self.evictions.pop_front();
                    self.leave(index, reason);
                }
            }
        }
        None
    }

    fn candidate(&self, index: usize, offer: Offer, taken: Timestamp) -> Candidate {
        let Offer { action, after, retry, disrupts } = offer;
        Candidate { index, pod: Arc::clone(&self.pods[index].pod), action, after, retry, disrupts, taken }
    }

    /// Takes the step that was just seen out of its queue.
    pub(super) fn take(&mut self, candidate: &Candidate, cx: &mut Context<'_>) {
        self.steps += 1;
        if candidate.disrupts {
            cx.memory.quota.note(&self.key, candidate.taken);
        }
        let at_front = |front: Option<usize>| front == Some(candidate.index);
        match &candidate.action {
            Action::Unboost { .. } => {
                self.boosts.pop_front();
            }
            Action::Resize { .. } => {
                self.resizes.pop_front();
                if candidate.retry {
                    cx.memory.note_retry(&candidate.pod, cx.now);
                }
                self.note_infeasible(candidate.index, cx);
            }
            Action::Evict { .. } => {
                if at_front(self.stuck.front().map(|(index, _)| *index)) {
                    self.stuck.pop_front();
                } else {
                    self.evictions.pop_front();
                }
            }
        }
    }

    /// Where the kubelet found a resize infeasible, what is asked for next is remembered as tried, before it is sent.
    pub(super) fn note_infeasible(&self, index: usize, cx: &mut Context<'_>) {
        let infeasible = matches!(cx.memory.state(&self.pods[index].pod), InPlaceState::Infeasible { .. });
        if infeasible && self.mode == Mode::InPlace {
            self.remember_infeasible(index, cx);
        }
    }

    /// Remembers what a resize asks for as more than the node can take.
    pub(super) fn remember_infeasible(&self, index: usize, cx: &mut Context<'_>) {
        if let Some(asked) = self.asked(index) {
            cx.memory.remember_infeasible(&self.pods[index].pod, asked.to_vec());
        }
    }

    /// What a resize of the pod asks for.
    pub(super) fn asked(&self, index: usize) -> Option<&[RecommendedContainerResources]> {
        let work = &self.pods[index];
        work.step.as_deref().or(work.processed.as_deref())
    }

    /// Whether a step on the pod may cost it a restart.
    pub(super) fn resize_disrupts(&self, index: usize) -> bool {
        self.disruptive || restarts_containers(&self.pods[index].pod)
    }

    /// Ends the work early: the rate limit of this kind leaves no room.
    pub(super) fn rate_limited(&mut self, kind: Kind) {
        match (kind, self.stage) {
            // The end of a boost that has to wait is no failed resize in the Go suite's counts.
            (Kind::Resize, Stage::EndBoosts) => {}
            (Kind::Resize, _) => self.count_failed_resize(failure::RESIZE_RATE),
            (Kind::Evict, _) => *self.tally.failed_evictions.entry(failure::EVICTION_RATE).or_default() += 1,
        }
        self.close(&Reason::RateLimited);
    }

    /// Ends the work: all pods without a verdict are left alone for this reason.
    pub(super) fn close(&mut self, reason: &Reason) {
        self.leave_rest(reason);
        self.stage = Stage::Done;
    }

    pub(super) fn leave(&mut self, index: usize, reason: Reason) {
        self.pods[index].verdict.get_or_insert(Verdict::Left(reason));
    }

    pub(super) fn leave_rest(&mut self, reason: &Reason) {
        for index in 0..self.pods.len() {
            self.leave(index, reason.clone());
        }
    }

    /// Whether any of its pods is worth an update, what blocks it aside.
    pub(super) fn is_due(&self, cx: &Context<'_>) -> bool {
        (0..self.pods.len()).any(|index| {
            self.accept(index, cx).map_or_else(|rejection| blocks(&Reason::NotWorthIt(rejection)), |_| true)
        })
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(super) fn report(self) -> VpaReport {
        VpaReport {
            namespace: self.vpa.metadata.namespace.clone().unwrap_or_default(),
            name: self.vpa.metadata.name.clone().unwrap_or_default(),
            mode: mode_label(&self.vpa),
            handled: self.handled,
            pods: self
                .pods
                .into_iter()
                .map(|work| PodReport {
                    verdict: work.verdict.unwrap_or(Verdict::Left(Reason::PassOver)),
                    object: work.pod,
                })
                .collect(),
            tally: self.tally,
            groups: self.groups,
            limit_ranges: self.limit_ranges,
            object: self.vpa,
        }
    }
}

/// The budgets of a VPA's pods.
pub fn groups(
    vpa: &VerticalPodAutoscaler,
    pods: &[Arc<Pod>],
    config: &Config,
    replicas: impl FnMut(&super::group::GroupKey) -> super::group::Replicas,
) -> Groups {
    let own = vpa.spec.update_policy.as_ref().and_then(|policy| policy.min_replicas);
    let boosts_on = config.features.cpu_startup_boost && has_startup_boost(vpa);
    let rules = GroupRules {
        min_replicas: own.map_or(config.min_replicas, i64::from),
        eviction_tolerance: config.eviction_tolerance,
        track_below_min_replicas: mode(vpa).resizes() && config.in_place_skip_disruption_budget,
    };
    Groups::new(pods, rules, |pod| boosts_on && is_boosted(pod), replicas)
}
