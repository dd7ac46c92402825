//! One pass over all VPAs, step by step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::config::Config;
use super::group::{Group, GroupKey};
use super::heartbeat::Heartbeat;
use super::memory::UpdaterMemory;
use super::reason::Reason;
use super::report::{LeftOut, PassReport};
use super::snapshot::{Assignment, Snapshot, assign, joined};
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
/// decision knows what the one before has used of the budget.
pub struct Pass {
    config: Config,
    memory: UpdaterMemory,
    heartbeat: Heartbeat,
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
    /// The first VPA that was cut off.
    cut_off_at: Option<String>,
    complete: bool,
    events: Vec<Event>,
    left_out: BTreeMap<String, LeftOut>,
    unresolved: BTreeMap<String, String>,
    uncontrolled_pods: usize,
}

impl Pass {
    /// Looks at the cluster and lines up the VPAs, beginning with the one at which the last pass was cut off.
    pub fn new(snapshot: &Snapshot<'_>, config: Config, mut memory: UpdaterMemory, now: Timestamp) -> Self {
        memory.observe(&snapshot.pods, now);
        let names: std::collections::BTreeSet<String> = snapshot.vpas.iter().map(|vpa| joined(vpa)).collect();
        memory.retain_vpas(|vpa| names.contains(vpa));
        let Assignment { controlled, left_out, unresolved, uncontrolled_pods } =
            assign(snapshot, &config, &memory);
        let mut work: Vec<VpaWork> = controlled
            .into_values()
            .map(|(vpa, pods)| VpaWork::new(vpa, pods, snapshot, &config, now))
            .collect();
        if let Some(resume_at) = memory.resume_at.take() {
            let at = work.iter().position(|work| work.key >= resume_at).unwrap_or(0);
            work.rotate_left(at);
        }
        // Without the admission controller nothing is done at all, as in the Go suite; one that dies later in the
        // pass only ends the evictions.
        let stopped = snapshot.heartbeat.problem(now).map(Reason::HeartbeatStale);
        Self {
            deadline: now.saturating_add(config.pass_deadline).unwrap_or(Timestamp::MAX),
            config,
            memory,
            heartbeat: snapshot.heartbeat.clone(),
            ready: (0..work.len()).collect(),
            work,
            waiting_resize: VecDeque::new(),
            waiting_evict: VecDeque::new(),
            under_way: BTreeMap::new(),
            last_step: 0,
            stopped,
            cut_off_at: None,
            complete: true,
            events: Vec::new(),
            left_out,
            unresolved,
            uncontrolled_pods,
        }
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
        let work = &mut self.work[index];
        let mut cx = Context {
            config: &self.config,
            memory: &mut self.memory,
            heartbeat: &self.heartbeat,
            events: &mut self.events,
            now,
        };
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
        self.last_step += 1;
        let id = StepId(self.last_step);
        let step = Step {
            id,
            vpa: Arc::clone(&work.vpa),
            pod: Arc::clone(&candidate.pod),
            action: candidate.action.clone(),
        };
        self.under_way.insert(id, (index, candidate));
        Taken::Step(Box::new(step))
    }

    /// No token of this kind comes before the deadline: all who wait for one are cut off.
    fn rate_limited(&mut self, kind: Kind) {
        for index in std::mem::take(self.waiting(kind)) {
            self.cut_off(index);
            self.work[index].rate_limited(kind);
        }
    }

    fn cut_off(&mut self, index: usize) {
        self.complete = false;
        self.cut_off_at.get_or_insert_with(|| self.work[index].key.clone());
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
            self.cut_off(index);
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
        let mut cx = Context {
            config: &self.config,
            memory: &mut self.memory,
            heartbeat: &self.heartbeat,
            events: &mut self.events,
            now,
        };
        self.work[index].on_outcome(&candidate, outcome, &mut cx);
        self.ready.push_front(index);
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
    pub fn finish(mut self) -> (PassReport, UpdaterMemory) {
        let reason = self.stopped.clone().unwrap_or(Reason::PassOver);
        self.close_idle(&reason);
        self.memory.resume_at = self.cut_off_at.take();
        let mut vpas: Vec<_> = self.work.into_iter().map(VpaWork::report).collect();
        vpas.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let report = PassReport {
            vpas,
            left_out: self.left_out,
            unresolved: self.unresolved,
            uncontrolled_pods: self.uncontrolled_pods,
            complete: self.complete,
            cut_off: !self.complete && self.stopped.is_none(),
        };
        (report, self.memory)
    }
}

enum Taken {
    Step(Box<Step>),
    Wait(Kind, Timestamp),
    Nothing,
}
