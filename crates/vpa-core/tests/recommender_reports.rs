//! Reports on the Go suite, each with what has to hold here instead.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use vpa_api::vpa::RecommendedContainerResources;
use vpa_api::{Quantity, VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};
use vpa_core::model::oom::{Oom, ooms_of_pod};
use vpa_core::model::{ClusterState, ContainerId, Observation, ObservedPod, PodId, Settings, Target, VpaId};
use vpa_core::recommend::{Config, plan};
use vpa_core::target::Selector;

const MIB: i64 = 1 << 20;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// One VPA and the pods that it selects.
struct World {
    state: ClusterState,
    vpa: Arc<VerticalPodAutoscaler>,
    now: Timestamp,
}

impl World {
    fn new(policy: Value) -> Self {
        let vpa = json!({
            "metadata": {"namespace": "n", "name": "v", "uid": "1", "generation": 1},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
                "resourcePolicy": {"containerPolicies": policy},
            },
        });
        let vpa = Arc::new(serde_json::from_value(vpa).unwrap());
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut world = Self { state: ClusterState::new(Settings::default()), vpa, now };
        world.target(Target::Found(Selector::parse("app=x").unwrap()));
        world
    }

    fn target(&mut self, target: Target) {
        self.state.apply(Observation::Vpa(self.vpa.clone(), target), self.now).unwrap();
    }

    fn pod(&mut self, name: &str, labels: Value, containers: &[&str]) {
        let pod = pod(name, labels, containers, Value::Null);
        self.state.apply(Observation::Pod(&pod), self.now).unwrap();
    }

    fn gone(&mut self, name: &str) {
        self.state.apply(Observation::PodGone(&PodId::new("n", name)), self.now).unwrap();
    }

    fn usage(&mut self, pod: &str, container: &str, millicores: i64, bytes: i64) {
        let (container, time) = (&ContainerId::new("n", pod, container), self.now);
        self.state.apply(Observation::Cpu { container, time, millicores }, time).unwrap();
        self.state.apply(Observation::Memory { container, time, bytes }, time).unwrap();
    }

    /// So many minutes of the same usage.
    fn minutes(&mut self, minutes: usize, pod: &str, container: &str, millicores: i64, bytes: i64) {
        for _ in 0..minutes {
            self.now += MINUTE;
            self.usage(pod, container, millicores, bytes);
        }
    }

    fn oom(&mut self, pod: &str, requested_bytes: i64) {
        let container = ContainerId::new("n", pod, "c");
        let oom = Oom { container, time: self.now, requested_bytes, first_sight: false };
        self.state.apply(Observation::Oom(&oom), self.now).unwrap();
    }

    /// Plans, and publishes what is planned.
    fn recommend(&mut self) -> Vec<RecommendedContainerResources> {
        let plan = plan(&mut self.state, &Config::default(), self.now);
        if let Some(write) = plan.statuses.into_iter().next() {
            Arc::make_mut(&mut self.vpa).status = Some(write.status);
            let target = self.state.vpa(&VpaId::new("n", "v")).unwrap().target.clone();
            self.target(target);
        }
        let status = self.vpa.status.clone().unwrap_or_default();
        status.recommendation.unwrap_or_default().container_recommendations.unwrap_or_default()
    }

    fn target_mib(&mut self) -> i64 {
        self.recommend()[0].uncapped_target.as_ref().unwrap()["memory"].value_saturating() / MIB
    }

    fn checkpoint(&mut self) -> VerticalPodAutoscalerCheckpoint {
        self.state.checkpoint(&VpaId::new("n", "v"), "c", self.now).unwrap()
    }

    /// The program ends and starts again, with this checkpoint and the pod `p`.
    fn restart(&mut self, checkpoint: &VerticalPodAutoscalerCheckpoint) {
        let target = self.state.vpa(&VpaId::new("n", "v")).unwrap().target.clone();
        self.state = ClusterState::new(Settings::default());
        self.target(target);
        self.state.apply(Observation::Checkpoint(checkpoint), self.now).unwrap();
        self.pod("p", json!({"app": "x"}), &["c"]);
    }
}

fn pod(name: &str, labels: Value, containers: &[&str], statuses: Value) -> ObservedPod {
    let containers: Vec<_> = containers
        .iter()
        .map(|name| json!({"name": name, "resources": {"requests": {"memory": "200Mi"}}}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"namespace": "n", "name": name, "labels": labels},
        "spec": {"containers": containers},
        "status": {"phase": "Running", "containerStatuses": statuses},
    }))
    .unwrap()
}

fn amounts(containers: &[RecommendedContainerResources]) -> impl Iterator<Item = &Quantity> {
    containers.iter().flat_map(|container| {
        let bounds = [&container.lower_bound, &container.upper_bound, &container.uncapped_target];
        container.target.values().chain(bounds.into_iter().flatten().flat_map(|list| list.values()))
    })
}

#[test]
fn report_7726_a_restart_from_checkpoints_publishes_no_zero_and_nothing_else_than_before() {
    let mut world = World::new(json!([]));
    world.pod("p", json!({"app": "x"}), &["c"]);
    // Less than the day after which the Go suite's checkpoint has a first memory peak.
    world.minutes(300, "p", "c", 500, 900 * MIB);
    let before = world.recommend();
    let own = world.checkpoint();
    world.restart(&own);
    assert_eq!(world.recommend(), before);
    let mut foreign = own;
    foreign.metadata.annotations = None;
    world.restart(&foreign);
    for containers in [world.recommend(), before] {
        assert!(
            !containers.is_empty() && amounts(&containers).all(|amount| amount.signum() > 0),
            "{containers:?}"
        );
    }
}

#[test]
fn report_9891_a_target_out_of_sight_for_a_moment_costs_no_history() {
    let mut world = World::new(json!([]));
    world.pod("p", json!({"app": "x"}), &["c"]);
    world.minutes(300, "p", "c", 500, 900 * MIB);
    let before = world.recommend();
    for target in [
        Target::Failed("the API server does not answer".to_owned()),
        Target::Gone("it is being made anew".to_owned()),
        Target::Pending,
    ] {
        world.target(target);
        world.now += MINUTE;
        world.state.collect_garbage(world.now);
        assert_eq!(world.recommend(), before);
        world.target(Target::Found(Selector::parse("app=x").unwrap()));
        assert_eq!(world.recommend(), before);
    }
}

#[test]
fn report_6705_an_oom_kill_is_taken_once_its_container_is_known() {
    let mut world = World::new(json!([]));
    let container = ContainerId::new("n", "p", "c");
    let oom = Oom { container, time: world.now, requested_bytes: 600 * MIB, first_sight: true };
    let early = world.state.apply(Observation::Oom(&oom), world.now);
    assert!(early.is_err(), "the program keeps it and tells it again: `inbox.rs`");
    world.pod("p", json!({"app": "x"}), &["c"]);
    world.state.apply(Observation::Oom(&oom), world.now).unwrap();
    world.state.apply(Observation::Oom(&oom), world.now).unwrap_err();
    world.now += MINUTE;
    world.usage("p", "c", 100, 50 * MIB);
    assert!((700..900).contains(&world.target_mib()), "{}", world.target_mib());
}

#[test]
fn report_4981_an_oom_kill_at_the_start_of_a_container_counts_before_any_usage() {
    let mut world = World::new(json!([]));
    let killed = json!({"reason": "OOMKilled", "finishedAt": world.now});
    let statuses = json!([{"name": "c", "restartCount": 1, "lastState": {"terminated": killed}}]);
    let crashing = pod("p", json!({"app": "x"}), &["c"], statuses);
    world.state.apply(Observation::Pod(&crashing), world.now).unwrap();
    for oom in ooms_of_pod(None, &crashing) {
        world.state.apply(Observation::Oom(&oom), world.now).unwrap();
    }
    // 200 MiB requested, 100 MiB more for the kill, 15 % more.
    assert!((340..370).contains(&world.target_mib()), "{}", world.target_mib());
}

#[test]
fn report_4152_an_oom_kill_older_than_the_last_sample_is_not_too_old() {
    let mut world = World::new(json!([]));
    world.pod("p", json!({"app": "x"}), &["c"]);
    let killed = world.now;
    world.minutes(30, "p", "c", 100, 100 * MIB);
    let container = ContainerId::new("n", "p", "c");
    let oom = Oom { container, time: killed, requested_bytes: 600 * MIB, first_sight: false };
    world.state.apply(Observation::Oom(&oom), world.now).unwrap();
    assert!((700..900).contains(&world.target_mib()), "{}", world.target_mib());
}

#[test]
fn report_9521_oom_kills_under_a_low_maximum_do_not_raise_without_end_and_decay() {
    let mut world = World::new(json!([{"containerName": "*", "maxAllowed": {"memory": "100Mi"}}]));
    world.pod("p", json!({"app": "x"}), &["c"]);
    let mut highest = 0;
    for _ in 0..500 {
        world.minutes(10, "p", "c", 100, 99 * MIB);
        world.oom("p", 100 * MIB);
        highest = highest.max(world.target_mib());
    }
    // What was granted, 100 MiB more, 15 % more, a bucket of 5 %.
    assert!((220..260).contains(&highest), "{highest}");
    assert_eq!(world.recommend()[0].target["memory"].to_string(), "100Mi");
    world.minutes(6 * 1440, "p", "c", 100, 50 * MIB);
    assert!(world.target_mib() < 260 && world.target_mib() <= highest);
    world.minutes(8 * 1440, "p", "c", 100, 50 * MIB);
    assert_eq!(world.target_mib(), 250, "back at the least amount");
}

/// So many rollouts, one a minute; returns the number of histories, and the percentiles by which recommendations are
/// made.
fn rollouts(count: usize, collect: bool, labels: impl Fn(usize) -> Value) -> (usize, Vec<f64>) {
    let mut world = World::new(json!([]));
    for rollout in 0..count {
        let name = format!("p{rollout}");
        world.pod(&name, labels(rollout), &["c"]);
        if rollout > 0 {
            world.gone(&format!("p{}", rollout - 1));
        }
        let wave = (rollout % 97) as i64;
        world.minutes(1, &name, "c", 100 + 10 * wave, (100 + 5 * wave) * MIB);
        if collect {
            world.state.collect_garbage(world.now);
        }
    }
    let count = world.state.aggregate_count();
    let merged = world.state.aggregates_of(&VpaId::new("n", "v"), world.now);
    let percentiles = [0.5, 0.9, 0.95].into_iter();
    (
        count,
        percentiles.flat_map(|p| [merged["c"].cpu.percentile(p), merged["c"].memory.percentile(p)]).collect(),
    )
}

#[test]
fn report_6368_rollouts_do_not_add_histories_and_change_no_recommendation() {
    let labels = |rollout: usize| json!({"app": "x", "pod-template-hash": format!("{rollout:x}")});
    let (few, _) = rollouts(500, true, labels);
    let (many, folded) = rollouts(5_000, true, labels);
    let (unbounded, apart) = rollouts(5_000, false, labels);
    assert_eq!(unbounded, 5_000);
    assert!(few <= 165 && many <= 165, "{few} and {many}");
    assert_eq!(folded, apart);
}

#[test]
fn report_5687_neither_do_labels_that_nobody_selects_by_nor_pods_without_a_vpa() {
    let versions = |rollout: usize| json!({"app": "x", "version": format!("1.0.{rollout}")});
    let (many, folded) = rollouts(5_000, true, versions);
    let (_, apart) = rollouts(5_000, false, versions);
    assert!(many <= 165, "{many}");
    assert_eq!(folded, apart);
    let mut world = World::new(json!([]));
    for job in 0..5_000 {
        let name = format!("job-{job}");
        world.pod(&name, json!({"run": format!("{job}")}), &["c"]);
        world.minutes(1, &name, "c", 100, MIB);
        world.gone(&name);
        world.state.collect_garbage(world.now);
    }
    assert!(world.state.aggregate_count() <= 1_060, "{}", world.state.aggregate_count());
}

#[test]
fn report_6745_a_container_that_was_renamed_ages_out() {
    let mut world = World::new(json!([]));
    world.pod("p", json!({"app": "x"}), &["old", "side"]);
    for container in ["old", "side"] {
        world.usage("p", container, 500, 900 * MIB);
    }
    let names = |world: &mut World| -> Vec<String> {
        world.recommend().into_iter().filter_map(|container| container.container_name).collect()
    };
    assert_eq!(names(&mut world), ["old", "side"]);
    world.pod("q", json!({"app": "x"}), &["new", "side"]);
    world.gone("p");
    for _ in 0..25 * 60 {
        world.now += MINUTE;
        for container in ["new", "side"] {
            world.usage("q", container, 10, 10 * MIB);
        }
        if names(&mut world).len() == 2 {
            break;
        }
    }
    assert_eq!(names(&mut world), ["new", "side"]);
    // Its part of the pod's least amount is shared out over those that are there: 250 MiB by two.
    assert_eq!(world.recommend()[0].target["memory"].value_saturating(), 125 * MIB);
    // Where it comes back, so does its history.
    world.pod("r", json!({"app": "x"}), &["old", "side"]);
    assert_eq!(names(&mut world), ["new", "old", "side"]);
    // A workload without pods keeps all: nothing says what its next pods will have.
    world.gone("q");
    world.gone("r");
    assert_eq!(names(&mut world), ["new", "old", "side"]);
}

#[test]
fn report_2004_a_lower_minimum_of_the_vpa_wins_over_that_of_the_pod() {
    for (policy, want) in [
        (json!([]), "262144000"),
        (json!([{"containerName": "*", "minAllowed": {"memory": "20Mi"}}]), "20971520"),
        (json!([{"containerName": "c", "minAllowed": {"memory": "400Mi"}}]), "419430400"),
    ] {
        let mut world = World::new(policy);
        world.pod("p", json!({"app": "x"}), &["c"]);
        world.minutes(60, "p", "c", 10, MIB);
        let recommended = world.recommend();
        let got = recommended[0].target["memory"].value_saturating();
        assert_eq!(got.to_string(), want);
    }
}
