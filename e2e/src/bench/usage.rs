//! Usage that wanders: each pod has a level, a daily shape around it, and a walk of its own.

use std::f64::consts::TAU;
use std::time::Duration;

use jiff::Timestamp;
use vpa_sim::metrics_api::PodSample;

use super::fleet::{CONTAINER, Fleet};

/// Seed of all walks, so that every program sees the same usage.
pub const SEED: u64 = 7;

/// How far a walk of CPU usage goes in one step, as a fraction of the level. It comes to a usage that lies within a tenth
/// of its level two thirds of the time, and within a third of it nearly always.
const CPU_STEP: f64 = 0.15;

/// The same of memory, which services hold on to.
const MEMORY_STEP: f64 = 0.04;

/// Part of its distance from the level that a walk keeps with each step, so that it does not leave for good.
const KEPT: f64 = 0.9;

/// Height of the daily shape, as a fraction of the level.
const DAILY: f64 = 0.3;

const DAY_SECONDS: f64 = 86_400.0;

/// A small generator of random numbers (SplitMix64): a sequence that is the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each `stream`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Evenly between 0 and 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between -1 and 1, mostly near 0.
    pub fn spread(&mut self) -> f64 {
        (self.fraction() + self.fraction() + self.fraction()) * 2.0 / 3.0 - 1.0
    }

    /// Between `low` and `high`, evenly on a logarithmic scale: small workloads are more frequent than large ones.
    pub fn magnitude(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.fraction())
    }
}

/// The walk of one pod.
#[derive(Clone, Debug)]
struct Walk {
    random: Random,
    cpu_level: f64,
    memory_level: f64,
    /// When its day begins.
    phase: f64,
    cpu: f64,
    memory: f64,
}

/// Millicores and bytes.
pub type Amounts = (i64, i64);

/// The usage of all pods of a fleet.
#[derive(Clone, Debug)]
pub struct Wander {
    walks: Vec<Walk>,
}

impl Wander {
    /// One walk for each of `pods` pods, of which `siblings` in turn have one level.
    pub fn new(pods: usize, siblings: usize) -> Self {
        let walk = |pod: usize| {
            let mut workload = Random::new(SEED, (pod / siblings.max(1)) as u64);
            Walk {
                cpu_level: workload.magnitude(20.0, 2000.0),
                memory_level: workload.magnitude((64 << 20) as f64, (4u64 << 30) as f64),
                phase: workload.fraction(),
                random: Random::new(SEED + 1, pod as u64),
                cpu: 0.0,
                memory: 0.0,
            }
        };
        Self { walks: (0..pods).map(walk).collect() }
    }

    /// Goes one step on and returns what each pod uses at `now`.
    pub fn step(&mut self, now: Timestamp) -> Vec<Amounts> {
        let day = now.as_second() as f64 / DAY_SECONDS;
        self.walks.iter_mut().map(|walk| walk.step(day)).collect()
    }
}

impl Walk {
    fn step(&mut self, day: f64) -> Amounts {
        self.cpu = self.cpu * KEPT + self.random.spread() * CPU_STEP;
        self.memory = self.memory * KEPT + self.random.spread() * MEMORY_STEP;
        let shape = 1.0 + DAILY * (TAU * (day + self.phase)).sin();
        let cpu = self.cpu_level * shape * (1.0 + self.cpu);
        // Memory follows the day less than CPU does.
        let memory = self.memory_level * (0.75 + 0.25 * shape) * (1.0 + self.memory);
        (cpu.max(1.0) as i64, memory.max(1.0) as i64)
    }
}

/// Usage as metrics-server would tell it.
pub fn samples(fleet: &Fleet, amounts: &[Amounts], now: Timestamp, window: Duration) -> Vec<PodSample> {
    let sample = |(pod, &(cpu, memory)): (usize, &Amounts)| PodSample {
        namespace: fleet.namespace_of_pod(pod),
        name: fleet.pod_name(pod),
        labels: fleet.labels_of_pod(pod),
        timestamp: now,
        window,
        containers: vec![(CONTAINER.to_owned(), cpu, memory)],
    };
    amounts.iter().enumerate().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_wanders_around_its_level_and_is_the_same_each_time() {
        let (mut a, mut b) = (Wander::new(4, 2), Wander::new(4, 2));
        let (level, mut seen) = (a.walks[0].cpu_level, Vec::new());
        for minute in 0..1440 {
            let now = Timestamp::from_second(minute * 60).unwrap();
            let amounts = a.step(now);
            assert_eq!(amounts, b.step(now), "seed {SEED}");
            seen.push(amounts[0]);
        }
        assert_eq!(a.walks[0].cpu_level, a.walks[1].cpu_level);
        assert_ne!(a.walks[1].cpu_level, a.walks[2].cpu_level);
        let changes = seen.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
        assert!(changes > 1400, "memory changes {changes} times in a day");
        let bounds = (level * 0.35) as i64..=(level * 2.0) as i64 + 1;
        assert!(seen.iter().all(|(cpu, _)| bounds.contains(cpu)), "level {level}: {seen:?}");
        let mean = seen.iter().map(|(cpu, _)| *cpu as f64).sum::<f64>() / seen.len() as f64;
        assert!((mean / level - 1.0).abs() < 0.1, "level {level}, mean {mean}");
    }
}
