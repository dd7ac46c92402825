//! Which statuses and checkpoints are written, and when.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_core::model::oom::Oom;
use vpa_core::model::{
    ClusterState, ContainerId, Observation, ObservedPod, Schedule, Settings, Target, VpaId,
};
use vpa_core::recommend::{Config, CyclePlan, News, plan};
use vpa_core::target::Selector;

const CYCLE: SignedDuration = SignedDuration::from_mins(1);
const UNSAVED_MAX: SignedDuration = SignedDuration::from_mins(10);

/// A cluster whose every write is done at once.
struct World {
    state: ClusterState,
    config: Config,
    vpas: BTreeMap<String, Arc<VerticalPodAutoscaler>>,
    now: Timestamp,
    /// When each checkpoint was written.
    saved: BTreeMap<String, Vec<i64>>,
}

impl World {
    /// As many VPAs with a pod each; the pods of `v0` have the highest priority.
    fn new(vpas: usize) -> Self {
        let config = Config {
            bounds_tolerance: 0.1,
            checkpoints: Some(Schedule { unsaved_max: UNSAVED_MAX, cycle: CYCLE }),
            ..Config::default()
        };
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let state = ClusterState::new(Settings::default());
        let mut world = Self { state, config, vpas: BTreeMap::new(), now, saved: BTreeMap::new() };
        (0..vpas).for_each(|index| world.add(index));
        world
    }

    fn add(&mut self, index: usize) {
        let name = format!("v{index}");
        let vpa = json!({
            "metadata": {"namespace": "n", "name": name, "uid": name, "creationTimestamp": self.now},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}},
        });
        self.vpas.insert(name.clone(), Arc::new(serde_json::from_value(vpa).unwrap()));
        self.put(&name);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": name, "labels": {"app": name}, "creationTimestamp": self.now},
            "spec": {"containers": [{"name": "c"}], "priority": if index == 0 { 1_000_000 } else { 0 }},
            "status": {"phase": "Running"},
        }))
        .unwrap();
        self.state.apply(Observation::Pod(&ObservedPod::from(&pod)), self.now).unwrap();
    }

    fn put(&mut self, name: &str) {
        let target = Target::Found(Selector::parse(&format!("app={name}")).unwrap());
        self.state.apply(Observation::Vpa(self.vpas[name].clone(), target), self.now).unwrap();
    }

    fn usage(&mut self, name: &str, millicores: i64, bytes: i64) {
        let (container, time) = (&ContainerId::new("n", name, "c"), self.now);
        self.state.apply(Observation::Cpu { container, time, millicores }, time).unwrap();
        self.state.apply(Observation::Memory { container, time, bytes }, time).unwrap();
    }

    /// Usage of all, and a plan, carried out in full.
    fn cycle(&mut self, millicores: i64) -> CyclePlan {
        self.now += CYCLE;
        for name in self.vpas.keys().cloned().collect::<Vec<_>>() {
            self.usage(&name, millicores, 1_000_000_000);
        }
        self.write()
    }

    fn write(&mut self) -> CyclePlan {
        let plan = plan(&mut self.state, &self.config, self.now);
        for write in &plan.statuses {
            let vpa = self.vpas.get_mut(write.vpa.name.as_str()).unwrap();
            Arc::make_mut(vpa).status = Some(write.status.clone());
            self.put(&write.vpa.name);
            self.state.status_written(&write.vpa);
        }
        for write in &plan.checkpoint_writes {
            assert!(self.state.checkpoint(&write.vpa, &write.container, self.now).is_some());
            self.state.checkpoint_written(&write.vpa, &write.container, write.content, self.now);
            self.saved.entry(write.vpa.name.to_string()).or_default().push(self.now.as_second());
        }
        plan
    }
}

#[test]
fn small_moves_of_bounds_wait_for_ten_minutes_and_large_ones_for_nothing() {
    let mut world = World::new(1);
    // A day in, another minute moves the upper bound by less than a thousandth.
    (0..1440).for_each(|_| drop(world.cycle(500)));
    let writes: Vec<Vec<News>> =
        (0..40).map(|_| world.cycle(500).statuses.iter().map(|write| write.need.news).collect()).collect();
    let moments: Vec<_> = (0..40).filter(|minute| !writes[*minute].is_empty()).collect();
    assert!(moments.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{moments:?}");
    assert!((3..=4).contains(&moments.len()), "{moments:?}");
    assert!(
        writes.iter().flatten().all(|news| matches!(news, News::Bounds(moved) if *moved < 0.1)),
        "{writes:?}"
    );
}

#[test]
fn targets_and_conditions_are_exact_at_once() {
    let mut world = World::new(2);
    let first = world.cycle(500);
    let order: Vec<_> =
        first.statuses.iter().map(|write| (write.vpa.name.as_str(), write.need.news)).collect();
    assert_eq!(order, [("v0", News::First), ("v1", News::First)]);
    assert_eq!(first.statuses[0].awaited_since.map(|since| world.now.duration_since(since)), Some(CYCLE));
    (0..200).for_each(|_| drop(world.cycle(500)));
    (0..30).for_each(|_| drop(world.cycle(9_000)));
    // Each recommendation that was ever made stands in the objects by now, but for bounds.
    let exact = Config { bounds_tolerance: 0.0, ..world.config.clone() };
    let rest = plan(&mut world.state, &exact, world.now);
    assert!(
        rest.statuses.iter().all(|write| matches!(write.need.news, News::Bounds(_))),
        "{:?}",
        rest.statuses
    );
    let changed = Arc::make_mut(world.vpas.get_mut("v1").unwrap());
    changed.metadata.generation = Some(2);
    world.put("v1");
    let next = world.write();
    let news: Vec<_> = next.statuses.iter().map(|write| (write.vpa.name.as_str(), write.need.news)).collect();
    assert_eq!(news, [("v1", News::Other)]);
}

#[test]
fn the_most_important_pods_come_first() {
    let mut world = World::new(5);
    (0..3).for_each(|_| drop(world.cycle(500)));
    let plan = world.cycle(5_000);
    assert_eq!(plan.statuses.len(), 5);
    assert_eq!(plan.statuses[0].vpa.name, "v0");
    world.add(9);
    let names: Vec<_> = world.cycle(20_000).statuses.into_iter().map(|write| write.vpa.name).collect();
    assert_eq!((names[0].as_str(), names[1].as_str()), ("v9", "v0"));
}

#[test]
fn checkpoints_are_spread_and_none_waits_beyond_its_time() {
    for vpas in [1usize, 7, 100] {
        let mut world = World::new(vpas);
        let mut counts: Vec<usize> = (0..61).map(|_| world.cycle(500).checkpoint_writes.len()).collect();
        assert_eq!(counts.remove(0), vpas, "first checkpoints do not wait");
        let (least, most) = (*counts[10..].iter().min().unwrap(), *counts[10..].iter().max().unwrap());
        assert!(most - least <= 1, "{vpas} VPAs: {counts:?}");
        let total: usize = counts.iter().sum();
        assert!(total <= vpas * 6 + 1, "{vpas} VPAs: {total} writes in an hour");
        for (name, moments) in &world.saved {
            let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(gap <= UNSAVED_MAX.as_secs(), "{name}: {gap} s");
        }
        assert!(
            world.state.oldest_unsaved().is_none_or(|since| world.now.duration_since(since) < UNSAVED_MAX)
        );
    }
}

#[test]
fn an_oom_kill_and_the_end_of_the_program_do_not_wait() {
    let mut world = World::new(10);
    (0..2).for_each(|_| drop(world.cycle(500)));
    world.now += CYCLE;
    let container = ContainerId::new("n", "v7", "c");
    let oom = Oom { container, time: world.now, requested_bytes: 2_000_000_000, first_sight: false };
    world.state.apply(Observation::Oom(&oom), world.now).unwrap();
    let due = plan(&mut world.state, &world.config, world.now).checkpoint_writes;
    assert_eq!(due.first().map(|write| write.vpa.clone()), Some(VpaId::new("n", "v7")));
    assert!(due.len() < 10, "{}", due.len());
    // One was written in the cycle before and has nothing new to say.
    let all = Config { checkpoints: None, ..world.config.clone() };
    assert_eq!(plan(&mut world.state, &all, world.now).checkpoint_writes.len(), 9);
}

#[test]
fn what_says_nothing_new_is_never_written() {
    let mut world = World::new(3);
    (0..12).for_each(|_| drop(world.cycle(500)));
    let mut last = CyclePlan::default();
    for _ in 0..30 {
        world.now += CYCLE;
        last = world.write();
    }
    assert!(last.statuses.is_empty() && last.checkpoint_writes.is_empty());
    assert_eq!((last.report.statuses_unchanged, last.report.checkpoints_unchanged), (3, 3));
    assert_eq!(world.state.oldest_unsaved(), None);
}

#[test]
fn after_a_restart_checkpoints_are_not_written_in_one_go() {
    let mut world = World::new(50);
    (0..30).for_each(|_| drop(world.cycle(500)));
    let ids: Vec<_> = world.vpas.keys().map(|name| VpaId::new("n", name)).collect();
    // As the program before wrote them: some in each of the last cycles.
    let written = |index: usize| world.now - CYCLE * (index % 9) as i32;
    let checkpoints: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| world.state.checkpoint(id, "c", written(index)).unwrap())
        .collect();
    let mut next = World::new(50);
    next.now = world.now;
    for checkpoint in &checkpoints {
        next.state.apply(Observation::Checkpoint(checkpoint), next.now).unwrap();
    }
    let counts: Vec<_> = (0..20).map(|_| next.cycle(500).checkpoint_writes.len()).collect();
    assert!(counts.iter().all(|count| (4..=7).contains(count)), "{counts:?}");
}
