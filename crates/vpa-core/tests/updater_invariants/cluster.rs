//! Clusters to generate. Numbers without a unit are choices.

use proptest::prelude::*;

pub(crate) const MODES: [&str; 3] = ["Recreate", "InPlaceOrRecreate", "InPlace"];

/// Conditions that a resize leaves at a pod.
pub(crate) const CONDITIONS: [Option<(&str, &str)>; 8] = [
    None,
    None,
    None,
    Some(("PodResizePending", "Deferred")),
    Some(("PodResizePending", "Infeasible")),
    Some(("PodResizeInProgress", "")),
    Some(("PodResizeInProgress", "Error")),
    Some(("PodResizePending", "SomethingNew")),
];

/// CPU that the nodes can give to pods, in thousandths; of the third nothing is known.
pub(crate) const NODES: [Option<i64>; 3] = [Some(10_000), Some(150), None];

#[derive(Clone, Debug)]
pub(crate) struct PodSeed {
    pub(crate) pending: bool,
    pub(crate) cpu_m: i64,
    pub(crate) condition: usize,
    pub(crate) node: usize,
    /// Its resize policy asks for a restart.
    pub(crate) asks_for_restart: bool,
    /// It restarts on a resize whatever its policy says.
    pub(crate) restarts: bool,
    /// A PodDisruptionBudget keeps it.
    pub(crate) protected: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) mode: usize,
    pub(crate) replicas: i32,
    pub(crate) pods: Vec<PodSeed>,
}

#[derive(Clone, Debug)]
pub(crate) struct PassSeed {
    /// CPU that is recommended.
    pub(crate) target_m: i64,
    /// Time until the next pass.
    pub(crate) minutes: i64,
    /// By how many each VPA's mode is moved on.
    pub(crate) mode_shift: usize,
    pub(crate) heartbeat: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) tolerance: f64,
    pub(crate) min_replicas: i64,
    pub(crate) rate: f64,
    pub(crate) skip_budget: bool,
    pub(crate) per_hour: u32,
    pub(crate) per_hour_per_vpa: u32,
    pub(crate) step_up: Option<f64>,
    pub(crate) step_down: Option<f64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) settings: Settings,
    pub(crate) passes: Vec<PassSeed>,
    /// New pods get what is recommended.
    pub(crate) webhook: bool,
    /// Answers of the API server, what the kubelets do, and which of the steps under way comes back next; each used in
    /// a circle.
    pub(crate) answers: Vec<u8>,
    pub(crate) kubelets: Vec<usize>,
    pub(crate) order: Vec<usize>,
}

fn pod() -> impl Strategy<Value = PodSeed> {
    (
        prop::bool::weighted(0.15),
        prop_oneof![Just(50_i64), Just(100), Just(300)],
        0..CONDITIONS.len(),
        0..NODES.len(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(pending, cpu_m, condition, node, asks_for_restart, restarts, protected)| PodSeed {
            pending,
            cpu_m,
            condition,
            node,
            asks_for_restart,
            restarts,
            protected,
        })
}

fn workload() -> impl Strategy<Value = Workload> {
    (0..MODES.len(), 1..8_i32, prop::collection::vec(pod(), 1..7))
        .prop_map(|(mode, replicas, pods)| Workload { mode, replicas, pods })
}

fn settings() -> impl Strategy<Value = Settings> {
    (
        prop_oneof![Just(0.0), Just(0.25), Just(0.5), Just(1.0)],
        0..4_i64,
        prop_oneof![3 => Just(-1.0), 1 => Just(0.5), 1 => Just(5.0)],
        any::<bool>(),
        prop_oneof![2 => Just(0_u32), 2 => 1..6_u32],
        prop_oneof![2 => Just(0_u32), 2 => 1..4_u32],
        prop::option::of(prop_oneof![Just(0.25), Just(0.8)]),
        prop::option::of(prop_oneof![Just(0.2), Just(0.5)]),
    )
        .prop_map(
            |(tolerance, min_replicas, rate, skip_budget, per_hour, per_hour_per_vpa, step_up, step_down)| {
                Settings {
                    tolerance,
                    min_replicas,
                    rate,
                    skip_budget,
                    per_hour,
                    per_hour_per_vpa,
                    step_up,
                    step_down,
                }
            },
        )
}

fn pass() -> impl Strategy<Value = PassSeed> {
    (
        prop_oneof![Just(80_i64), Just(100), Just(200), Just(250)],
        prop_oneof![3 => Just(1_i64), 1 => Just(4), 1 => Just(7), 1 => Just(25), 1 => Just(70)],
        prop_oneof![6 => Just(0_usize), 1 => Just(1), 1 => Just(2)],
        prop::bool::weighted(0.9),
    )
        .prop_map(|(target_m, minutes, mode_shift, heartbeat)| PassSeed {
            target_m,
            minutes,
            mode_shift,
            heartbeat,
        })
}

pub(crate) fn cluster() -> impl Strategy<Value = Cluster> {
    (
        prop::collection::vec(workload(), 1..4),
        settings(),
        prop::collection::vec(pass(), 1..8),
        prop::bool::weighted(0.9),
        prop::collection::vec(0..10_u8, 1..12),
        prop::collection::vec(0..10_usize, 1..12),
        prop::collection::vec(0..4_usize, 1..12),
    )
        .prop_map(|(workloads, settings, passes, webhook, answers, kubelets, order)| Cluster {
            workloads,
            settings,
            passes,
            webhook,
            answers,
            kubelets,
            order,
        })
}
