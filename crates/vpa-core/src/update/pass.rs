//! One pass over all VPAs, step by step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::Timestamp;
use vpa_api::VerticalPodAutoscaler;

use super::config::Config;
use super::group::{Group, GroupKey};
use super::heartbeat::Heartbeat;
use super::memory::UpdaterMemory;
use super::nodes::NodeSource;
use super::reason::Reason;
use super::report::{LeftOut, PassReport, VpaReport};
use super::restarts::UnexpectedRestart;
use super::snapshot::{Assignment, Snapshot, assign, vpa_name};
use super::step::{Event, Outcome, Step, StepId};
use super::work::{Candidate, Context, Kind, VpaWork};

/// What to do next.
#[derive(Debug)]
pub enum Next {
    /// Do this and report its [outcome](Pass::on_outcome). Steps of several VPAs may be under way at the same time.
    Step(Box<Step>),
    /// Ask again when a step has come back, or at this time, whichever is first.
    Wait {
        /// When the rate limit lets the next step through; `None`: only an outcome brings the pass forward.
        until: Option<Timestamp>,
    },
    /// All is done, and no step is under way: [finish](Pass::finish) the pass.
    Done,
}

/// One pass over all VPAs.
///
/// It decides and keeps count; it does nothing itself. At most one step of a VPA is under way at a time, so that each
/// decision knows what the one before has used of the budget. VPAs whose turn did not come in the passes before are first,
/// then those with the most urgent pods; after a step a VPA goes to the end of the line.
pub struct Pass {
    config: Config,
    memory: UpdaterMemory,
    heartbeat: Heartbeat,
    nodes: Arc<dyn NodeSource + Send + Sync>,
    deadline: Timestamp,
    work: Vec<VpaWork>,
    /// VPAs with something left to look at, none of them under way or waiting.
    ready: VecDeque<usize>,
    /// VPAs whose next step waits for the rate limit of resizes.
    waiting_resize: VecDeque<usize>,
    /// VPAs whose next step waits for the rate limit of evictions.
    waiting_evict: VecDeque<usize>,
    under_way: BTreeMap<StepId, (usize, Candidate)>,
    last_step: u64,
    stopped: Option<Reason>,
    /// VPAs that were cut off.
    cut_off: Vec<usize>,
    events: Vec<Event>,
    unexpected_restarts: Vec<UnexpectedRestart>,
    left_out: BTreeMap<String, LeftOut>,
    unresolved: BTreeMap<String, String>,
    uncontrolled_pods: usize,
}

impl Pass {
    /// Looks at the cluster, plans, and lines up the VPAs that have something to do.
    pub fn new(snapshot: &Snapshot<'_>, config: Config, mut memory: UpdaterMemory, now: Timestamp) -> Self {
        let unexpected_restarts = memory.observe(&snapshot.pods, now);
        let mut events = Vec::new();
        // Mostly nothing is: names of ten thousand VPAs are put together for nothing then.
        if !unexpected_restarts.is_empty() || memory.remembers_vpas() {
            let by_name: HashMap<String, &Arc<VerticalPodAutoscaler>> =
                snapshot.vpas.iter().map(|vpa| (vpa_name(vpa), vpa)).collect();
            let restarted = |restart: &UnexpectedRestart| {
                Some(Event::restarted_on_resize(by_name.get(&restart.vpa)?, restart))
            };
            events.extend(unexpected_restarts.iter().filter_map(restarted));
            memory.retain_vpas(|vpa| by_name.contains_key(vpa));
        }
        let Assignment { controlled, left_out, unresolved, uncontrolled_pods } =
            assign(snapshot, &config, &memory);
        let work: Vec<VpaWork> = controlled
            .into_iter()
            .map(|(vpa, pods)| VpaWork::new(vpa, pods, snapshot, &config, &memory, now))
            .collect();
        // Without the admission controller nothing is done at all, as in the Go suite; one that dies later in the
        // pass only ends the evictions.
        let stopped = snapshot.heartbeat.problem(now).map(Reason::HeartbeatStale);
        let mut pass = Self {
            deadline: now.saturating_add(config.pass_deadline).unwrap_or(Timestamp::MAX),
            config,
            memory,
            heartbeat: snapshot.heartbeat.clone(),
            nodes: Arc::clone(&snapshot.nodes),
            ready: (0..work.len()).collect(),
            work,
            waiting_resize: VecDeque::new(),
            waiting_evict: VecDeque::new(),
            under_way: BTreeMap::new(),
            last_step: 0,
            stopped,
            cut_off: Vec::new(),
            events,
            unexpected_restarts,
            left_out,
            unresolved,
            uncontrolled_pods,
        };
        if pass.stopped.is_none() {
            pass.line_up(now);
        }
        pass
    }

    /// Plans all VPAs and puts those with something to do in the order of their turns.
    fn line_up(&mut self, now: Timestamp) {
        let (work, mut cx) = self.parts(now);
        let mut line = Vec::new();
        for (index, work) in work.iter_mut().enumerate() {
            if work.prepare(&mut cx) {
                line.push((cx.memory.waited(&work.key), index));
            }
        }
        line.sort_by(|(a_waited, a), (b_waited, b)| {
            b_waited.cmp(a_waited).then_with(|| work[*a].cmp_need(&work[*b]))
        });
        self.ready = line.into_iter().map(|(_, index)| index).collect();
    }

    /// The VPAs, and what their decisions depend on.
    fn parts(&mut self, now: Timestamp) -> (&mut Vec<VpaWork>, Context<'_>) {
        let cx = Context {
            config: &self.config,
            memory: &mut self.memory,
            heartbeat: &self.heartbeat,
            nodes: self.nodes.as_ref(),
            events: &mut self.events,
            now,
        };
        (&mut self.work, cx)
    }

    /// The next thing to do at this time.
    pub fn next(&mut self, now: Timestamp) -> Next {
        if let Some(reason) = self.stopped.clone() {
            self.close_idle(&reason);
        } else if now >= self.deadline {
            self.close_idle(&Reason::PassOver);
        }
        let mut until: Option<Timestamp> = None;
        for kind in [Kind::Resize, Kind::Evict] {
            match self.next_waiting(kind, now) {
                Some(Taken::Step(step)) => return Next::Step(step),
                Some(Taken::Wait(_, at)) => until = Some(until.map_or(at, |until| until.min(at))),
                Some(Taken::Nothing) | None => {}
            }
        }
        while let Some(index) = self.ready.pop_front() {
            match self.try_take(index, now) {
                Taken::Step(step) => return Next::Step(step),
                Taken::Nothing => {}
                Taken::Wait(kind, at) => {
                    self.waiting(kind).push_back(index);
                    if at > self.deadline {
                        self.rate_limited(kind);
                    } else {
                        until = Some(until.map_or(at, |until| until.min(at)));
                    }
                }
            }
        }
        if until.is_some() || !self.under_way.is_empty() { Next::Wait { until } } else { Next::Done }
    }

    /// The step of the first VPA that waits for this limit, or the time for which it waits. Those whose step has fallen
    /// away meanwhile are dropped, those that wait for the other limit now go there.
    fn next_waiting(&mut self, kind: Kind, now: Timestamp) -> Option<Taken> {
        while let Some(index) = self.waiting(kind).pop_front() {
            match self.try_take(index, now) {
                Taken::Nothing => {}
                Taken::Wait(other, _) if other != kind => self.ready.push_back(index),
                Taken::Wait(_, at) if at > self.deadline => {
                    self.waiting(kind).push_front(index);
                    self.rate_limited(kind);
                }
                Taken::Wait(_, at) => {
                    self.waiting(kind).push_front(index);
                    return Some(Taken::Wait(kind, at));
                }
                taken @ Taken::Step(_) => return Some(taken),
            }
        }
        None
    }

    fn waiting(&mut self, kind: Kind) -> &mut VecDeque<usize> {
        match kind {
            Kind::Resize => &mut self.waiting_resize,
            Kind::Evict => &mut self.waiting_evict,
        }
    }

    fn try_take(&mut self, index: usize, now: Timestamp) -> Taken {
        let (work, mut cx) = self.parts(now);
        let work = &mut work[index];
        let Some(candidate) = work.peek(&mut cx) else { return Taken::Nothing };
        let kind = candidate.kind();
        let limiter = match kind {
            Kind::Resize => &mut cx.memory.resizes,
            Kind::Evict => &mut cx.memory.evicts,
        };
        if let Err(at) = limiter.try_take(now) {
            return Taken::Wait(kind, at);
        }
        work.take(&candidate, &mut cx);
        let vpa = Arc::clone(&work.vpa);
        self.last_step += 1;
        let id = StepId(self.last_step);
        let step = Step {
            id,
            vpa,
            pod: Arc::clone(&candidate.pod),
            action: candidate.action.clone(),
            after: candidate.after.clone(),
        };
        self.under_way.insert(id, (index, candidate));
        Taken::Step(Box::new(step))
    }

    /// No token of this kind comes before the deadline: all who wait for one are cut off.
    fn rate_limited(&mut self, kind: Kind) {
        for index in std::mem::take(self.waiting(kind)) {
            self.cut_off.push(index);
            self.work[index].rate_limited(kind);
        }
    }

    /// Ends the work of all VPAs of which no step is under way.
    fn close_idle(&mut self, reason: &Reason) {
        if matches!(reason, Reason::PassOver) {
            self.rate_limited(Kind::Resize);
            self.rate_limited(Kind::Evict);
        }
        let idle =
            self.ready.drain(..).chain(self.waiting_resize.drain(..)).chain(self.waiting_evict.drain(..));
        for index in idle.collect::<Vec<_>>() {
            self.cut_off.push(index);
            self.work[index].close(reason);
        }
    }

    /// Takes in what became of a step. An outcome of a step that is not under way is ignored.
    pub fn on_outcome(&mut self, id: StepId, outcome: Outcome, now: Timestamp) {
        let Some((index, candidate)) = self.under_way.remove(&id) else { return };
        match outcome {
            Outcome::NotLeader => self.stop(Reason::NotLeader),
            Outcome::ShuttingDown => self.stop(Reason::ShuttingDown),
            _ => {}
        }
        let (work, mut cx) = self.parts(now);
        work[index].on_outcome(&candidate, outcome, &mut cx);
        self.ready.push_back(index);
    }

    /// Takes no further step; those under way are still waited for.
    pub fn stop(&mut self, reason: Reason) {
        self.stopped.get_or_insert(reason);
    }

    /// Whether the pass was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Takes in a later look at the admission controller's lease.
    pub fn set_heartbeat(&mut self, heartbeat: Heartbeat) {
        self.heartbeat = heartbeat;
    }

    /// Events that have come up since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Controllers of pods that could not be followed to the top, and why; pods of theirs are left alone.
    pub fn unresolved(&self) -> &BTreeMap<String, String> {
        &self.unresolved
    }

    /// Budgets of all VPAs as they stand, for checks.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &GroupKey, &Group)> {
        self.work
            .iter()
            .flat_map(|work| work.groups().iter().map(|(key, group)| (work.key.as_str(), key, group)))
    }

    /// Ends the pass: what was done, and the memory for the next pass.
    pub fn finish(mut self, now: Timestamp) -> (PassReport, UpdaterMemory) {
        let reason = self.stopped.clone().unwrap_or(Reason::PassOver);
        self.close_idle(&reason);
        let complete = self.cut_off.is_empty();
        let cut_off: BTreeSet<usize> = std::mem::take(&mut self.cut_off).into_iter().collect();
        for (index, work) in self.work.iter().enumerate() {
            let came = work.steps > 0 || !cut_off.contains(&index);
            self.memory.note_turn(&work.key, came);
        }
        let work = std::mem::take(&mut self.work);
        let mut events = std::mem::take(&mut self.events);
        let (_, mut cx) = self.parts(now);
        let mut vpas = Vec::with_capacity(work.len());
        for work in work {
            vpas.push(conclude(work, &mut cx, &mut events));
        }
        let report = PassReport {
            vpas,
            left_out: self.left_out,
            unresolved: self.unresolved,
            uncontrolled_pods: self.uncontrolled_pods,
            unexpected_restarts: self.unexpected_restarts,
            events,
            complete,
            cut_off: !complete && self.stopped.is_none(),
        };
        (report, self.memory)
    }
}

/// The report of a VPA; an event where all of its pods have been blocked for some time.
fn conclude(work: VpaWork, cx: &mut Context<'_>, events: &mut Vec<Event>) -> VpaReport {
    let reason = work.common_block().filter(|_| work.is_due(cx));
    if let Some(reason) = cx.memory.blocked.observe(&work.key, reason) {
        events.push(Event::updates_blocked(&work.vpa, work.pods.len(), reason));
    }
    work.report()
}

enum Taken {
    Step(Box<Step>),
    Wait(Kind, Timestamp),
    Nothing,
}
