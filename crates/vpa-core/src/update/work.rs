//! Progress of one VPA through a pass.
//!
//! The stages come in this order: boosts are ended, pods whose fallback is due are evicted, pods are resized by
//! priority, pods are evicted by priority. What each stage may do depends on what the ones before have used of the
//! budget, so a stage is planned when it is reached.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_api::vpa::RecommendedContainerResources;

use super::accept::{Rejection, accept, meets_eviction_requirements};
use super::boost::{expired_annotations, is_boosted};
use super::config::Config;
use super::decide::{Decision, Situation, budget, decide_resize, may_evict, may_resize};
use super::group::{GroupRules, Groups, is_pending, pod_name};
use super::heartbeat::Heartbeat;
use super::in_place::{FallbackReason, InPlaceState, ResizePhase};
use super::memory::UpdaterMemory;
use super::patch::{ResizePatch, resize_patch};
use super::priority::PodPriority;
use super::reason::Reason;
use super::report::{PodReport, Tally, Verdict, VpaReport, failure};
use super::snapshot::{Snapshot, joined, mode_label, replicas};
use super::step::{Action, Event, Outcome};
use crate::policy::{LimitRanges, Mode, current_resources, has_startup_boost, mode, process};

/// What a decision depends on beside the VPA's own pods.
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) memory: &'a mut UpdaterMemory,
    pub(super) heartbeat: &'a Heartbeat,
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
    pub(super) retry: bool,
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
enum Stage {
    EndBoosts,
    Plan,
    Update,
    Done,
}

struct PodWork {
    pod: Arc<Pod>,
    verdict: Option<Verdict>,
    /// The capped recommendation; `None` where the VPA has neither recommendation nor policy.
    processed: Option<Vec<RecommendedContainerResources>>,
    limits_kept: Vec<(String, String)>,
}

/// One VPA in one pass.
pub(super) struct VpaWork {
    pub(super) vpa: Arc<VerticalPodAutoscaler>,
    pub(super) key: String,
    pub(super) tally: Tally,
    mode: Mode,
    handled: bool,
    has_recommendation: bool,
    pods: Vec<PodWork>,
    groups: Groups,
    limit_ranges: Arc<LimitRanges>,
    stage: Stage,
    boosts: VecDeque<usize>,
    stuck: VecDeque<(usize, FallbackReason)>,
    resizes: VecDeque<usize>,
    evictions: VecDeque<(usize, Option<FallbackReason>)>,
    /// Evictions are stopped for the sake of this pod, which came back unchanged.
    stopped_for: Option<String>,
}

impl VpaWork {
    pub(super) fn new(
        vpa: Arc<VerticalPodAutoscaler>,
        pods: Vec<Arc<Pod>>,
        snapshot: &Snapshot<'_>,
        config: &Config,
        now: Timestamp,
    ) -> Self {
        let mode = mode(&vpa);
        let boosts_on = config.features.cpu_startup_boost && has_startup_boost(&vpa);
        let limit_ranges =
            snapshot.limit_ranges.limit_ranges(vpa.metadata.namespace.as_deref().unwrap_or_default());
        let groups = groups(&vpa, &pods, config, |key| replicas(snapshot.controllers, key));
        let pods: Vec<PodWork> = pods
            .into_iter()
            .map(|pod| {
                let processed = process(&vpa, &pod, &limit_ranges).map(|processed| processed.containers);
                PodWork { pod, verdict: None, processed, limits_kept: Vec::new() }
            })
            .collect();
        let ends = |work: &PodWork| boosts_on && !expired_annotations(&work.pod, &vpa, now).is_empty();
        let boosts = (0..pods.len()).filter(|index| ends(&pods[*index])).collect();
        Self {
            key: joined(&vpa),
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
            stopped_for: None,
            pods,
            vpa,
        }
    }

    /// The next step that may be taken, without taking it; `None` when all is done. Pods that may not be touched get
    /// their verdict on the way.
    pub(super) fn peek(&mut self, cx: &mut Context<'_>) -> Option<Candidate> {
        loop {
            match self.stage {
                Stage::EndBoosts => match self.boosts.front().copied() {
                    None => self.stage = Stage::Plan,
                    Some(index) => match self.try_end_boost(index, cx) {
                        Ok(action) => return Some(self.candidate(index, action, false)),
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
            match self.try_evict(index, cx) {
                Ok(()) => return Some(self.candidate(index, Action::Evict { fallback: Some(why) }, false)),
                Err(reason) => {
                    self.stuck.pop_front();
                    self.leave(index, reason);
                }
            }
        }
        while let Some(index) = self.resizes.front().copied() {
            match self.try_resize(index, cx) {
                Ok((action, retry)) => return Some(self.candidate(index, action, retry)),
                Err(blocked) => {
                    self.resizes.pop_front();
                    match blocked {
                        Blocked::Left(reason) => self.leave(index, reason),
                        Blocked::FallBack(why) => self.evictions.push_back((index, Some(why))),
                    }
                }
            }
        }
        while let Some((index, fallback)) = self.evictions.front().copied() {
            match self.try_evict(index, cx) {
                Ok(()) => return Some(self.candidate(index, Action::Evict { fallback }, false)),
                Err(reason) => {
                    self.evictions.pop_front();
                    self.leave(index, reason);
                }
            }
        }
        None
    }

    fn candidate(&self, index: usize, action: Action, retry: bool) -> Candidate {
        Candidate { index, pod: Arc::clone(&self.pods[index].pod), action, retry }
    }

    /// Takes the step that was just seen out of its queue.
    pub(super) fn take(&mut self, candidate: &Candidate, cx: &mut Context<'_>) {
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
    fn note_infeasible(&self, index: usize, cx: &mut Context<'_>) {
        let work = &self.pods[index];
        let infeasible = matches!(cx.memory.state(&work.pod), InPlaceState::Infeasible { .. });
        if let Some(processed) = work.processed.clone().filter(|_| infeasible && self.mode == Mode::InPlace) {
            cx.memory.remember_infeasible(&work.pod, processed);
        }
    }

    /// Sorts the pods into the queues of the update stage.
    fn plan(&mut self, cx: &mut Context<'_>) {
        if !self.mode.evicts() && !self.mode.resizes() {
            return self.leave_rest(&Reason::Mode(self.mode.as_str()));
        }
        if self.mode == Mode::InPlace && !cx.config.features.in_place {
            self.handled = false;
            return self.leave_rest(&Reason::FeatureGateOff("InPlace"));
        }
        let boosts_on = cx.config.features.cpu_startup_boost && has_startup_boost(&self.vpa);
        for index in 0..self.pods.len() {
            if boosts_on && is_boosted(&self.pods[index].pod) {
                self.leave(index, Reason::BoostInProgress);
            }
        }
        if self.mode.resizes() { self.plan_resizes(cx) } else { self.plan_evictions(cx) }
    }

    fn plan_resizes(&mut self, cx: &mut Context<'_>) {
        let mut stuck = BTreeMap::new();
        let mut due = Vec::new();
        for index in 0..self.pods.len() {
            if self.pods[index].verdict.is_some() {
                continue;
            }
            match self.decide(index, cx) {
                Decision::Deferred(reason) => self.leave(index, reason),
                Decision::InfeasibleRemembered => {
                    cx.events.push(Event::resize_skipped(&self.pods[index].pod));
                    self.tally.infeasible_skipped += 1;
                    self.leave(index, Reason::InfeasibleRemembered);
                }
                decision => {
                    if let Decision::FallBack(why) = decision {
                        stuck.insert(index, why);
                    }
                    due.push(index);
                }
            }
        }
        let ordered = self.order(due, cx);
        self.tally.in_place_updatable = Some(ordered.len());
        for index in ordered {
            match stuck.get(&index) {
                // A pod whose fallback is due comes first, or resizes of others could starve it for ever.
                Some(why) => self.stuck.push_back((index, *why)),
                None => self.resizes.push_back(index),
            }
        }
    }

    fn plan_evictions(&mut self, cx: &mut Context<'_>) {
        let mut due = Vec::new();
        for index in 0..self.pods.len() {
            if self.pods[index].verdict.is_some() {
                continue;
            }
            let pod = &self.pods[index].pod;
            match may_evict(pod, &self.groups, cx.memory.state(pod), cx.config, cx.now) {
                Ok(()) => due.push(index),
                Err(reason) => self.leave(index, reason),
            }
        }
        let ordered = self.order(due, cx);
        self.tally.evictable = Some(ordered.len());
        self.evictions.extend(ordered.into_iter().map(|index| (index, None)));
    }

    /// The pods worth an update, the most urgent first.
    fn order(&mut self, due: Vec<usize>, cx: &Context<'_>) -> Vec<usize> {
        let mut accepted: Vec<(usize, PodPriority)> = Vec::new();
        for index in due {
            match self.accept(index, cx) {
                Ok(priority) => accepted.push((index, priority)),
                Err(rejection) => self.leave(index, Reason::NotWorthIt(rejection)),
            }
        }
        accepted.sort_by(|(_, a), (_, b)| a.cmp_urgency(b));
        accepted.into_iter().map(|(index, _)| index).collect()
    }

    fn accept(&self, index: usize, cx: &Context<'_>) -> Result<PodPriority, Rejection> {
        let work = &self.pods[index];
        let processed = work.processed.as_deref();
        let infeasible = cx.memory.infeasible(&work.pod).filter(|_| self.mode == Mode::InPlace);
        let priority = accept(&work.pod, &self.vpa, processed, infeasible, cx.config, cx.now)?;
        if !meets_eviction_requirements(&work.pod, &self.vpa, processed.unwrap_or_default()) {
            return Err(Rejection::EvictionRequirements);
        }
        Ok(priority)
    }

    fn decide(&self, index: usize, cx: &Context<'_>) -> Decision {
        let work = &self.pods[index];
        let situation = Situation {
            mode: self.mode,
            groups: &self.groups,
            state: cx.memory.state(&work.pod),
            processed: work.processed.as_deref().filter(|_| self.has_recommendation),
            infeasible: cx.memory.infeasible(&work.pod),
            config: cx.config,
            now: cx.now,
        };
        decide_resize(&work.pod, &situation)
    }

    fn patch(&self, index: usize, now: Timestamp) -> Result<ResizePatch, Reason> {
        let work = &self.pods[index];
        let expired = expired_annotations(&work.pod, &self.vpa, now);
        resize_patch(&work.pod, &self.vpa, work.processed.as_deref(), &self.limit_ranges, &expired)
            .map_err(|error| Reason::BoostAnnotation(error.to_string()))
    }

    fn try_end_boost(&mut self, index: usize, cx: &mut Context<'_>) -> Result<Action, Reason> {
        let pod = Arc::clone(&self.pods[index].pod);
        may_end_boost(&pod, &self.groups, cx.memory.state(&pod))?;
        let patch = self.patch(index, cx.now).inspect_err(|_| self.count_failed_resize(failure::UNBOOST))?;
        if let Some((before, after)) = patch.qos_change(&pod) {
            self.count_failed_resize(failure::UNBOOST);
            return Err(Reason::QosClass { before, after });
        }
        let resize = if patch.changes(&pod) { patch.resize } else { Vec::new() };
        self.pods[index].limits_kept = patch.limits_kept;
        Ok(Action::Unboost { resize, annotate: patch.annotate })
    }

    fn try_resize(&mut self, index: usize, cx: &mut Context<'_>) -> Result<(Action, bool), Blocked> {
        let pod = Arc::clone(&self.pods[index].pod);
        let retry = match self.decide(index, cx) {
            Decision::Approved => false,
            Decision::Retry => true,
            Decision::Infeasible => false,
            Decision::FallBack(why) => return Err(Blocked::FallBack(why)),
            Decision::InfeasibleRemembered => return Err(Blocked::Left(Reason::InfeasibleRemembered)),
            Decision::Deferred(reason) => return Err(Blocked::Left(reason)),
        };
        let group = self.groups.of(&pod).map_err(|untracked| Blocked::Left(Reason::Untracked(untracked)))?;
        if !may_resize(&pod, group, cx.config) {
            return Err(Blocked::Left(budget(group)));
        }
        let patch = self.patch(index, cx.now).map_err(|reason| {
            self.count_failed_resize(failure::RESIZE);
            Blocked::Left(reason)
        })?;
        if !patch.changes(&pod) {
            self.note_infeasible(index, cx);
            let state = cx.memory.state(&pod);
            return Err(Blocked::Left(match state {
                InPlaceState::Infeasible { .. } => Reason::InfeasibleRemembered,
                InPlaceState::Settled if !differs_from_running(&pod, &patch) => Reason::NothingWouldChange,
                _ => Reason::AlreadyAsked,
            }));
        }
        if let Some((before, after)) = patch.qos_change(&pod) {
            return Err(if self.mode == Mode::InPlace {
                Blocked::Left(Reason::QosClass { before, after })
            } else {
                Blocked::FallBack(FallbackReason::QosClass)
            });
        }
        Ok((Action::Resize { resize: patch.resize, annotate: patch.annotate }, retry))
    }

    fn try_evict(&mut self, index: usize, cx: &mut Context<'_>) -> Result<(), Reason> {
        let pod = Arc::clone(&self.pods[index].pod);
        may_evict(&pod, &self.groups, cx.memory.state(&pod), cx.config, cx.now)?;
        if let Some(why) = cx.heartbeat.problem(cx.now) {
            return Err(Reason::HeartbeatStale(why));
        }
        // What the admission of a new pod would give is what a resize would.
        let patch = self.patch(index, cx.now)?;
        if !patch.changes(&pod) && !differs_from_running(&pod, &patch) {
            return Err(Reason::NothingWouldChange);
        }
        if let Some(pod) = self.recreated_unchanged(cx) {
            return Err(Reason::RecreatedUnchanged { pod });
        }
        Ok(())
    }

    /// The pod for whose sake evictions are stopped. Looked up once a pass: pods of the snapshot do not change.
    fn recreated_unchanged(&mut self, cx: &mut Context<'_>) -> Option<String> {
        if self.stopped_for.is_none() {
            let pods: Vec<&Pod> = self.pods.iter().map(|work| work.pod.as_ref()).collect();
            let queued: Vec<String> = self
                .stuck
                .iter()
                .map(|(index, _)| index)
                .chain(self.evictions.iter().map(|(index, _)| index))
                .map(|index| pod_name(&self.pods[*index].pod))
                .collect();
            let would_evict = |pod: &Pod| queued.contains(&pod_name(pod));
            let (pod, found_now) = cx.memory.recreated_unchanged(&self.key, &pods, would_evict, cx.now)?;
            if found_now {
                cx.events.push(Event::evictions_stopped(&self.vpa, &pod));
            }
            self.stopped_for = Some(pod);
        }
        self.stopped_for.clone()
    }

    /// Takes in what became of a step.
    pub(super) fn on_outcome(&mut self, candidate: &Candidate, outcome: Outcome, cx: &mut Context<'_>) {
        match &candidate.action {
            Action::Evict { fallback } => self.on_eviction(candidate, *fallback, outcome, cx),
            Action::Resize { .. } => self.on_resize(candidate, outcome, cx, false),
            Action::Unboost { .. } => self.on_resize(candidate, outcome, cx, true),
        }
    }

    fn on_eviction(
        &mut self,
        candidate: &Candidate,
        fallback: Option<FallbackReason>,
        outcome: Outcome,
        cx: &mut Context<'_>,
    ) {
        let pod = Arc::clone(&candidate.pod);
        let reason = match outcome {
            Outcome::Done => {
                cx.events.push(Event::evicted_pod(&pod));
                cx.events.push(Event::evicted_by_vpa(&self.vpa, &pod));
                self.groups.note_eviction(&pod);
                self.tally.evicted += 1;
                let siblings: Vec<&Pod> = self.pods.iter().map(|work| work.pod.as_ref()).collect();
                cx.memory.note_eviction(&self.key, &pod, &siblings, cx.now);
                self.pods[candidate.index].verdict = Some(Verdict::Evicted(fallback));
                return;
            }
            Outcome::NotLeader => return self.leave(candidate.index, Reason::NotLeader),
            Outcome::ShuttingDown => return self.leave(candidate.index, Reason::ShuttingDown),
            Outcome::Unknown(message) => {
                // It may have happened, so it uses up budget.
                self.groups.note_eviction(&pod);
                Reason::Transient(message)
            }
            Outcome::Blocked(message) => Reason::DisruptionBudget(message),
            Outcome::Transient(message) => Reason::Transient(message),
            Outcome::Refused(refusal) => Reason::Refused(refusal.message),
        };
        *self.tally.failed_evictions.entry(failure::EVICTION).or_default() += 1;
        self.leave(candidate.index, reason);
    }

    fn on_resize(&mut self, candidate: &Candidate, outcome: Outcome, cx: &mut Context<'_>, unboost: bool) {
        let (index, pod) = (candidate.index, Arc::clone(&candidate.pod));
        let failure = if unboost { failure::UNBOOST } else { failure::RESIZE };
        match outcome {
            Outcome::Done => {
                cx.events.push(Event::resized(&pod));
                self.groups.note_resize(&pod);
                self.tally.resized += 1;
                let limits_kept = std::mem::take(&mut self.pods[index].limits_kept);
                self.pods[index].verdict =
                    Some(if unboost { Verdict::BoostEnded { limits_kept } } else { Verdict::Resized });
            }
            Outcome::NotLeader => self.leave(index, Reason::NotLeader),
            Outcome::ShuttingDown => self.leave(index, Reason::ShuttingDown),
            Outcome::Unknown(message) => {
                self.groups.note_resize(&pod);
                self.count_failed_resize(failure);
                self.leave(index, Reason::Transient(message));
            }
            Outcome::Transient(message) | Outcome::Blocked(message) => {
                self.count_failed_resize(failure);
                self.leave(index, Reason::Transient(message));
            }
            Outcome::Refused(refusal) if unboost => {
                self.count_failed_resize(failure);
                self.leave(index, Reason::Refused(refusal.message));
            }
            Outcome::Refused(refusal) if self.mode == Mode::InPlace => {
                let infeasible = refusal.node_capacity;
                self.count_failed_resize(if infeasible { failure::RESIZE_INFEASIBLE } else { failure });
                if let Some(processed) = self.pods[index].processed.clone().filter(|_| infeasible) {
                    cx.memory.remember_infeasible(&pod, processed);
                }
                self.leave(index, Reason::Refused(refusal.message));
            }
            Outcome::Refused(_) => {
                self.count_failed_resize(failure);
                self.evictions.push_back((index, Some(FallbackReason::Refused)));
            }
        }
    }

    fn count_failed_resize(&mut self, reason: &'static str) {
        *self.tally.failed_resizes.entry(reason).or_default() += 1;
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

    fn leave(&mut self, index: usize, reason: Reason) {
        self.pods[index].verdict.get_or_insert(Verdict::Left(reason));
    }

    fn leave_rest(&mut self, reason: &Reason) {
        for index in 0..self.pods.len() {
            self.leave(index, reason.clone());
        }
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
                    pod: pod_name(&work.pod),
                    verdict: work.verdict.unwrap_or(Verdict::Left(Reason::PassOver)),
                })
                .collect(),
            tally: self.tally,
        }
    }
}

/// Why a resize is not sent.
enum Blocked {
    Left(Reason),
    FallBack(FallbackReason),
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

/// Whether the budget and the pod's state let its boost be ended.
///
/// # Errors
/// Why they do not.
pub fn may_end_boost(pod: &Pod, groups: &Groups, state: InPlaceState) -> Result<(), Reason> {
    if is_pending(pod) {
        return Err(Reason::Pending);
    }
    let group = groups.of(pod).map_err(Reason::Untracked)?;
    if state != InPlaceState::Settled {
        return Err(Reason::Resizing { phase: ResizePhase::of(pod), until: None });
    }
    if group.is_disruptable() { Ok(()) } else { Err(budget(group)) }
}

/// Whether the containers run with other amounts than the patch would set.
fn differs_from_running(pod: &Pod, patch: &ResizePatch) -> bool {
    pod.spec.containers.iter().zip(&patch.after).any(|(container, after)| {
        let (requests, limits) = current_resources(&container.name, pod);
        requests != after.requests.as_ref() || limits != after.limits.as_ref()
    })
}
