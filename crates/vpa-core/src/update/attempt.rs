//! The last look at a pod before a step is taken: by then others may have used up the budget.

use std::sync::Arc;

use jiff::Timestamp;
use vpa_api::pod::{Pod, ResourceRequirements};
use vpa_api::vpa::RecommendedContainerResources;

use super::boost::{expired_annotations, is_boosted};
use super::decide::{Decision, budget, may_evict, may_resize};
use super::group::{Groups, is_pending, pod_name};
use super::in_place::{FallbackReason, InPlaceState, ResizePhase};
use super::nodes::too_large;
use super::patch::{ResizePatch, resize_patch};
use super::reason::Reason;
use super::report::failure;
use super::step::{Action, Event};
use super::work::{Context, Offer, VpaWork};
use crate::policy::{Mode, current_resources};

/// Why a resize is not sent.
pub(super) enum NotSent {
    Left(Reason),
    FallBack(FallbackReason),
}

impl VpaWork {
    /// What brings the pod to these resources. Memory limits are lowered only where the cluster can do that.
    fn patch(
        &self,
        index: usize,
        wanted: Option<&[RecommendedContainerResources]>,
        cx: &Context<'_>,
    ) -> Result<ResizePatch, Reason> {
        let pod = &self.pods[index].pod;
        let expired = expired_annotations(pod, &self.vpa, cx.now);
        let mut patch = resize_patch(pod, &self.vpa, wanted, &self.limit_ranges, &expired)
            .map_err(|error| Reason::BoostAnnotation(error.to_string()))?;
        if !cx.config.lowers_memory_limits {
            patch.keep_memory_limits(pod);
        }
        Ok(patch)
    }

    pub(super) fn try_end_boost(&mut self, index: usize, cx: &mut Context<'_>) -> Result<Offer, Reason> {
        let pod = Arc::clone(&self.pods[index].pod);
        may_end_boost(&pod, &self.groups, cx.memory.state(&pod))?;
        let patch = self
            .patch(index, self.pods[index].processed.as_deref(), cx)
            .inspect_err(|_| self.count_failed_resize(failure::UNBOOST))?;
        if let Some((before, after)) = patch.qos_change(&pod) {
            self.count_failed_resize(failure::UNBOOST);
            return Err(Reason::QosClass { before, after });
        }
        let resize = if patch.changes(&pod) { patch.resize } else { Vec::new() };
        let disrupts = !resize.is_empty() && self.resize_disrupts(index);
        if disrupts {
            cx.memory.quota.check(&self.key, cx.now)?;
        }
        self.pods[index].limits_kept = patch.limits_kept;
        let action = Action::Unboost { resize, annotate: patch.annotate };
        Ok(Offer { action, after: patch.after, retry: false, disrupts })
    }

    pub(super) fn try_resize(&mut self, index: usize, cx: &mut Context<'_>) -> Result<Offer, NotSent> {
        let pod = Arc::clone(&self.pods[index].pod);
        let retry = match self.decide(index, cx) {
            Decision::Approved | Decision::Infeasible => false,
            Decision::Retry => true,
            Decision::FallBack(why) => return Err(NotSent::FallBack(why)),
            Decision::InfeasibleRemembered => return Err(NotSent::Left(Reason::InfeasibleRemembered)),
            Decision::Deferred(reason) => return Err(NotSent::Left(reason)),
        };
        let group = self.groups.of(&pod).map_err(|untracked| NotSent::Left(Reason::Untracked(untracked)))?;
        if !may_resize(&pod, group, self.disruptive, cx.config) {
            return Err(NotSent::Left(budget(group)));
        }
        let patch = self.patch(index, self.asked(index), cx).map_err(|reason| {
            self.count_failed_resize(failure::RESIZE);
            NotSent::Left(reason)
        })?;
        if !patch.changes(&pod) {
            self.note_infeasible(index, cx);
            let state = cx.memory.state(&pod);
            return Err(NotSent::Left(match state {
                InPlaceState::Infeasible { .. } => Reason::InfeasibleRemembered,
                InPlaceState::Settled if !differs_from_running(&pod, &patch) => Reason::NothingWouldChange,
                _ => Reason::AlreadyAsked,
            }));
        }
        if let Some((before, after)) = patch.qos_change(&pod) {
            return Err(self.refused(FallbackReason::QosClass, Reason::QosClass { before, after }));
        }
        if let Some(too_large) = too_large(&pod, &patch, cx.nodes) {
            return Err(self.refused(FallbackReason::NodeTooSmall, Reason::NodeTooSmall(too_large)));
        }
        let disrupts = self.resize_disrupts(index);
        if disrupts {
            cx.memory.quota.check(&self.key, cx.now).map_err(NotSent::Left)?;
        }
        let action = Action::Resize { resize: patch.resize, annotate: patch.annotate };
        Ok(Offer { action, after: patch.after, retry, disrupts })
    }

    /// A resize that would be refused falls back to an eviction, where the mode evicts.
    fn refused(&self, fallback: FallbackReason, reason: Reason) -> NotSent {
        if self.mode == Mode::InPlace { NotSent::Left(reason) } else { NotSent::FallBack(fallback) }
    }

    pub(super) fn try_evict(
        &mut self,
        index: usize,
        fallback: Option<FallbackReason>,
        cx: &mut Context<'_>,
    ) -> Result<Offer, Reason> {
        let pod = Arc::clone(&self.pods[index].pod);
        may_evict(&pod, &self.groups, cx.memory.state(&pod), cx.config, cx.now)?;
        if let Some(why) = cx.heartbeat.problem(cx.now) {
            return Err(Reason::HeartbeatStale(why));
        }
        let after = self.replacement(index, cx.now)?.ok_or(Reason::NothingWouldChange)?;
        if let Some(pod) = self.recreated_unchanged(cx) {
            return Err(Reason::RecreatedUnchanged { pod });
        }
        cx.memory.quota.check(&self.key, cx.now)?;
        Ok(Offer { action: Action::Evict { fallback }, after, retry: false, disrupts: true })
    }

    /// What the replacement of an evicted pod would get; `None` where that is what the pod has. What its admission gives is
    /// what a resize would; boosts do not matter, as the annotation of one does not come back.
    fn replacement(&self, index: usize, now: Timestamp) -> Result<Option<Vec<ResourceRequirements>>, Reason> {
        let work = &self.pods[index];
        let mut pod = Arc::clone(&work.pod);
        let expired = if is_boosted(&pod) {
            Arc::make_mut(&mut pod).metadata.annotations = None;
            Vec::new()
        } else {
            expired_annotations(&pod, &self.vpa, now)
        };
        let patch = resize_patch(&pod, &self.vpa, work.processed.as_deref(), &self.limit_ranges, &expired)
            .map_err(|error| Reason::BoostAnnotation(error.to_string()))?;
        let differs = patch.changes(&pod) || differs_from_running(&pod, &patch);
        Ok(differs.then_some(patch.after))
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
