//! Jobs: pods until enough of them have ended well.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::replica_set::count;
use super::{Pods, create, is_active, is_going, is_ready, owned_by, pod_from, second, status_write};
use crate::simulate::act::{Kind, Write};
use crate::simulate::world::World;

/// Failed pods allowed where the job says nothing.
const BACKOFF_LIMIT: i32 = 6;

pub(super) fn plan(world: &World, pods: &Pods, now: Timestamp) -> Vec<Write> {
    let jobs = world.jobs.all();
    jobs.iter()
        .filter(|job| !is_going(&job.metadata))
        .flat_map(|job| one(job, pods.of(&job.metadata), now))
        .collect()
}

/// Whether a job has ended, and how: `Complete` or `Failed`.
pub(super) fn ended(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let mut ends = conditions.iter().filter(|condition| condition.status == "True");
    ends.find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed"))
        .map(|end| end.type_.as_str())
}

fn one(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Vec<Write> {
    let Some(spec) = &job.spec else { return Vec::new() };
    if ended(job).is_some() {
        return Vec::new();
    }
    let in_phase = |phase: &str| {
        let found = pods
            .iter()
            .filter(|pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some(phase)));
        count(found.count())
    };
    let active: Vec<&Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).collect();
    let (succeeded, failed) = (in_phase("Succeeded"), in_phase("Failed"));
    let parallelism = if spec.suspend == Some(true) { 0 } else { spec.parallelism.unwrap_or(1) };
    // Without completions the job is a work queue: done when one pod has ended well and none is left.
    let completions = spec.completions;
    let complete = match completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && active.is_empty(),
    };
    let failing = failed > spec.backoff_limit.unwrap_or(BACKOFF_LIMIT);
    let wanted = match (complete || failing, completions) {
        (true, _) => 0,
        (_, Some(completions)) => parallelism.min(completions - succeeded),
        (_, None) if succeeded > 0 => count(active.len()),
        (_, None) => parallelism,
    };
    let wanted = usize::try_from(wanted).unwrap_or(0);
    let mut writes: Vec<Write> = (active.len()..wanted).filter_map(|_| new_pod(job)).collect();
    writes.extend(active.iter().skip(wanted).map(|pod| Write::delete(Kind::Pod, &pod.metadata)));
    let end = if complete { Some("Complete") } else { failing.then_some("Failed") };
    let status = status(job, (&active, wanted), succeeded, failed, end, now);
    writes.extend(status_write(Kind::Job, &job.metadata, job.status.as_ref(), &status));
    writes
}

fn new_pod(job: &Job) -> Option<Write> {
    let spec = job.spec.as_ref()?;
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let labels = [
        ("batch.kubernetes.io/job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("job-name", name),
        ("controller-uid", uid),
    ];
    let prefix = format!("{name}-");
    create(
        Kind::Pod,
        &pod_from(&spec.template, job.metadata.namespace.as_ref(), &prefix, &labels, owned_by(job)),
    )
}

fn status(
    job: &Job,
    (active, wanted): (&[&Arc<Pod>], usize),
    succeeded: i32,
    failed: i32,
    end: Option<&str>,
    now: Timestamp,
) -> JobStatus {
    let mut status = job.status.clone().unwrap_or_default();
    status.start_time = status.start_time.or_else(|| Some(second(now)));
    // Pods that are being removed are no longer active; those of an ended job are all of them.
    status.active = Some(if end.is_some() { 0 } else { count(active.len().min(wanted)) });
    status.ready = Some(count(active.iter().filter(|pod| end.is_none() && is_ready(pod)).count()));
    status.succeeded = Some(succeeded);
    status.failed = Some(failed);
    status.uncounted_terminated_pods.get_or_insert_with(UncountedTerminatedPods::default);
    if let Some(end) = end {
        let condition = |kind: &str, reason: &str| JobCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: None,
            last_probe_time: Some(second(now)),
            last_transition_time: Some(second(now)),
        };
        let conditions = status.conditions.get_or_insert_default();
        if end == "Complete" {
            conditions.push(condition("SuccessCriteriaMet", "CompletionsReached"));
            conditions.push(condition("Complete", "CompletionsReached"));
            status.completion_time = Some(second(now));
        } else {
            conditions.push(condition("FailureTarget", "BackoffLimitExceeded"));
            conditions.push(condition("Failed", "BackoffLimitExceeded"));
        }
    }
    status
}
