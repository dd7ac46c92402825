//! What users of the Go suite reported about its updater (numbers are issues of kubernetes/autoscaler), and what happens
//! here.

// Helpers outside of test functions; what they panic on is a broken test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod updater_world;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use updater_world::{Everything, NoLimits, pod, vpa};
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_core::update::{
    Action, Config, Heartbeat, Next, NoNodes, Outcome, Pass, PassReport, Reason, Refusal, Snapshot, Step,
    UpdaterMemory, Verdict,
};

/// A cluster with one VPA, and an updater that remembers.
struct World {
    vpa: Arc<VerticalPodAutoscaler>,
    pods: Vec<Arc<Pod>>,
    config: Config,
    heartbeat: Heartbeat,
    memory: Option<UpdaterMemory>,
    now: Timestamp,
}

impl World {
    fn new(mode: &str, cpu_m: i64, pods: Vec<Arc<Pod>>) -> Self {
        let config = Config::default();
        Self {
            vpa: vpa("w", mode, cpu_m),
            pods,
            memory: Some(UpdaterMemory::new(&config).unwrap()),
            config,
            heartbeat: Heartbeat::NotUsed,
            now: "2026-08-15T12:00:00Z".parse().unwrap(),
        }
    }

    /// One pass; `answer` says what becomes of each step. Time goes on by `minutes` after it.
    fn pass(&mut self, minutes: i64, answer: impl Fn(&Step) -> Outcome) -> (Vec<Step>, PassReport) {
        let snapshot = Snapshot {
            vpas: vec![Arc::clone(&self.vpa)],
            pods: self.pods.clone(),
            controllers: &Everything(BTreeMap::from([("w".to_owned(), self.pods.len() as i32)])),
            limit_ranges: &NoLimits,
            nodes: Arc::new(NoNodes),
            heartbeat: self.heartbeat.clone(),
        };
        let mut pass = Pass::new(&snapshot, self.config.clone(), self.memory.take().unwrap(), self.now);
        let mut steps = Vec::new();
        while let Next::Step(step) = pass.next(self.now) {
            pass.on_outcome(step.id, answer(&step), self.now);
            steps.push(*step);
        }
        let (report, memory) = pass.finish(self.now);
        self.memory = Some(memory);
        self.now = self.now.checked_add(SignedDuration::from_mins(minutes)).unwrap();
        (steps, report)
    }
}

fn reasons(report: &PassReport) -> Vec<&'static str> {
    let code = |verdict: &Verdict| match verdict {
        Verdict::Left(reason) => reason.code(),
        Verdict::Evicted(_) => "evicted",
        Verdict::Resized | Verdict::BoostEnded { .. } => "resized",
    };
    report.pods().map(|(_, pod)| code(&pod.verdict)).collect()
}

fn pods(count: usize, cpu_m: i64) -> Vec<Arc<Pod>> {
    (0..count).map(|number| pod("w", number, false, cpu_m, None)).collect()
}

fn done(_: &Step) -> Outcome {
    Outcome::Done
}

/// 8776, 9935: bounds out of order made pods due for ever, though eviction changed nothing.
#[test]
fn a_pod_that_has_what_admission_would_give_is_not_evicted() {
    let mut world = World::new("Recreate", 200, pods(2, 200));
    let mut vpa = VerticalPodAutoscaler::clone(&world.vpa);
    let recommendation = vpa.status.as_mut().unwrap().recommendation.as_mut().unwrap();
    let container = &mut recommendation.container_recommendations.as_mut().unwrap()[0];
    // A lower bound above the target: outside of the range with nothing to change.
    container.lower_bound = serde_json::from_value(json!({ "cpu": "300m" })).unwrap();
    world.vpa = Arc::new(vpa);
    let (steps, report) = world.pass(1, done);
    assert!(steps.is_empty());
    assert_eq!(reasons(&report), ["NothingWouldChange", "NothingWouldChange"]);
}

/// 2180, 9362, 6362, 7795: evictions went on while no webhook gave the new pods other resources.
#[test]
fn nothing_is_touched_while_the_admission_controller_is_silent() {
    for mode in ["Recreate", "InPlaceOrRecreate"] {
        let mut world = World::new(mode, 200, pods(2, 50));
        world.heartbeat = Heartbeat::ValidUntil(world.now);
        let (steps, report) = world.pass(1, done);
        assert!(steps.is_empty());
        assert_eq!(reasons(&report), ["HeartbeatStale", "HeartbeatStale"]);
    }
}

/// 2180, 9362, 6362, 7795: as above, with a heartbeat that says that all is well.
#[test]
fn a_pod_that_comes_back_unchanged_stops_evictions() {
    let mut world = World::new("Recreate", 200, pods(3, 50));
    let (steps, _) = world.pass(1, done);
    assert_eq!(steps.len(), 1);
    // Its replacement has what it had.
    world.pods[0] = pod("w", 7, false, 50, None);
    for _ in 0..60 {
        let (steps, report) = world.pass(1, done);
        assert!(steps.is_empty());
        assert_eq!(reasons(&report), ["RecreatedUnchanged"; 3]);
    }
    // After an hour one more is tried; this time the webhook does its work.
    let (steps, _) = world.pass(1, done);
    assert_eq!(steps.len(), 1);
    let gone = world.pods.iter().position(|pod| pod.metadata.uid == steps[0].pod.metadata.uid).unwrap();
    world.pods[gone] = pod("w", 8, false, 200, None);
    let (steps, _) = world.pass(1, done);
    assert_eq!(steps.len(), 1, "evictions go on");
}

/// 10093, 10094: an overloaded API server made a resize infeasible for ever.
#[test]
fn a_transient_error_is_not_remembered_as_infeasible() {
    let refuse = |code: u16, node_capacity: bool| {
        move |_: &Step| {
            Outcome::of_status(
                Refusal { code, node_capacity, message: "no".into(), ..Refusal::default() },
                false,
            )
        }
    };
    for code in [404, 409, 429, 500, 503, 504] {
        let mut world = World::new("InPlace", 200, pods(2, 50));
        let (first, _) = world.pass(1, refuse(code, false));
        let (second, _) = world.pass(1, done);
        assert!(!first.is_empty() && !second.is_empty(), "{code} is tried again");
    }
    let mut world = World::new("InPlace", 200, pods(2, 50));
    assert_eq!(world.pass(1, refuse(403, true)).0.len(), 2);
    let (steps, report) = world.pass(1, done);
    assert!(steps.is_empty());
    assert_eq!(reasons(&report), ["InfeasibleRemembered"; 2]);
    world.vpa = vpa("w", "InPlace", 150);
    assert!(!world.pass(1, done).0.is_empty(), "less is tried");
}

/// 10093, 10094: the kubelet's passing failure, too; it is retried with growing waits when there is something new to ask.
#[test]
fn a_failed_resize_is_retried_with_backoff() {
    let failed = |number| pod("w", number, false, 50, Some(("PodResizeInProgress", "Error")));
    let mut world = World::new("InPlace", 200, vec![failed(0), failed(1), pod("w", 2, false, 200, None)]);
    let mut asked = Vec::new();
    for minute in 0..16 {
        if !world.pass(1, |_| Outcome::Transient("busy".into())).0.is_empty() {
            asked.push(minute);
        }
    }
    assert_eq!(asked, [0, 1, 3, 7, 15]);
}

/// 10136: resizes that restart containers went past the disruption budget.
#[test]
fn a_resize_that_restarts_containers_respects_the_budget() {
    let with_policy = |policy: &str| -> Vec<Arc<Pod>> {
        let set = |pod: Arc<Pod>| {
            let mut pod = Pod::clone(&pod);
            let policy = json!([{ "resourceName": "cpu", "restartPolicy": policy }]);
            pod.spec.containers[0].resize_policy = serde_json::from_value(policy).unwrap();
            Arc::new(pod)
        };
        pods(4, 50).into_iter().map(set).collect()
    };
    for (policy, resized) in [("RestartContainer", 2), ("NotRequired", 4)] {
        let mut world = World::new("InPlace", 200, with_policy(policy));
        world.config.in_place_skip_disruption_budget = true;
        assert_eq!(world.pass(1, done).0.len(), resized, "{policy}");
    }
}

/// 9374: a BestEffort pod cannot be resized, since that would make it Burstable.
#[test]
fn a_best_effort_pod_gets_what_its_mode_falls_back_to() {
    let bare = || -> Vec<Arc<Pod>> {
        let strip = |pod: Arc<Pod>| {
            let mut pod = Pod::clone(&pod);
            pod.spec.containers[0].resources = Default::default();
            Arc::new(pod)
        };
        pods(2, 50).into_iter().map(strip).collect()
    };
    let (steps, report) = World::new("InPlace", 200, bare()).pass(1, done);
    assert!(steps.is_empty());
    assert_eq!(reasons(&report), ["QosClass"; 2]);
    let text = report.pods().next().map(|(_, pod)| match &pod.verdict {
        Verdict::Left(reason @ Reason::QosClass { .. }) => reason.to_string(),
        other => panic!("{other:?}"),
    });
    assert!(text.unwrap().contains("from BestEffort to Burstable"));
    let (steps, _) = World::new("InPlaceOrRecreate", 200, bare()).pass(1, done);
    assert!(matches!(steps.as_slice(), [step] if matches!(step.action, Action::Evict { .. })));
}
