//! What must hold in every pass of the updater, over generated clusters, API servers and kubelets: sequences of passes
//! against a plain model.

// Helpers outside of test functions; what they panic on is a broken invariant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../updater_world/mod.rs"]
mod updater_world;

mod checks;
mod cluster;
mod model;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use checks::{Answers, check_report, check_step, note};
use cluster::{Cluster, PassSeed, cluster};
use jiff::{SignedDuration, Timestamp};
use model::Model;
use proptest::prelude::*;
use updater_world::{Everything, NoLimits, pod, vpa};
use vpa_core::update::{
    Config, Heartbeat, MaxStep, Next, NoNodes, Outcome, Pass, PassReport, Reason, Snapshot, Step,
    UpdaterMemory, Verdict,
};
use world::{Nodes, World, evicts};

fn config(cluster: &Cluster) -> Config {
    let settings = &cluster.settings;
    Config {
        eviction_tolerance: settings.tolerance,
        min_replicas: settings.min_replicas,
        rate_limit: settings.rate,
        rate_burst: 2,
        in_place_skip_disruption_budget: settings.skip_budget,
        max_disruptions_per_hour: settings.per_hour,
        max_disruptions_per_hour_per_vpa: settings.per_hour_per_vpa,
        max_step: MaxStep { up: settings.step_up, down: settings.step_down },
        ..Config::default()
    }
}

/// Steps that are under way, and what has become of the others.
#[derive(Default)]
struct Steps {
    under_way: Vec<(Step, Timestamp)>,
    answers: Answers,
    carried_out: Vec<Step>,
}

/// One pass with up to three steps under way at once. Returns the time at its end.
fn run_pass(
    pass: &mut Pass,
    world: &mut World,
    model: &mut Model,
    order: &mut impl Iterator<Item = usize>,
    mut now: Timestamp,
) -> (Steps, Timestamp) {
    let mut steps = Steps::default();
    for turn in 0.. {
        assert!(turn < 10_000, "the pass does not end");
        let until = match pass.next(now) {
            Next::Done => break,
            Next::Wait { until } => until,
            Next::Step(step) => {
                let same_vpa = |(other, _): &(Step, _)| other.vpa.metadata.name == step.vpa.metadata.name;
                assert!(!steps.under_way.iter().any(same_vpa), "two steps of one VPA");
                check_step(&step, world.of(&step), model, &steps.answers, now);
                steps.under_way.push((*step, now));
                if steps.under_way.len() < 3 {
                    continue;
                }
                None
            }
        };
        if steps.under_way.is_empty() {
            now = until.expect("nothing is under way and nothing is waited for");
            continue;
        }
        let index = order.next().unwrap() % steps.under_way.len();
        let (step, taken) = steps.under_way.remove(index);
        let (outcome, carried_out) = world.answer(&step);
        let uid = world.of(&step).uid();
        note(&step, world.of(&step), &outcome, taken, model, now);
        steps.answers.entry(uid).or_default().push((evicts(&step), outcome.clone()));
        pass.on_outcome(step.id, outcome, now);
        if carried_out {
            steps.carried_out.push(step);
        }
    }
    (steps, now)
}

fn snapshot<'a>(
    cluster: &Cluster,
    world: &World,
    seed: &PassSeed,
    model: &Model,
    controllers: &'a Everything,
) -> Snapshot<'a> {
    let owners = 0..cluster.workloads.len();
    Snapshot {
        vpas: owners.map(|n| vpa(&format!("w{n}"), model.mode(cluster, n), seed.target_m)).collect(),
        pods: world.pods.values().map(|pod| pod.object()).collect(),
        controllers,
        limit_ranges: &NoLimits,
        nodes: Arc::new(Nodes),
        heartbeat: if seed.heartbeat { Heartbeat::NotUsed } else { Heartbeat::Missing("gone".into()) },
    }
}

fn restarted(report: &PassReport, world: &World) -> BTreeSet<String> {
    let uid = |name: &str| {
        let named = |pod: &&world::SimPod| name == format!("ns/w{}-{}", pod.owner, pod.number);
        world.pods.values().find(named).unwrap().uid()
    };
    report.unexpected_restarts.iter().map(|restart| uid(&restart.pod)).collect()
}

/// Runs passes one after the other, and checks each of them.
fn run(cluster: &Cluster) {
    let config = config(cluster);
    let replicas = cluster.workloads.iter().enumerate().map(|(n, w)| (format!("w{n}"), w.replicas)).collect();
    let controllers = Everything(replicas);
    let (mut world, mut model) = (World::new(cluster), Model::new(cluster));
    let mut memory = UpdaterMemory::new(&config).unwrap();
    let mut now: Timestamp = "2026-08-15T12:00:00Z".parse().unwrap();
    let mut order = cluster.order.iter().copied().cycle();
    for seed in &cluster.passes {
        let restarts = model.begin(cluster, &world, seed, now);
        let snapshot = snapshot(cluster, &world, seed, &model, &controllers);
        let mut pass = Pass::new(&snapshot, config.clone(), memory, now);
        let (steps, end) = run_pass(&mut pass, &mut world, &mut model, &mut order, now);
        let (report, left) = pass.finish(end);
        assert_eq!(restarted(&report, &world), restarts, "restarts that no policy asked for");
        check_report(&report, &world, &mut model, &steps.answers);
        memory = left;
        world.go_on(&steps.carried_out, seed.target_m);
        now = end.checked_add(SignedDuration::from_mins(seed.minutes)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_passes_breaks_an_invariant(cluster in cluster()) {
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
