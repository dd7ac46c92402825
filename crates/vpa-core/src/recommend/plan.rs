//! The plan of a cycle: which statuses and checkpoints to write.

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;
use jiff::Timestamp;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::names::condition::{
    CONFIG_DEPRECATED, CONFIG_UNSUPPORTED, NO_PODS_MATCHED, RECOMMENDATION_PROVIDED,
};
use vpa_api::vpa::{RecommendedPodResources, VerticalPodAutoscalerStatus};

use super::conditions::Conditions;
use super::config::Config;
use super::estimate::{Estimate, estimate_pod, scaled_containers};
use super::news::{Need, News, news, weight};
use super::post::publish;
use super::report::{CycleReport, VpaReport};
use crate::model::{Aggregate, CheckpointWrite, ClusterState, VpaId, VpaState};

/// Reason and message of the conditions that tell that no pod is selected.
const NO_PODS: (&str, &str) = ("NoPodsMatched", "No pods match this VPA object");

/// What to do.
#[must_use]
#[derive(Clone, Debug, Default)]
pub struct CyclePlan {
    /// Statuses that would tell their readers something new, the most urgent first.
    pub statuses: Vec<StatusWrite>,
    /// Checkpoints whose turn it is, the most urgent first.
    pub checkpoint_writes: Vec<CheckpointWrite>,
    /// What was found.
    pub report: CycleReport,
}

/// A status to write.
#[derive(Clone, Debug)]
pub struct StatusWrite {
    /// The VPA.
    pub vpa: VpaId,
    /// The object that the status is computed from.
    pub object: Arc<VerticalPodAutoscaler>,
    /// The status.
    pub status: VerticalPodAutoscalerStatus,
    /// How urgent it is, and why.
    pub need: Need,
    /// Since when a first recommendation could be waited for: since there are both the VPA and a pod of it.
    pub awaited_since: Option<Timestamp>,
}

impl StatusWrite {
    /// Whether this is its first recommendation.
    pub fn is_first(&self) -> bool {
        self.need.news == News::First
    }
}

/// Makes the plan of a cycle.
///
/// Apart from reference times of histograms, which move when they are merged, and from what is noted of writes that
/// wait, the state stays as it is.
pub fn plan(state: &mut ClusterState, config: &Config, now: Timestamp) -> CyclePlan {
    state.settle_histories();
    let ids: Vec<_> = state.vpas().map(|(id, _)| id).collect();
    let mut plan = CyclePlan::default();
    for id in ids {
        let mut merged = state.aggregates_of(&id, now);
        state.notice_checkpoints(&id, &merged, now);
        merged.retain(|container, history| !state.is_forsaken(&id, container, history, now));
        let pods = state.selected_pods(&id);
        let Some(vpa) = state.vpa(&id) else { continue };
        let (status, report) = recommend_with(vpa, pods, merged, config, state, now);
        if let Some(status) = status {
            plan_status(&mut plan, state, config, status, &report, now);
        }
        plan.report.vpas.push(report);
    }
    plan.statuses.sort_by(|a, b| a.need.compare(&b.need));
    let chosen = state.choose_checkpoints(config.checkpoints.as_ref(), now);
    plan.checkpoint_writes = chosen.writes;
    plan.report.checkpoints_unchanged = chosen.unchanged;
    plan.report.checkpoints_waiting = chosen.waiting;
    plan.report.pods = state.pod_count();
    plan.report.aggregates = state.aggregate_count();
    plan
}

/// Plans to write a status, if it has to tell enough.
fn plan_status(
    plan: &mut CyclePlan,
    state: &mut ClusterState,
    config: &Config,
    status: VerticalPodAutoscalerStatus,
    report: &VpaReport,
    now: Timestamp,
) {
    let Some(vpa) = state.vpa_mut(&report.vpa) else { return };
    let object = vpa.object.clone();
    let first = report.has_recommendation && !had_recommendation(&object);
    let Some(news) = news(object.status.as_ref(), &status, first) else {
        vpa.bounds_since = None;
        plan.report.statuses_unchanged += 1;
        return;
    };
    if matches!(news, News::Bounds(moved) if moved < config.bounds_tolerance) {
        let since = *vpa.bounds_since.get_or_insert(now);
        if now.duration_since(since) < config.bounds_wait_max {
            plan.report.statuses_waiting += 1;
            return;
        }
    }
    let standing = state.standing(&report.vpa);
    let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
    plan.statuses.push(StatusWrite {
        vpa: report.vpa.clone(),
        object,
        status,
        need: Need { news, weight: weight(standing.priority) },
        awaited_since: standing.first_pod.map(|pod| created.map_or(pod, |created| created.max(pod))),
    });
}

/// The status of one VPA, and how it came about. `None` while a published recommendation must be left alone because
/// what it rests on cannot be looked up.
fn recommend_with(
    vpa: &VpaState,
    pods: usize,
    merged: BTreeMap<CompactString, Aggregate>,
    config: &Config,
    state: &ClusterState,
    now: Timestamp,
) -> (Option<VerticalPodAutoscalerStatus>, VpaReport) {
    let object = &vpa.object;
    let mut conditions = conditions_after_load(vpa, now);
    let published = object.status.as_ref().and_then(|status| status.recommendation.clone());
    let waits = vpa.must_wait(state.settings().target_grace, now);
    if waits && (vpa.target.message().is_none() || has_containers(published.as_ref())) {
        // Nothing is known of the target yet: say so, but take nothing back.
        let report = VpaReport::new(vpa, pods, has_containers(published.as_ref()), &conditions, Vec::new());
        let status = vpa.target.message().map(|_| status_of(object, published, conditions));
        return (status, report);
    }
    let containers = scaled_containers(vpa, merged);
    let estimates = estimate_pod(vpa, &containers, config);
    let recommendation = publish(
        &estimates,
        object.spec.resource_policy.as_ref(),
        object.metadata.annotations.as_ref(),
        config,
    );
    let provided = has_containers(Some(&recommendation));
    set_conditions(&mut conditions, pods > 0, provided, now);
    let explained =
        estimates.into_iter().map(|(name, estimate)| explain(name, estimate, &containers)).collect();
    let report = VpaReport::new(vpa, pods, provided, &conditions, explained);
    (Some(status_of(object, Some(recommendation), conditions)), report)
}

fn explain(
    container: CompactString,
    estimate: Estimate,
    containers: &BTreeMap<CompactString, Aggregate>,
) -> super::report::ContainerReport {
    let aggregate = containers.get(&container);
    super::report::ContainerReport {
        samples: aggregate.map_or(0, |aggregate| aggregate.samples),
        first_sample: aggregate.and_then(|aggregate| aggregate.first_sample),
        last_sample: aggregate.and_then(|aggregate| aggregate.last_sample),
        estimate,
        container,
    }
}

/// The conditions once the target was looked up.
pub fn conditions_after_load(vpa: &VpaState, now: Timestamp) -> Conditions {
    let status = vpa.object.status.as_ref();
    let mut conditions = Conditions::new(status.and_then(|status| status.conditions.as_deref()));
    match vpa.target.message() {
        Some(message) => conditions.set(CONFIG_UNSUPPORTED, true, "", message, now),
        None if matches!(vpa.target, crate::model::Target::Found(_)) => conditions.remove(CONFIG_UNSUPPORTED),
        None => {}
    }
    conditions.remove(CONFIG_DEPRECATED);
    conditions
}

fn set_conditions(conditions: &mut Conditions, pods_matched: bool, provided: bool, now: Timestamp) {
    let (reason, message) = if pods_matched { ("", "") } else { NO_PODS };
    if pods_matched {
        conditions.remove(NO_PODS_MATCHED);
    } else {
        conditions.set(NO_PODS_MATCHED, true, reason, message, now);
    }
    if provided {
        conditions.set(RECOMMENDATION_PROVIDED, true, "", "", now);
    } else {
        conditions.set(RECOMMENDATION_PROVIDED, false, reason, message, now);
    }
}

fn status_of(
    object: &VerticalPodAutoscaler,
    recommendation: Option<RecommendedPodResources>,
    conditions: Conditions,
) -> VerticalPodAutoscalerStatus {
    VerticalPodAutoscalerStatus {
        recommendation,
        conditions: Some(conditions.into_list()),
        observed_generation: object.metadata.generation.or(Some(0)),
    }
}

fn has_containers(recommendation: Option<&RecommendedPodResources>) -> bool {
    let containers = recommendation.and_then(|r| r.container_recommendations.as_ref());
    containers.is_some_and(|containers| !containers.is_empty())
}

fn had_recommendation(object: &VerticalPodAutoscaler) -> bool {
    let status = object.status.as_ref();
    let conditions = Conditions::new(status.and_then(|status| status.conditions.as_deref()));
    conditions.is_true(RECOMMENDATION_PROVIDED)
        && has_containers(status.and_then(|status| status.recommendation.as_ref()))
}
