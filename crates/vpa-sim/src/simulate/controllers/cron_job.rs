//! CronJobs: a Job each time the schedule is due, in simulated time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::ObjectMeta;

use super::cron::Schedule;
use super::{controller_of, create, is_going, job, owned_by, second, status_write};
use crate::simulate::act::{Kind, Write};
use crate::simulate::usage::UsageClock;
use crate::simulate::world::World;

/// Ended jobs kept where the CronJob says nothing.
const KEPT: (i32, i32) = (3, 1);

pub(super) fn plan(world: &World, clock: UsageClock, now: Timestamp) -> Vec<Write> {
    let jobs = world.jobs.all();
    let mut writes = Vec::new();
    for cron in world.cron_jobs.all().iter().filter(|cron| !is_going(&cron.metadata)) {
        let uid = cron.metadata.uid.as_ref();
        let own: Vec<_> = jobs
            .iter()
            .filter(|job| controller_of(&job.metadata).map(|owner| &owner.uid) == uid)
            .cloned()
            .collect();
        writes.extend(one(cron, &own, clock, now));
    }
    writes
}

/// Simulated time: it runs from the epoch on, `scale` times as fast.
fn simulated(clock: UsageClock, now: Timestamp) -> Timestamp {
    let passed = now.duration_since(clock.epoch).as_secs_f64() * clock.scale;
    SignedDuration::try_from_secs_f64(passed)
        .ok()
        .and_then(|passed| clock.epoch.checked_add(passed).ok())
        .unwrap_or(now)
}

fn one(cron: &CronJob, jobs: &[Arc<Job>], clock: UsageClock, now: Timestamp) -> Vec<Write> {
    let Some(spec) = &cron.spec else { return Vec::new() };
    let mut writes = Vec::new();
    let running: Vec<&Arc<Job>> =
        jobs.iter().filter(|job| job::ended(job).is_none() && !is_going(&job.metadata)).collect();
    let old = cron.status.clone().unwrap_or_default();
    let mut status = CronJobStatus {
        active: Some(running.iter().map(|job| reference(job)).collect()),
        last_schedule_time: old.last_schedule_time.clone(),
        last_successful_time: jobs
            .iter()
            .filter_map(|job| job.status.as_ref()?.completion_time.clone())
            .max(),
    };
    // The last time is kept in simulated time too.
    let since = old.last_schedule_time.as_ref().or(cron.metadata.creation_timestamp.as_ref());
    let due = since
        .zip(Schedule::parse(&spec.schedule))
        .and_then(|(since, schedule)| schedule.last_due(since.0, simulated(clock, now)));
    let policy = spec.concurrency_policy.as_deref().unwrap_or("Allow");
    let held_back = policy == "Forbid" && !running.is_empty();
    if let Some(due) = due.filter(|_| spec.suspend != Some(true) && !held_back) {
        if policy == "Replace" {
            writes.extend(running.iter().map(|job| Write::delete(Kind::Job, &job.metadata)));
        }
        let job = new_job(cron, due);
        if !jobs.iter().any(|known| known.metadata.name == job.metadata.name) {
            writes.extend(create(Kind::Job, &job));
        }
        status.last_schedule_time = Some(second(due));
    }
    let keep = |limit: Option<i32>, default: i32| usize::try_from(limit.unwrap_or(default)).unwrap_or(0);
    for (end, kept) in [
        ("Complete", keep(spec.successful_jobs_history_limit, KEPT.0)),
        ("Failed", keep(spec.failed_jobs_history_limit, KEPT.1)),
    ] {
        let mut ended: Vec<_> =
            jobs.iter().filter(|job| job::ended(job) == Some(end) && !is_going(&job.metadata)).collect();
        ended.sort_by_key(|job| job.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let surplus = ended.len().saturating_sub(kept);
        writes.extend(ended.iter().take(surplus).map(|job| Write::delete(Kind::Job, &job.metadata)));
    }
    writes.extend(status_write(Kind::CronJob, &cron.metadata, cron.status.as_ref(), &status));
    writes
}

fn new_job(cron: &CronJob, due: Timestamp) -> Job {
    let template = cron.spec.as_ref().map(|spec| spec.job_template.clone()).unwrap_or_default();
    let source = template.metadata.unwrap_or_default();
    let name =
        format!("{}-{}", cron.metadata.name.as_deref().unwrap_or_default(), due.as_second().div_euclid(60));
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: cron.metadata.namespace.clone(),
        labels: source.labels,
        annotations: source.annotations,
        owner_references: owned_by(cron),
        ..ObjectMeta::default()
    };
    Job { metadata, spec: template.spec, status: None }
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
