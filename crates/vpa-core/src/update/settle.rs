//! What the outcome of a step means for its pod and its VPA.

use std::sync::Arc;

use vpa_api::pod::Pod;

use super::in_place::FallbackReason;
use super::reason::Reason;
use super::report::{Verdict, failure};
use super::step::{Action, Event, Outcome};
use super::work::{Candidate, Context, VpaWork};
use crate::policy::Mode;

impl VpaWork {
    /// Takes in what became of a step.
    pub(super) fn on_outcome(&mut self, candidate: &Candidate, outcome: Outcome, cx: &mut Context<'_>) {
        let maybe_done = matches!(outcome, Outcome::Done | Outcome::Unknown(_));
        if candidate.disrupts && !maybe_done {
            cx.memory.quota.take_back(&self.key, candidate.taken);
        }
        if let Action::Resize { resize, .. } | Action::Unboost { resize, .. } = &candidate.action
            && maybe_done
            && !resize.is_empty()
        {
            cx.memory.restarts.watch(&self.key, &candidate.pod, cx.now);
            cx.memory.note_resize(&self.key, &candidate.pod);
        }
        match &candidate.action {
            Action::Evict { fallback } => self.on_eviction(candidate, *fallback, outcome, cx),
            Action::Resize { .. } => self.on_resize(candidate, outcome, cx, false),
            Action::Unboost { .. } => self.on_resize(candidate, outcome, cx, true),
        }
    }

    pub(super) fn on_eviction(
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
                cx.memory.note_eviction(&self.key, &pod, &candidate.after, &siblings, cx.now);
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

    pub(super) fn on_resize(
        &mut self,
        candidate: &Candidate,
        outcome: Outcome,
        cx: &mut Context<'_>,
        unboost: bool,
    ) {
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
                if infeasible {
                    self.remember_infeasible(index, cx);
                }
                self.leave(index, Reason::Refused(refusal.message));
            }
            Outcome::Refused(_) => {
                self.count_failed_resize(failure);
                self.evictions.push_back((index, Some(FallbackReason::Refused)));
            }
        }
    }

    pub(super) fn count_failed_resize(&mut self, reason: &'static str) {
        *self.tally.failed_resizes.entry(reason).or_default() += 1;
    }
}
