//! Sorting the pods of a VPA into the queues of a pass.

use std::collections::BTreeMap;

use super::accept::{Rejection, accept, has_lower_target, meets_eviction_requirements};
use super::boost::is_boosted;
use super::decide::{Decision, Situation, decide_resize, may_evict};
use super::priority::PodPriority;
use super::reason::Reason;
use super::step::Event;
use super::work::{Context, VpaWork};
use crate::policy::{Mode, has_startup_boost};

impl VpaWork {
    /// Sorts the pods into the queues of the update stage.
    pub(super) fn plan(&mut self, cx: &mut Context<'_>) {
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

    pub(super) fn plan_resizes(&mut self, cx: &mut Context<'_>) {
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

    pub(super) fn plan_evictions(&mut self, cx: &mut Context<'_>) {
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
    pub(super) fn order(&mut self, due: Vec<usize>, cx: &Context<'_>) -> Vec<usize> {
        let mut accepted: Vec<(usize, PodPriority)> = Vec::new();
        for index in due {
            match self.accept(index, cx) {
                Ok(priority) => accepted.push((index, priority)),
                Err(rejection) => self.leave(index, Reason::NotWorthIt(rejection)),
            }
        }
        accepted.sort_by(|(_, a), (_, b)| a.cmp_urgency(b));
        self.need = accepted.first().map(|(_, priority)| *priority);
        accepted.into_iter().map(|(index, _)| index).collect()
    }

    pub(super) fn accept(&self, index: usize, cx: &Context<'_>) -> Result<PodPriority, Rejection> {
        let work = &self.pods[index];
        let processed = work.processed.as_deref();
        // What counts is the step that would be asked for, not how far the way goes on from there.
        let infeasible = cx.memory.infeasible(&work.pod).zip(self.asked(index));
        if self.mode == Mode::InPlace
            && infeasible.is_some_and(|(attempt, asked)| !has_lower_target(attempt, asked))
        {
            return Err(Rejection::NotLowerThanInfeasible);
        }
        let priority = accept(&work.pod, &self.vpa, processed, None, cx.config, cx.now)?;
        if !meets_eviction_requirements(&work.pod, &self.vpa, processed.unwrap_or_default()) {
            return Err(Rejection::EvictionRequirements);
        }
        Ok(priority)
    }

    pub(super) fn decide(&self, index: usize, cx: &Context<'_>) -> Decision {
        let work = &self.pods[index];
        let situation = Situation {
            mode: self.mode,
            groups: &self.groups,
            state: cx.memory.state(&work.pod),
            processed: self.asked(index).filter(|_| self.has_recommendation),
            infeasible: cx.memory.infeasible(&work.pod),
            disruptive: self.disruptive,
            config: cx.config,
            now: cx.now,
        };
        decide_resize(&work.pod, &situation)
    }
}
