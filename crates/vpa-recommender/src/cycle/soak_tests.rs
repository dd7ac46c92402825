//! Days of rollouts, on the embedded API server and on simulated time: what the program holds stays as much as it was.
//!
//! Each rollout replaces the ten pods of a workload by ten with a label set of their own. With 20,160 of them in a week,
//! whatever is kept for a label set, a pod or a name that is gone shows.
//!
//! `make soak` lets a week pass, alone in its process, and looks at the bytes on the heap as well.

use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::join_all;
use kube::api::{Api, DeleteParams};
use peak_alloc::PeakAlloc;
use vpa_api::pod::Pod;

use super::testbed::{NAMESPACE, Testbed, pod_labels, pod_object, sample, vpa_name};
use super::*;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const START: i64 = 1_700_000_000;

/// Seconds of simulated time.
static CLOCK: AtomicI64 = AtomicI64::new(START);

fn clock() -> Timestamp {
    Timestamp::from_second(CLOCK.load(Ordering::SeqCst)).unwrap()
}

const WORKLOADS: usize = 10;
const REPLICAS: usize = 10;
const SECONDS_PER_ROLLOUT: i64 = 30;
const ROLLOUTS_PER_CYCLE: usize = 2;
const CYCLES_PER_HOUR: usize = 60;

/// Label sets without pods that may be there at most: as many as are kept apart, and those of the hour until the next
/// collection of garbage, and one of each workload into which the others were put.
const IDLE_MAX: usize = 100 + CYCLES_PER_HOUR * ROLLOUTS_PER_CYCLE + WORKLOADS;

/// By how much the heap may be larger than after the first day.
const GROWTH_MAX: f64 = 1.05;

/// What the program holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    pods: usize,
    aggregates: usize,
    heap: usize,
}

struct Soak {
    bed: Testbed,
    cycle: Cycle,
    rollouts: usize,
    /// Names of the pods of each workload.
    pods: Vec<Vec<String>>,
}

impl Soak {
    async fn new() -> Self {
        let bed = Testbed::new(WORKLOADS, clock).await;
        bed.shows(&[]).await;
        let mut cycle = bed.cycle();
        assert!(cycle.restore(&CancellationToken::new()).await);
        let mut soak = Self { bed, cycle, rollouts: 0, pods: vec![Vec::new(); WORKLOADS] };
        for workload in 0..WORKLOADS {
            soak.roll_out(workload).await;
        }
        soak
    }

    async fn roll_out(&mut self, workload: usize) {
        self.rollouts += 1;
        let hash = format!("{:09x}", self.rollouts * 0x9E_3779);
        let mut labels = pod_labels(workload);
        labels.insert("pod-template-hash".to_owned(), hash.clone());
        let fresh: Vec<_> =
            (0..REPLICAS).map(|number| format!("{}-{hash}-{number}", vpa_name(workload))).collect();
        join_all(fresh.iter().map(|name| self.bed.create_pod(pod_object(name, &labels)))).await;
        let api: Api<Pod> = Api::namespaced(self.bed.cluster.client.clone(), NAMESPACE);
        let old = std::mem::replace(&mut self.pods[workload], fresh);
        let at_once = DeleteParams::default().grace_period(0);
        join_all(old.iter().map(|name| async { api.delete(name, &at_once).await.unwrap() })).await;
    }

    async fn minute(&mut self) {
        for _ in 0..ROLLOUTS_PER_CYCLE {
            CLOCK.fetch_add(SECONDS_PER_ROLLOUT, Ordering::SeqCst);
            self.roll_out(self.rollouts % WORKLOADS).await;
        }
        let now = clock();
        let mut samples = Vec::new();
        for (workload, pods) in self.pods.iter().enumerate() {
            for (number, pod) in pods.iter().enumerate() {
                // Anything that differs from pod to pod and from minute to minute.
                let phase = (now.as_second() / 60 + (workload * 7 + number * 3) as i64) % 100;
                samples.push(sample(pod, workload, now, (200 + phase * 5, (300 + phase) << 20)));
            }
        }
        self.bed.server.metrics().replace(samples);
        let names: Vec<_> = self.pods.iter().flatten().map(String::as_str).collect();
        self.bed.shows(&names).await;
        let never = CancellationToken::new();
        self.cycle.run(&never, &never).await;
    }

    fn held(&self) -> Held {
        let state = &self.cycle.state;
        Held { pods: state.pod_count(), aggregates: state.aggregate_count(), heap: HEAP.current_usage() }
    }
}

/// Resident memory in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soak_under_rollouts_shows_a_flat_line() {
    let hours = std::env::var("SOAK_HOURS").ok().map(|text| text.parse::<usize>().expect("a whole number"));
    // In the shorter one, other tests run beside this one and share the heap.
    let (hours, alone) = hours.map_or((2, false), |hours| (hours, true));
    let mut soak = Soak::new().await;
    let mut after_a_day = None;
    println!("hour  rollouts  pods  histories   heap MB  resident MB");
    for hour in 1..=hours {
        for _ in 0..CYCLES_PER_HOUR {
            soak.minute().await;
        }
        let held = soak.held();
        if hour % 6 == 0 || hour == hours {
            println!(
                "{hour:4} {:9} {:5} {:10} {:9.2} {:12.1}",
                soak.rollouts,
                held.pods,
                held.aggregates,
                held.heap as f64 / 1e6,
                resident() as f64 / 1e6
            );
        }
        assert_eq!(held.pods, WORKLOADS * REPLICAS, "hour {hour}");
        assert!(held.aggregates <= WORKLOADS + IDLE_MAX, "hour {hour}: {held:?}");
        if hour >= 24 && alone {
            let first = *after_a_day.get_or_insert(held.heap);
            assert!((held.heap as f64) < first as f64 * GROWTH_MAX, "hour {hour}: {held:?}, once {first}");
        }
    }
    let vpas = soak.bed.stores.0.snapshot();
    let recommended =
        vpas.iter().filter(|vpa| vpa.status.as_ref().is_some_and(|s| s.recommendation.is_some()));
    assert_eq!(recommended.count(), WORKLOADS);
}
