//! What must hold in every pass of the updater, over generated clusters and API servers.

// Helpers outside of test functions; what they panic on is a broken invariant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod updater_world;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use updater_world::{Everything, NoLimits, pod, vpa};
use vpa_api::Quantity;
use vpa_api::pod::Pod;
use vpa_core::update::{
    Action, Config, GroupKey, Heartbeat, Next, NoNodes, Outcome, Pass, PassReport, Reason, Refusal,
    ResizePhase, Snapshot, Step, UpdaterMemory, Verdict, pod_name,
};

/// What a VPA of a generated cluster is like. Numbers are choices.
#[derive(Clone, Debug)]
struct Workload {
    mode: usize,
    replicas: i32,
    /// For each pod: whether it is pending, its CPU request, and the state of its resize.
    pods: Vec<(bool, i64, usize)>,
}

const MODES: [&str; 3] = ["Recreate", "InPlaceOrRecreate", "InPlace"];
const CONDITIONS: [Option<(&str, &str)>; 7] = [
    None,
    None,
    None,
    Some(("PodResizePending", "Deferred")),
    Some(("PodResizePending", "Infeasible")),
    Some(("PodResizeInProgress", "")),
    Some(("PodResizeInProgress", "Error")),
];

fn workload() -> impl Strategy<Value = Workload> {
    let pod =
        (prop::bool::weighted(0.15), prop_oneof![Just(50_i64), Just(100), Just(300)], 0..CONDITIONS.len());
    (0..MODES.len(), 1..8_i32, prop::collection::vec(pod, 1..8)).prop_map(|(mode, replicas, pods)| Workload {
        mode,
        replicas,
        pods,
    })
}

#[derive(Clone, Debug)]
struct Cluster {
    workloads: Vec<Workload>,
    tolerance: f64,
    min_replicas: i64,
    rate: f64,
    heartbeat: bool,
    /// CPU that is recommended, pass by pass.
    targets: Vec<i64>,
    /// Answers of the API server, used in a circle.
    answers: Vec<u8>,
    /// Which of the steps under way comes back next.
    order: Vec<usize>,
}

fn cluster() -> impl Strategy<Value = Cluster> {
    (
        prop::collection::vec(workload(), 1..5),
        prop_oneof![Just(0.0), Just(0.25), Just(0.5), Just(1.0)],
        0..4_i64,
        prop_oneof![3 => Just(-1.0), 1 => Just(0.5), 1 => Just(5.0)],
        prop::bool::weighted(0.9),
        prop::collection::vec(prop_oneof![Just(80_i64), Just(100), Just(200), Just(250)], 1..5),
        prop::collection::vec(0..8_u8, 1..12),
        prop::collection::vec(0..4_usize, 1..12),
    )
        .prop_map(|(workloads, tolerance, min_replicas, rate, heartbeat, targets, answers, order)| {
            Cluster { workloads, tolerance, min_replicas, rate, heartbeat, targets, answers, order }
        })
}

fn answer(choice: u8, step: &Step) -> Outcome {
    let refusal =
        |code, node_capacity| Refusal { code, node_capacity, message: "no".into(), ..Refusal::default() };
    let eviction = matches!(step.action, Action::Evict { .. });
    match choice {
        0 => Outcome::of_status(refusal(403, true), eviction),
        1 => Outcome::of_status(refusal(422, false), eviction),
        2 => Outcome::of_status(refusal(429, false), eviction),
        3 => Outcome::Unknown("lost".into()),
        _ => Outcome::Done,
    }
}

/// CPU that a resize asks for, in thousandths.
fn asked_cpu(step: &Step) -> Option<i64> {
    let Action::Resize { resize, .. } = &step.action else { return None };
    let op = resize.iter().find(|op| op.path.ends_with("/requests/cpu"))?;
    Some(Quantity::parse(op.value.as_str()?).unwrap().milli_value())
}

/// Runs passes with several steps under way at once, and checks each of them.
fn run(cluster: &Cluster) {
    let config = Config {
        eviction_tolerance: cluster.tolerance,
        min_replicas: cluster.min_replicas,
        rate_limit: cluster.rate,
        rate_burst: 2,
        ..Config::default()
    };
    let name = |index: usize| format!("w{index}");
    let replicas = cluster.workloads.iter().enumerate().map(|(index, w)| (name(index), w.replicas)).collect();
    let controllers = Everything(replicas);
    let pods: Vec<Arc<Pod>> = cluster
        .workloads
        .iter()
        .enumerate()
        .flat_map(|(index, w)| {
            let owner = name(index);
            let make = move |(number, &(pending, cpu, state)): (usize, &(bool, i64, usize))| {
                pod(&owner, number, pending, cpu, CONDITIONS[state])
            };
            w.pods.iter().enumerate().map(make).collect::<Vec<_>>()
        })
        .collect();
    let mut memory = UpdaterMemory::new(&config).unwrap();
    let mut now: Timestamp = "2026-08-15T12:00:00Z".parse().unwrap();
    // CPU of the last resize of a pod that its node could not take.
    let mut infeasible: BTreeMap<String, i64> = BTreeMap::new();
    let mut answers = cluster.answers.iter().copied().cycle();
    let mut order = cluster.order.iter().copied().cycle();
    for cpu in &cluster.targets {
        let modes = cluster.workloads.iter().map(|w| MODES[w.mode]);
        let heartbeat =
            if cluster.heartbeat { Heartbeat::NotUsed } else { Heartbeat::Missing("gone".into()) };
        let snapshot = Snapshot {
            vpas: modes.enumerate().map(|(index, mode)| vpa(&name(index), mode, *cpu)).collect(),
            pods: pods.clone(),
            controllers: &controllers,
            limit_ranges: &NoLimits,
            nodes: Arc::new(NoNodes),
            heartbeat,
        };
        let mut pass = Pass::new(&snapshot, config.clone(), memory, now);
        let mut under_way: Vec<Step> = Vec::new();
        let mut disrupted: BTreeMap<GroupKey, i64> = BTreeMap::new();
        for turn in 0.. {
            assert!(turn < 10_000, "the pass does not end");
            let until = match pass.next(now) {
                Next::Done => break,
                Next::Wait { until } => until,
                Next::Step(step) => {
                    check_step(&step, &under_way, &infeasible, cluster);
                    under_way.push(*step);
                    if under_way.len() < 3 {
                        continue;
                    }
                    None
                }
            };
            if under_way.is_empty() {
                now = until.expect("nothing is under way and nothing is waited for");
                continue;
            }
            let step = under_way.remove(order.next().unwrap() % under_way.len());
            let outcome = answer(answers.next().unwrap(), &step);
            note(&step, &outcome, &mut disrupted, &mut infeasible);
            pass.on_outcome(step.id, outcome, now);
            for (_, key, group) in pass.groups() {
                let free = (group.running - (group.configured - group.eviction_tolerance)).max(0);
                let alone = group.eviction_tolerance == 0 && group.configured == group.running;
                let allowed = free.max(i64::from(alone));
                let used = disrupted.get(key).copied().unwrap_or_default();
                assert!(used <= allowed, "{key}: {used} disrupted, {allowed} allowed: {group:?}");
            }
        }
        let (report, left) = pass.finish(now);
        check_report(&report, pods.len(), &disrupted, cluster);
        memory = left;
        now = now.checked_add(SignedDuration::from_mins(1)).unwrap();
    }
}

fn check_step(step: &Step, under_way: &[Step], infeasible: &BTreeMap<String, i64>, cluster: &Cluster) {
    let mode =
        step.vpa.spec.update_policy.as_ref().unwrap().update_mode.as_ref().unwrap().as_str().to_owned();
    let evicts = matches!(step.action, Action::Evict { .. });
    assert!(cluster.heartbeat, "a step without the admission controller: {step:?}");
    assert!(mode != "InPlace" || !evicts, "mode InPlace evicts: {step:?}");
    assert!(mode != "Recreate" || evicts, "mode Recreate resizes: {step:?}");
    assert!(
        under_way.iter().all(|other| other.vpa.metadata.name != step.vpa.metadata.name),
        "two steps of one VPA"
    );
    if mode == "InPlace"
        && let (Some(asked), Some(before)) = (asked_cpu(step), infeasible.get(&pod_name(&step.pod)))
    {
        assert!(
            asked < *before,
            "{} was infeasible with {before}m and is asked for {asked}m",
            pod_name(&step.pod)
        );
    }
    if matches!(step.action, Action::Resize { .. }) {
        let phase = ResizePhase::of(&step.pod);
        let settled = matches!(phase, ResizePhase::None | ResizePhase::Infeasible | ResizePhase::Error);
        assert!(settled, "resized while {phase}");
    }
}

fn note(
    step: &Step,
    outcome: &Outcome,
    disrupted: &mut BTreeMap<GroupKey, i64>,
    infeasible: &mut BTreeMap<String, i64>,
) {
    let pending = step.pod.status.phase.as_deref() == Some("Pending");
    if matches!(outcome, Outcome::Done | Outcome::Unknown(_)) && !pending {
        *disrupted.entry(GroupKey::of(&step.pod)).or_default() += 1;
    }
    if let (Outcome::Refused(refusal), Some(cpu)) = (outcome, asked_cpu(step))
        && refusal.node_capacity
    {
        infeasible.insert(pod_name(&step.pod), cpu);
    }
}

fn check_report(report: &PassReport, pods: usize, disrupted: &BTreeMap<GroupKey, i64>, cluster: &Cluster) {
    assert_eq!(report.pods().count() + report.uncontrolled_pods, pods, "each pod is in the report");
    for (vpa, pod) in report.pods() {
        if report.complete {
            assert_ne!(
                pod.verdict,
                Verdict::Left(Reason::PassOver),
                "{} of {} has no verdict",
                pod.pod(),
                vpa.name
            );
        }
    }
    for (key, count) in disrupted {
        let index: usize = key.name.trim_start_matches('w').parse().unwrap();
        let live = cluster.workloads[index].pods.len() as i64;
        assert!(*count == 0 || live >= cluster.min_replicas, "{key} is below the minimum of replicas");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_pass_breaks_an_invariant(cluster in cluster()) {
        run(&cluster);
    }
}

/// 20,000 VPAs that all wait for the rate limit lose their work at once, on a stack as small as a thread may have.
#[test]
fn many_waiting_vpas_end_on_a_small_stack() {
    const VPAS: usize = 20_000;
    let work = || {
        let config = Config { rate_limit: 0.1, rate_burst: 1, min_replicas: 1, ..Config::default() };
        let now: Timestamp = "2026-08-15T12:00:00Z".parse().unwrap();
        let snapshot = Snapshot {
            vpas: (0..VPAS).map(|n| vpa(&format!("w{n}"), "Recreate", 200)).collect(),
            pods: (0..VPAS)
                .flat_map(|n| [0, 1].map(|number| pod(&format!("w{n}"), number, false, 50, None)))
                .collect(),
            controllers: &Everything(BTreeMap::new()),
            limit_ranges: &NoLimits,
            nodes: Arc::new(NoNodes),
            heartbeat: Heartbeat::NotUsed,
        };
        let mut pass = Pass::new(&snapshot, config.clone(), UpdaterMemory::new(&config).unwrap(), now);
        let Next::Step(step) = pass.next(now) else { panic!("the first step is free") };
        pass.on_outcome(step.id, Outcome::Done, now);
        assert!(matches!(pass.next(now), Next::Wait { until: Some(_) }));
        pass.set_heartbeat(Heartbeat::Missing("gone".into()));
        let later = now.checked_add(SignedDuration::from_secs(30)).unwrap();
        assert!(matches!(pass.next(later), Next::Done));
        let (report, _) = pass.finish(now);
        let stale = |verdict: &Verdict| matches!(verdict, Verdict::Left(Reason::HeartbeatStale(_)));
        assert_eq!(report.pods().filter(|(_, pod)| stale(&pod.verdict)).count(), 2 * VPAS - 1 - 1);
    };
    let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(work).unwrap();
    thread.join().unwrap();
}
