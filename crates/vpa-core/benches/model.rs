//! How long the model's steps take: `make microbench`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use divan::{Bencher, black_box};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use vpa_api::pod::Pod;
use vpa_api::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};
use vpa_core::model::histogram::DecayingHistogram;
use vpa_core::model::history::History;
use vpa_core::model::{
    ClusterState, ContainerId, Observation, ObservedPod, Settings, Target, VpaId, buckets,
};
use vpa_core::recommend::{Config, plan};
use vpa_core::target::Selector;

const START: i64 = 1_800_000_000;

/// Pods of each VPA.
const PODS: usize = 2;

fn main() {
    divan::main();
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_second(START + second as i64).unwrap()
}

/// Usage of a container at a minute: a daily shape with noise, in cores.
fn usage(minute: usize) -> f64 {
    let day = (minute % 1440) as f64 / 1440.0 * std::f64::consts::TAU;
    let noise = (minute.wrapping_mul(2_654_435_761) % 1000) as f64 / 1000.0;
    0.5 + 0.3 * day.sin() + 0.2 * noise
}

/// A histogram after eight days with a sample each minute.
fn full_histogram() -> DecayingHistogram {
    let mut histogram = DecayingHistogram::new(&buckets::CPU, SignedDuration::from_hours(24));
    for minute in 0..8 * 1440 {
        histogram.add(usage(minute), 0.1, at(minute * 60));
    }
    histogram
}

#[divan::bench]
fn add_a_sample(bencher: Bencher) {
    let (mut histogram, mut minute) = (full_histogram(), 8 * 1440);
    bencher.bench_local(|| {
        minute += 1;
        histogram.add(black_box(usage(minute)), 0.1, at(minute * 60))
    });
}

#[divan::bench(args = [0.5, 0.9, 0.95])]
fn read_a_percentile(bencher: Bencher, percentile: f64) {
    let histogram = full_histogram();
    bencher.bench_local(|| histogram.percentile(black_box(percentile)));
}

/// A cluster of so many VPAs, in namespaces of 100, whose pods have used something for a while.
struct World {
    state: ClusterState,
    ids: Vec<VpaId>,
    now: Timestamp,
}

impl World {
    fn new(vpas: usize, minutes: usize) -> Self {
        let mut state = ClusterState::new(Settings::default());
        let (mut ids, mut containers) = (Vec::new(), Vec::new());
        let mut take = |observation: Observation<'_>, now| state.apply(observation, now).unwrap();
        for number in 0..vpas {
            let (namespace, name) = (format!("n{:03}", number / 100), format!("app-{number}"));
            let labels = BTreeMap::from([("app".to_owned(), name.clone())]);
            let vpa: VerticalPodAutoscaler = serde_json::from_value(json!({
                "metadata": { "namespace": namespace, "name": name, "uid": name, "generation": 1 },
                "spec": { "targetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name } },
            }))
            .unwrap();
            let target = Target::Found(Selector::from_label_map(Some(&labels)).unwrap());
            ids.push(VpaId::of_vpa(&vpa));
            take(Observation::Vpa(Arc::new(vpa), target), at(0));
            for pod in 0..PODS {
                let pod_name = format!("{name}-{pod}");
                let pod: Pod = serde_json::from_value(json!({
                    "metadata": { "namespace": namespace, "name": pod_name, "labels": labels },
                    "spec": { "containers": [{ "name": "app" }] },
                    "status": { "phase": "Running" },
                }))
                .unwrap();
                take(Observation::Pod(&ObservedPod::from(&pod)), at(0));
                containers.push(ContainerId::new(&namespace, &pod_name, "app"));
            }
        }
        for minute in 1..=minutes {
            let time = at(minute * 60);
            for (number, container) in containers.iter().enumerate() {
                let millicores = (usage(minute + number) * 1000.0) as i64;
                let bytes = (usage(minute + number) * 1e9) as i64;
                take(Observation::Cpu { container, time, millicores }, time);
                take(Observation::Memory { container, time, bytes }, time);
            }
        }
        state.take_quality();
        Self { state, ids, now: at(minutes * 60) }
    }

    /// The checkpoint of the first VPA.
    fn checkpoint(&mut self) -> VerticalPodAutoscalerCheckpoint {
        let Self { state, ids, now } = self;
        let (container, _) = state.aggregates_of(&ids[0], *now).pop_first().unwrap();
        state.checkpoint(&ids[0], &container, *now).unwrap()
    }
}

#[divan::bench(args = [1000, 10_000], sample_count = 10)]
fn plan_a_cycle(bencher: Bencher, vpas: usize) {
    let mut world = World::new(vpas, 10);
    let config = Config::default();
    bencher.bench_local(|| plan(&mut world.state, &config, world.now));
}

#[divan::bench]
fn encode_a_checkpoint(bencher: Bencher) {
    let mut world = World::new(1, 8 * 1440);
    bencher.bench_local(|| serde_json::to_vec(&world.checkpoint()).unwrap());
}

#[divan::bench]
fn decode_a_checkpoint(bencher: Bencher) {
    let mut world = World::new(1, 8 * 1440);
    let text = serde_json::to_vec(&world.checkpoint()).unwrap();
    let settings = Settings::default();
    bencher.bench_local(|| {
        let checkpoint: VerticalPodAutoscalerCheckpoint = serde_json::from_slice(black_box(&text)).unwrap();
        History::from_checkpoint(&checkpoint, &settings, world.now).unwrap()
    });
}
