//! The program killed at any moment, hundreds of times, on the embedded API server and on simulated time.
//!
//! What is checked is read from the API server, by code that decides nothing: that no recommendation vanishes, that none
//! has a zero or bounds on the wrong side, that a kill costs no more than ten minutes of samples, and that after the last
//! one all is as if there had been none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use kube::api::{Api, ListParams};
use tokio::sync::mpsc;
use vpa_api::{Quantity, VerticalPodAutoscalerCheckpoint};
use vpa_core::model::{ContainerId, Observation, ObservedPod, Settings};
use vpa_core::recommend::Config;

use super::testbed::{Testbed, pod_labels, pod_object, sample, vpa_name, vpa_object};
use super::*;

const START: i64 = 1_700_000_000;

/// Seconds of simulated time.
static CLOCK: AtomicI64 = AtomicI64::new(START);

fn clock() -> Timestamp {
    Timestamp::from_second(CLOCK.load(Ordering::SeqCst)).unwrap()
}

const VPAS: usize = 3;
const PODS: usize = 2;
/// What a kill may cost.
const LOSS_MAX: i64 = 600;

/// Small and the same for each seed; nothing here has to be hard to guess.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Samples that a program has in its model, by VPA.
type Counts = BTreeMap<String, i64>;

struct Bed {
    bed: Testbed,
    /// All usage there was: what a program that was never killed would have.
    reference: ClusterState,
}

impl Bed {
    async fn new() -> Self {
        let bed = Testbed::new(VPAS, clock).await;
        let mut reference = ClusterState::new(Settings::default());
        for vpa in 0..VPAS {
            let selector = vpa_core::target::Selector::parse(&format!("app={}", vpa_name(vpa))).unwrap();
            let object = Arc::new(serde_json::from_value(vpa_object(vpa)).unwrap());
            let observation = Observation::Vpa(object, vpa_core::model::Target::Found(selector));
            reference.apply(observation, clock()).unwrap();
            for number in 0..PODS {
                let pod = pod_object(&pod_name(vpa, number), &pod_labels(vpa));
                bed.create_pod(pod.clone()).await;
                let observed: ObservedPod = serde_json::from_value(pod).unwrap();
                reference.apply(Observation::Pod(&observed), clock()).unwrap();
            }
        }
        let pods: Vec<_> = (0..VPAS * PODS).map(|pod| pod_name(pod / PODS, pod % PODS)).collect();
        bed.shows(&pods.iter().map(String::as_str).collect::<Vec<_>>()).await;
        Self { bed, reference }
    }

    /// A program: each message makes it go through a cycle, after which it says what it has.
    fn live(&self) -> (tokio::task::JoinHandle<()>, mpsc::Sender<()>, mpsc::Receiver<Counts>) {
        let mut cycle = self.bed.cycle();
        let (go, mut went) = mpsc::channel(1);
        let (done, dones) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let never = CancellationToken::new();
            assert!(cycle.restore(&never).await);
            if done.send(cycle.counts()).await.is_err() {
                return;
            }
            while went.recv().await.is_some() {
                cycle.run(&never, &never).await;
                if done.send(cycle.counts()).await.is_err() {
                    return;
                }
            }
        });
        (task, go, dones)
    }

    /// A minute passes, with usage that wanders.
    fn minute(&mut self, random: &mut Random) {
        CLOCK.fetch_add(60, Ordering::SeqCst);
        let mut samples = Vec::new();
        for vpa in 0..VPAS {
            for number in 0..PODS {
                let pod = pod_name(vpa, number);
                let millicores = 200 + random.below(400) as i64;
                let bytes = (300 + random.below(200) as i64) << 20;
                let (container, time) = (&ContainerId::new("default", &pod, "c"), clock());
                for observation in [
                    Observation::Cpu { container, time, millicores },
                    Observation::Memory { container, time, bytes },
                ] {
                    self.reference.apply(observation, time).unwrap();
                }
                samples.push(sample(&pod, vpa, clock(), (millicores, bytes)));
            }
        }
        self.bed.server.metrics().replace(samples);
    }

    async fn check(&self, what: &str) {
        let vpas: Api<VerticalPodAutoscaler> = Api::namespaced(self.bed.cluster.client.clone(), "default");
        for vpa in vpas.list(&ListParams::default()).await.unwrap() {
            let name = vpa.metadata.name.clone().unwrap();
            let recommendation = vpa.status.and_then(|status| status.recommendation);
            let containers = recommendation.and_then(|r| r.container_recommendations).unwrap_or_default();
            assert_eq!(containers.len(), 1, "{what}: {name} lost its recommendation");
            for container in containers {
                let [lower, upper] =
                    [&container.lower_bound, &container.upper_bound].map(|list| list.clone().unwrap());
                for resource in ["cpu", "memory"] {
                    let amounts = [&lower, &container.target, &upper].map(|list| list[resource].clone());
                    let [low, target, high] = &amounts;
                    assert!(
                        low.signum() > 0 && low <= target && target <= high,
                        "{what}: {name} {amounts:?}"
                    );
                }
            }
        }
    }

    async fn saved(&self) -> Counts {
        let api: Api<VerticalPodAutoscalerCheckpoint> =
            Api::namespaced(self.bed.cluster.client.clone(), "default");
        let all = api.list(&ListParams::default()).await.unwrap().items.into_iter();
        all.map(|checkpoint| {
            let count = checkpoint.status.map_or(0, |status| status.total_samples_count);
            (checkpoint.spec.vpa_object_name.unwrap_or_default(), count)
        })
        .collect()
    }
}

impl Cycle {
    fn counts(&mut self) -> Counts {
        let ids: Vec<_> = self.state.vpas().map(|(id, _)| id).collect();
        let mut count = |id: &VpaId| self.state.aggregates_of(id, clock()).values().map(|a| a.samples).sum();
        ids.iter().map(|id| (id.name.to_string(), count(id))).collect()
    }
}

fn pod_name(vpa: usize, number: usize) -> String {
    format!("{}-{number}", vpa_name(vpa))
}

/// What is known of the samples of a VPA over time, along the line of programs that went on from one another.
#[derive(Default)]
struct Line(Vec<(i64, i64)>);

impl Line {
    fn note(&mut self, count: i64) {
        self.0.push((clock().as_second(), count));
    }

    /// Goes on from a checkpoint with so many samples; says what is wrong with that.
    fn restart(&mut self, saved: i64) -> Result<(), String> {
        let now = clock().as_second();
        let old =
            self.0.iter().rev().find(|(time, _)| *time <= now - LOSS_MAX).map_or(0, |(_, count)| *count);
        if saved < old {
            return Err(format!("{saved} samples are saved, there were {old} ten minutes ago: {:?}", self.0));
        }
        self.0.retain(|(_, count)| *count <= saved);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_at_any_moment_loses_ten_minutes_at_most_and_needs_no_hand() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (kills, seed) = (number("KILLS", 300), number("SEED", 1));
    eprintln!("repeat with: KILLS={kills} SEED={seed} cargo test -p vpa-recommender killed_at_any_moment");
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut bed = Bed::new().await;
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    for kill in 0..=kills {
        let what = format!("kill {kill} of seed {seed}");
        let (task, go, mut dones) = bed.live();
        let last = kill == kills;
        // Some die while they restore, most within minutes, some after longer than a checkpoint may wait.
        let minutes = match random.below(8) {
            _ if last || kill == 0 => 15,
            0 => 0,
            1 => 12 + random.below(20),
            _ => 1 + random.below(5),
        };
        let restored = if minutes > 0 { dones.recv().await.expect("it restores") } else { Counts::new() };
        for (vpa, count) in &restored {
            let line = lines.entry(vpa.clone()).or_default();
            line.restart(*count).unwrap_or_else(|error| panic!("{what}, {vpa}: {error}"));
        }
        for _ in 0..minutes {
            bed.minute(&mut random);
            go.send(()).await.unwrap();
            for (vpa, count) in dones.recv().await.expect("it goes through a cycle") {
                lines.entry(vpa).or_default().note(count);
            }
            bed.check(&what).await;
        }
        if last {
            task.abort();
            break;
        }
        if minutes > 0 {
            bed.minute(&mut random);
            go.send(()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_micros(random.below(12_000))).await;
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()) || minutes > 0, "{what}");
        if kill > 0 {
            bed.check(&what).await;
        }
        for (vpa, saved) in bed.saved().await {
            let all = (clock().as_second() - START) / 60 * PODS as i64;
            assert!(saved <= all, "{what}: {vpa} has {saved} samples of {all}");
        }
    }
    // All that was not lost is there, and recommends what all that there was does.
    let exact = plan(&mut bed.reference, &Config::default(), clock());
    let now: BTreeMap<_, _> =
        bed.bed.stores.0.snapshot().iter().map(|vpa| (VpaId::of_vpa(vpa), vpa.status.clone())).collect();
    for write in exact.statuses {
        let amount = |status: &vpa_api::vpa::VerticalPodAutoscalerStatus, resource: &str| -> Quantity {
            let containers = status.recommendation.clone().unwrap().container_recommendations.unwrap();
            containers[0].target[resource].clone()
        };
        for resource in ["cpu", "memory"] {
            let want = amount(&write.status, resource).as_f64();
            let got = amount(now[&write.vpa].as_ref().unwrap(), resource).as_f64();
            assert!((got / want - 1.0).abs() < 0.11, "{}: {resource} {got}, unkilled {want}", write.vpa);
        }
    }
    assert!(SignedDuration::from_secs(clock().as_second() - START) > SignedDuration::from_hours(1));
}
