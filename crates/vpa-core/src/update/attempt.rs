//! The last look at a pod before a step is taken: by then others may have used up the budget.

use std::sync::Arc;

use jiff::Timestamp;
use vpa_api::pod::Pod;

use super::boost::{expired_annotations, is_boosted};
use super::decide::{Decision, budget, may_evict, may_resize};
use super::group::{Groups, is_pending, pod_name};
use super::in_place::{FallbackReason, InPlaceState, ResizePhase};
use super::patch::{ResizePatch, resize_patch};
use super::reason::Reason;
use super::report::failure;
use super::step::{Action, Event};
use super::work::{Context, VpaWork};
use crate::policy::{Mode, current_resources};

/// Why a resize is not sent.
pub(super) enum Blocked {
    Left(Reason),
    FallBack(FallbackReason),
}

impl VpaWork {
    pub(super) fn patch(&self, index: usize, now: Timestamp) -> Result<ResizePatch, Reason> {
        let work = &self.pods[index];
        let expired = expired_annotations(&work.pod, &self.vpa, now);
        resize_patch(&work.pod, &self.vpa, work.processed.as_deref(), &self.limit_ranges, &expired)
            .map_err(|error| Reason::BoostAnnotation(error.to_string()))
    }

    pub(super) fn try_end_boost(&mut self, index: usize, cx: &mut Context<'_>) -> Result<Action, Reason> {
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

    pub(super) fn try_resize(
        &mut self,
        index: usize,
        cx: &mut Context<'_>,
    ) -> Result<(Action, bool), Blocked> {
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

    pub(super) fn try_evict(&mut self, index: usize, cx: &mut Context<'_>) -> Result<(), Reason> {
        let pod = Arc::clone(&self.pods[index].pod);
        may_evict(&pod, &self.groups, cx.memory.state(&pod), cx.config, cx.now)?;
        if let Some(why) = cx.heartbeat.problem(cx.now) {
            return Err(Reason::HeartbeatStale(why));
        }
        if !self.would_come_back_different(index, cx.now)? {
            return Err(Reason::NothingWouldChange);
        }
        if let Some(pod) = self.recreated_unchanged(cx) {
            return Err(Reason::RecreatedUnchanged { pod });
        }
        Ok(())
    }

    /// Whether the replacement of an evicted pod would get other resources than the pod has. What its admission gives is
    /// what a resize would; boosts do not matter, as the annotation of one does not come back.
    fn would_come_back_different(&self, index: usize, now: Timestamp) -> Result<bool, Reason> {
        let work = &self.pods[index];
        if !is_boosted(&work.pod) {
            let patch = self.patch(index, now)?;
            return Ok(patch.changes(&work.pod) || differs_from_running(&work.pod, &patch));
        }
        let mut plain = Pod::clone(&work.pod);
        plain.metadata.annotations = None;
        let patch = resize_patch(&plain, &self.vpa, work.processed.as_deref(), &self.limit_ranges, &[])
            .map_err(|error| Reason::BoostAnnotation(error.to_string()))?;
        Ok(patch.changes(&plain) || differs_from_running(&plain, &patch))
    }

    /// The pod for whose sake evictions are stopped. Looked up once a pass: pods of the snapshot do not change.
    pub(super) fn recreated_unchanged(&mut self, cx: &mut Context<'_>) -> Option<String> {
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
