//! Properties of the model that hold for any history.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;
use vpa_api::pod::Pod;
use vpa_api::vpa::{RecommendedPodResources, VerticalPodAutoscalerStatus};
use vpa_api::{Quantity, ResourceList, VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};
use vpa_core::model::histogram::DecayingHistogram;
use vpa_core::model::history::DETAIL_ANNOTATION;
use vpa_core::model::oom::Oom;
use vpa_core::model::{
    ClusterState, ContainerId, Observation, ObservedPod, Settings, Target, VpaId, buckets,
};
use vpa_core::recommend::{Config, plan};
use vpa_core::target::Selector;

const START: i64 = 1_700_000_123;
const CONTAINERS: [&str; 2] = ["app", "side"];

#[derive(Clone, Debug)]
enum Event {
    Usage { pod: usize, container: usize, millicores: Option<i64>, bytes: Option<i64> },
    Oom { pod: usize, container: usize, bytes: i64 },
    Replace { pod: usize },
    Collect,
    Wait { seconds: i64 },
}

fn event() -> impl Strategy<Value = Event> {
    let pod = 0..3usize;
    let container = 0..CONTAINERS.len();
    let bytes = prop_oneof![Just(0), 1..3_000_000_000i64, Just(5_000_000_000_000)];
    prop_oneof![
        12 => (pod.clone(), container.clone(), prop::option::of(0..20_000i64), prop::option::of(bytes.clone()))
            .prop_map(|(pod, container, millicores, bytes)| Event::Usage { pod, container, millicores, bytes }),
        1 => (pod.clone(), container, bytes).prop_map(|(pod, container, bytes)| Event::Oom { pod, container, bytes }),
        1 => pod.prop_map(|pod| Event::Replace { pod }),
        1 => Just(Event::Collect),
        8 => prop_oneof![1..120i64, 3000..90_000i64, Just(86_400i64)].prop_map(|seconds| Event::Wait { seconds }),
    ]
}

struct Life {
    state: ClusterState,
    vpa: Arc<VerticalPodAutoscaler>,
    config: Config,
    pods: BTreeMap<usize, String>,
    names: usize,
    now: Timestamp,
}

impl Life {
    fn new(policies: serde_json::Value, config: Config) -> Self {
        let vpa = json!({
            "metadata": {"namespace": "n", "name": "v", "uid": "1", "generation": 1},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
                "resourcePolicy": {"containerPolicies": policies},
            },
        });
        let mut life = Self {
            state: ClusterState::new(Settings::default()),
            vpa: Arc::new(serde_json::from_value(vpa).unwrap()),
            config,
            pods: BTreeMap::new(),
            names: 0,
            now: Timestamp::from_second(START).unwrap(),
        };
        life.put_vpa();
        for pod in 0..3 {
            life.start(pod);
        }
        life
    }

    fn put_vpa(&mut self) {
        let target = Target::Found(Selector::parse("app=x").unwrap());
        self.state.apply(Observation::Vpa(self.vpa.clone(), target), self.now).unwrap();
    }

    fn put_pod(&mut self, name: &str) {
        let containers: Vec<_> = CONTAINERS.iter().map(|name| json!({"name": name})).collect();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": name, "labels": {"app": "x"}},
            "spec": {"containers": containers},
            "status": {"phase": "Running"},
        }))
        .unwrap();
        self.state.apply(Observation::Pod(&ObservedPod::from(&pod)), self.now).unwrap();
    }

    fn start(&mut self, pod: usize) {
        let name = format!("p{}", self.names);
        self.names += 1;
        self.put_pod(&name);
        self.pods.insert(pod, name);
    }

    fn container(&self, pod: usize, container: usize) -> ContainerId {
        ContainerId::new("n", &self.pods[&pod], CONTAINERS[container])
    }

    fn apply(&mut self, event: &Event) {
        let (time, now) = (self.now, self.now);
        match *event {
            Event::Usage { pod, container, millicores, bytes } => {
                let container = &self.container(pod, container);
                if let Some(millicores) = millicores {
                    let _ = self.state.apply(Observation::Cpu { container, time, millicores }, now);
                }
                if let Some(bytes) = bytes {
                    let _ = self.state.apply(Observation::Memory { container, time, bytes }, now);
                }
            }
            Event::Oom { pod, container, bytes } => {
                let container = self.container(pod, container);
                let oom = Oom { container, time, requested_bytes: bytes, first_sight: false };
                let _ = self.state.apply(Observation::Oom(&oom), now);
            }
            Event::Replace { pod } => {
                let id = self.container(pod, 0).pod;
                self.state.apply(Observation::PodGone(&id), now).unwrap();
                self.start(pod);
            }
            Event::Collect => drop(self.state.collect_garbage(now)),
            Event::Wait { seconds } => self.now += SignedDuration::from_secs(seconds),
        }
    }

    fn recommend(&mut self) -> RecommendedPodResources {
        let plan = plan(&mut self.state, &self.config, self.now);
        let status = plan.statuses.into_iter().next().map(|write| write.status);
        status
            .or_else(|| self.vpa.status.clone())
            .and_then(|status| status.recommendation)
            .unwrap_or_default()
    }

    /// Every amount that may be recommended at this moment, by container, list and resource. It is one amount, but two
    /// where a percentile meets the sum of some buckets' weights to the last bit: taking a running interval out of the
    /// weights and putting it back after a restart may round that bit differently.
    fn possible(&mut self) -> BTreeMap<String, Vec<String>> {
        let exact = self.config.clone();
        let mut possible: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for nudge in [0.0, 1e-9, -1e-9] {
            for resource in [&mut self.config.cpu, &mut self.config.memory] {
                resource.target += nudge;
                resource.lower_bound += nudge;
                resource.upper_bound += nudge;
            }
            for (amount, text) in amounts(&self.recommend()) {
                possible.entry(amount).or_default().push(text);
            }
            self.config = exact.clone();
        }
        possible
    }

    fn checkpoints(&mut self) -> Vec<VerticalPodAutoscalerCheckpoint> {
        let id = VpaId::new("n", "v");
        let containers: Vec<_> = self.state.aggregates_of(&id, self.now).into_keys().collect();
        containers.iter().filter_map(|container| self.state.checkpoint(&id, container, self.now)).collect()
    }

    /// The program ends and starts again.
    fn restart(&mut self, checkpoints: &[VerticalPodAutoscalerCheckpoint]) {
        self.state = ClusterState::new(Settings::default());
        self.put_vpa();
        for checkpoint in checkpoints {
            self.state.apply(Observation::Checkpoint(checkpoint), self.now).unwrap();
        }
        for name in self.pods.clone().into_values() {
            self.put_pod(&name);
        }
    }
}

fn policies() -> impl Strategy<Value = serde_json::Value> {
    let quantity = prop::sample::select(vec!["0", "1m", "100m", "1500m", "4", "64Mi", "300M", "2Gi", "1e3"]);
    let list = prop::collection::btree_map(prop::sample::select(vec!["cpu", "memory"]), quantity, 0..3);
    let policy = (prop::sample::select(vec!["app", "side", "*"]), list.clone(), list)
        .prop_map(|(name, min, max)| json!({"containerName": name, "minAllowed": min, "maxAllowed": max}));
    prop::collection::vec(policy, 0..3).prop_map(serde_json::Value::Array)
}

fn config() -> impl Strategy<Value = Config> {
    let fraction = prop::sample::select(vec![0.0, 0.3, 0.5, 0.9, 0.95, 1.0]);
    let minimum = prop::sample::select(vec![0.0, 1.0, 25.0, 250.0]);
    let step = prop::sample::select(vec![-1i64, 0, 1, 5, 1_048_576]);
    ([fraction.clone(), fraction.clone(), fraction], minimum.clone(), minimum, step, any::<bool>()).prop_map(
        |([target, lower, upper], cpu, memory, step, humanize_memory)| {
            let mut config = Config {
                pod_min_cpu_millicores: cpu,
                pod_min_memory_mib: memory,
                round_cpu_millicores: step,
                round_memory_bytes: step,
                humanize_memory,
                ..Config::default()
            };
            for resource in [&mut config.cpu, &mut config.memory] {
                resource.target = target;
                resource.lower_bound = lower;
                resource.upper_bound = upper;
            }
            config
        },
    )
}

/// The amounts of a recommendation by container, list and resource.
fn amounts(recommendation: &RecommendedPodResources) -> BTreeMap<String, String> {
    let mut amounts = BTreeMap::new();
    for container in recommendation.container_recommendations.iter().flatten() {
        let name = container.container_name.as_deref().unwrap();
        let lists = [
            ("target", Some(&container.target)),
            ("lower", container.lower_bound.as_ref()),
            ("upper", container.upper_bound.as_ref()),
            ("uncapped", container.uncapped_target.as_ref()),
        ];
        for (list, content) in lists {
            for (resource, amount) in content.into_iter().flatten() {
                amounts.insert(format!("{name} {list} {resource}"), amount.to_string());
            }
        }
    }
    amounts
}

fn check_same(
    before: &BTreeMap<String, Vec<String>>,
    after: &RecommendedPodResources,
    when: &str,
) -> Result<(), TestCaseError> {
    let after = amounts(after);
    prop_assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{}", when);
    for (amount, text) in &after {
        prop_assert!(before[amount].contains(text), "{when}: {amount}: {:?} became {text}", before[amount]);
    }
    Ok(())
}

fn check_fit(recommendation: &RecommendedPodResources) -> Result<(), TestCaseError> {
    let positive = |list: &ResourceList| list.values().all(|quantity| quantity.signum() > 0);
    for container in recommendation.container_recommendations.iter().flatten() {
        let empty = ResourceList::new();
        let lower = container.lower_bound.as_ref().unwrap_or(&empty);
        let upper = container.upper_bound.as_ref().unwrap_or(&empty);
        prop_assert!(positive(&container.target), "{container:?}");
        prop_assert!(positive(lower) && positive(upper), "{container:?}");
        prop_assert!(container.uncapped_target.as_ref().is_none_or(positive), "{container:?}");
        for (resource, target) in &container.target {
            let bound = |list: &ResourceList| list.get(resource).cloned();
            prop_assert!(bound(lower).is_some_and(|lower: Quantity| lower <= *target), "{container:?}");
            prop_assert!(bound(upper).is_some_and(|upper: Quantity| upper >= *target), "{container:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_published_is_never_zero_and_always_in_order(
        events in prop::collection::vec(event(), 0..60),
        policies in policies(),
        config in config(),
    ) {
        let mut life = Life::new(policies, config);
        check_fit(&life.recommend())?;
        for event in &events {
            life.apply(event);
        }
        check_fit(&life.recommend())?;
    }

    #[test]
    fn a_restart_alone_changes_nothing(
        events in prop::collection::vec(event(), 0..80),
        pause in prop_oneof![Just(0i64), 1..100_000i64],
    ) {
        let mut life = Life::new(json!([]), Config::default());
        let mut last = None;
        // What garbage collection has dropped is dropped with or without a restart.
        for event in events.iter().filter(|event| !matches!(event, Event::Collect)) {
            life.apply(event);
            match event {
                Event::Usage { pod, .. } => last = Some((event.clone(), *pod, life.now)),
                Event::Replace { pod } => last = last.filter(|(_, of, _)| of != pod),
                _ => {}
            }
        }
        let checkpoints = life.checkpoints();
        life.now += SignedDuration::from_secs(pause);
        let before = life.possible();
        life.restart(&checkpoints);
        check_same(&before, &life.recommend(), "restart")?;
        // The metrics API still shows the sample that was counted before.
        if let Some((event, _, time)) = last {
            let now = std::mem::replace(&mut life.now, time);
            life.apply(&event);
            life.now = now;
            check_same(&before, &life.recommend(), "a sample counted twice")?;
        }
        let again = life.checkpoints();
        life.restart(&again);
        check_same(&before, &life.recommend(), "second restart")?;
    }

    #[test]
    fn totals_follow_from_the_buckets(
        ops in prop::collection::vec((0..4u8, 0..12usize, 0.0..3.0f64, 0..4_000_000i64), 0..60),
    ) {
        let values = [0.0, 1e6, 1.1e7, 3e7, 1e8, 5e8, 1e9, 2e9, 1e10, 1e11, 1e12, 1e15];
        let new = || DecayingHistogram::new(&buckets::MEMORY, SignedDuration::from_hours(1));
        let (mut histogram, mut other) = (new(), new());
        for (kind, value, weight, second) in ops {
            let time = Timestamp::from_second(START + second).unwrap();
            match kind {
                0 | 1 => { histogram.add(values[value], weight, time); }
                2 => histogram.subtract_held(values[value], weight, time),
                _ => {
                    other.add(values[value], weight, time);
                    histogram.merge(&mut other);
                }
            }
            let sum: f64 = histogram.weights().map(|(_, weight)| weight).sum();
            let close = (sum - histogram.total()).abs() <= 1e-6 * sum.max(1.0) + 176.0 * buckets::EPSILON;
            prop_assert!(close, "{sum} {}", histogram.total());
        }
    }
}

#[test]
fn a_checkpoint_of_the_go_suite_is_read_without_the_detail() {
    let mut life = Life::new(json!([]), Config::default());
    for n in 0..20 {
        life.apply(&Event::Usage {
            pod: 0,
            container: 0,
            millicores: Some(100 + n),
            bytes: Some(1_000_000_000 + n * 1_000_000),
        });
        life.apply(&Event::Wait { seconds: 60 });
    }
    let before = life.recommend();
    let mut checkpoints = life.checkpoints();
    life.restart(&checkpoints);
    assert_eq!(life.recommend(), before);
    // A later status with the annotation of an earlier one, as when the other suite ran in between.
    for checkpoint in &mut checkpoints {
        if let Some(status) = &mut checkpoint.status {
            status.last_update_time = Some((life.now + SignedDuration::from_secs(1)).into());
        }
    }
    life.restart(&checkpoints);
    let target = |recommendation: &RecommendedPodResources| {
        recommendation.container_recommendations.clone().unwrap()[0].target.clone()
    };
    let after = target(&life.recommend());
    assert_eq!(after["cpu"], target(&before)["cpu"]);
    assert_eq!(
        after["memory"].to_string(),
        "125Mi",
        "the open peak is not in the status, as in the Go suite"
    );
}

#[test]
fn an_unreadable_detail_is_passed_over_and_a_broken_status_is_refused() {
    let mut life = Life::new(json!([]), Config::default());
    life.apply(&Event::Usage { pod: 0, container: 0, millicores: Some(100), bytes: Some(1_000_000_000) });
    let good = life.checkpoints().remove(0);
    for text in ["", "{}", "[]", r#"{"at":1}"#] {
        let mut checkpoint = good.clone();
        checkpoint.metadata.annotations = Some([(DETAIL_ANNOTATION.to_owned(), text.to_owned())].into());
        life.restart(&[checkpoint]);
    }
    let mut broken = good.clone();
    let status = broken.status.get_or_insert_with(Default::default);
    status.cpu_histogram.bucket_weights.insert(500, 1);
    let error = life.state.apply(Observation::Checkpoint(&broken), life.now).unwrap_err().to_string();
    assert_eq!(error, "status.cpuHistogram: bucketWeights names bucket 500, but there are 176 buckets");
    let mut other = good;
    other.status.get_or_insert_with(Default::default).version = Some("v4".to_owned());
    let error = life.state.apply(Observation::Checkpoint(&other), life.now).unwrap_err().to_string();
    assert_eq!(error, r#"status.version is "v4", but only "v3" can be read"#);
}

#[test]
fn unchanged_checkpoints_and_statuses_are_not_planned_again() {
    let mut life = Life::new(json!([]), Config::default());
    life.apply(&Event::Usage { pod: 0, container: 0, millicores: Some(100), bytes: Some(1_000_000_000) });
    let first = plan(&mut life.state, &life.config, life.now);
    assert_eq!((first.statuses.len(), first.checkpoint_writes.len()), (1, 2));
    for write in &first.checkpoint_writes {
        life.state.checkpoint_written(&write.vpa, &write.container, write.content, life.now);
    }
    let mut next = (*life.vpa).clone();
    next.status = Some(first.statuses[0].status.clone());
    life.vpa = Arc::new(next);
    life.put_vpa();
    life.now += SignedDuration::from_secs(60);
    let second = plan(&mut life.state, &life.config, life.now);
    assert_eq!((second.statuses.len(), second.checkpoint_writes.len()), (0, 0));
    life.apply(&Event::Usage { pod: 0, container: 0, millicores: Some(900), bytes: None });
    let third = plan(&mut life.state, &life.config, life.now);
    assert_eq!((third.statuses.len(), third.checkpoint_writes.len()), (1, 1));
}

#[test]
fn a_missing_target_keeps_history_for_the_grace_time() {
    let mut life = Life::new(json!([]), Config::default());
    life.apply(&Event::Usage { pod: 0, container: 0, millicores: Some(800), bytes: Some(1_000_000_000) });
    let before = life.recommend();
    let set = |life: &mut Life, target: Target| {
        life.state.apply(Observation::Vpa(life.vpa.clone(), target), life.now).unwrap();
    };
    let gone = || Target::Gone("Deployment n/d does not exist".to_owned());
    set(&mut life, gone());
    life.now += SignedDuration::from_mins(9);
    set(&mut life, gone());
    assert_eq!(life.recommend(), before);
    life.now += SignedDuration::from_mins(1);
    set(&mut life, gone());
    assert_eq!(life.recommend(), RecommendedPodResources::default());
    life.put_vpa();
    assert_eq!(life.recommend(), before, "the pods' own history is still there");
    // A failing look-up proves nothing, however long it lasts.
    set(&mut life, Target::Failed("timeout".to_owned()));
    life.now += SignedDuration::from_hours(20);
    set(&mut life, Target::Failed("timeout".to_owned()));
    assert_eq!(life.recommend(), before);
}

#[test]
fn an_unknown_target_leaves_what_is_published() {
    let mut life = Life::new(json!([]), Config::default());
    life.apply(&Event::Usage { pod: 0, container: 0, millicores: Some(800), bytes: Some(1_000_000_000) });
    let published = life.recommend();
    let mut next = (*life.vpa).clone();
    next.status = Some(VerticalPodAutoscalerStatus {
        recommendation: Some(published.clone()),
        ..VerticalPodAutoscalerStatus::default()
    });
    let vpa = Arc::new(next);
    for target in [Target::Pending, Target::Failed("timeout".to_owned()), Target::Gone("gone".to_owned())] {
        let mut state = ClusterState::new(Settings::default());
        let pending = target == Target::Pending;
        state.apply(Observation::Vpa(vpa.clone(), target), life.now).unwrap();
        let plan = plan(&mut state, &life.config, life.now);
        match plan.statuses.first() {
            None => assert!(pending),
            Some(write) => assert_eq!(write.status.recommendation.as_ref(), Some(&published)),
        }
    }
}

#[test]
fn an_oom_kill_is_taken_once_even_after_a_restart() {
    let mut life = Life::new(json!([]), Config::default());
    let oom = |life: &Life, first_sight| Oom {
        container: life.container(0, 0),
        time: Timestamp::from_second(START).unwrap(),
        requested_bytes: 1_000_000_000,
        first_sight,
    };
    let kill = oom(&life, false);
    life.state.apply(Observation::Oom(&kill), life.now).unwrap();
    assert!(life.state.apply(Observation::Oom(&kill), life.now).is_err(), "the same kill again");
    life.now += SignedDuration::from_secs(30);
    let before = life.recommend();
    let mut checkpoints = life.checkpoints();
    life.restart(&checkpoints);
    let seen = oom(&life, true);
    assert!(life.state.apply(Observation::Oom(&seen), life.now).is_err(), "part of the history");
    assert_eq!(life.recommend(), before);
    // Also when the history comes from the Go suite, which does not tell.
    for checkpoint in &mut checkpoints {
        checkpoint.metadata.annotations = None;
    }
    life.restart(&checkpoints);
    assert!(
        life.state.apply(Observation::Oom(&seen), life.now).is_err(),
        "before the checkpoint was written"
    );
    let later = Oom { time: life.now + SignedDuration::from_secs(5), ..seen };
    life.state.apply(Observation::Oom(&later), life.now).unwrap();
}
