use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::simulate::usage::{UsageClock, UsageRule};

/// A pod on a node, its kubelet, and a clock that is turned by hand.
struct Bench {
    pod: Pod,
    run: PodRun,
    usage: Usage,
    timings: Timings,
    now: Timestamp,
    capacity: Amounts,
    room: Amounts,
    deleted: bool,
}

const MI: i64 = 1024 * 1024;

impl Bench {
    fn new(extra: Value) -> Self {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let mut pod = json!({
            "metadata": {"namespace": "ns", "name": "p", "uid": "u", "resourceVersion": "1", "generation": 1, "annotations": {}},
            "spec": {"nodeName": "n", "restartPolicy": "Always", "containers": [{"name": "app", "image": "x",
                "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"memory": "200Mi"}}}]},
            "status": {"phase": "Pending"},
        });
        json_patch::merge(&mut pod, &extra);
        let all = Amounts { cpu_millis: 4000, memory_bytes: 4096 * MI };
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            run: PodRun::new(now),
            usage: Usage::new(UsageClock { epoch: now, scale: 1.0 }, 1),
            timings: Timings::default(),
            now,
            capacity: all,
            room: all,
            deleted: false,
        }
    }

    /// A pod that runs and is ready.
    fn running(extra: Value) -> Self {
        let mut bench = Self::new(extra);
        bench.pass(1000);
        assert_eq!(bench.status()["phase"], "Running");
        bench
    }

    /// Turns the clock and looks until nothing is left to do, as the loop does.
    fn pass(&mut self, millis: i64) {
        self.now += SignedDuration::from_millis(millis);
        for _ in 0..5 {
            let view = View {
                pod: &self.pod,
                capacity: self.capacity,
                room: self.room,
                usage: &self.usage,
                timings: &self.timings,
                now: self.now,
            };
            match step(&mut self.run, &view) {
                Step::Nothing => return,
                Step::Status(status) => self.pod.status = Some(*status),
                Step::Delete => {
                    self.deleted = true;
                    return;
                }
            }
            let version: u64 = self.pod.metadata.resource_version.as_ref().unwrap().parse().unwrap();
            self.pod.metadata.resource_version = Some((version + 1).to_string());
        }
        panic!("never settles: {:#}", self.status());
    }

    fn change(&mut self, patch: Value) {
        let mut pod = serde_json::to_value(&self.pod).unwrap();
        json_patch::merge(&mut pod, &patch);
        self.pod = serde_json::from_value(pod).unwrap();
        self.pod.metadata.generation = self.pod.metadata.generation.map(|generation| generation + 1);
        self.pod.metadata.resource_version =
            Some(format!("{}0", self.pod.metadata.resource_version.as_ref().unwrap()));
    }

    fn resize(&mut self, resources: Value) {
        let mut container = serde_json::to_value(&self.pod.spec.as_ref().unwrap().containers[0]).unwrap();
        container["resources"] = resources;
        self.change(json!({"spec": {"containers": [container]}}));
    }

    fn script(&mut self, verdict: &str) {
        self.change(json!({"metadata": {"annotations": {super::super::RESIZE: verdict}}}));
    }

    fn uses(&self, memory_mi: i64) {
        self.usage.set(UsageRule {
            namespace: "ns".into(),
            labels: BTreeMap::new(),
            container: None,
            cpu_millis: 10,
            memory_bytes: memory_mi * MI,
        });
    }

    fn status(&self) -> Value {
        serde_json::to_value(&self.pod.status).unwrap()
    }

    fn container(&self) -> Value {
        self.status()["containerStatuses"][0].clone()
    }

    /// `type=status/reason` of the conditions about resizes.
    fn resize_conditions(&self) -> Vec<String> {
        let conditions = self.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let about = conditions.filter(|condition| condition.type_.starts_with("PodResize"));
        about
            .map(|c| format!("{}={}/{}", &c.type_[9..], c.status, c.reason.as_deref().unwrap_or_default()))
            .collect()
    }
}

#[test]
fn a_pod_starts_gets_ready_and_reports_its_resources() {
    let mut bench = Bench::new(json!({"metadata": {"annotations": {"sim.vpa/ready-after": "3s"}}}));
    bench.pass(100);
    assert_eq!(bench.status()["phase"], "Pending");
    bench.pass(300);
    assert_eq!(
        (bench.status()["phase"].as_str(), bench.container()["ready"].as_bool()),
        (Some("Running"), Some(false))
    );
    assert_eq!(bench.container()["resources"]["limits"]["memory"], "200Mi");
    assert_eq!(bench.container()["allocatedResources"]["cpu"], "100m");
    bench.pass(3000);
    assert_eq!(bench.container()["ready"], true);
}

#[test]
fn a_container_over_its_memory_limit_is_killed_and_started_again() {
    let mut bench = Bench::running(json!({}));
    bench.uses(199);
    bench.pass(1000);
    assert_eq!(bench.container()["restartCount"], 0);
    bench.uses(201);
    bench.pass(100);
    let ended = bench.container()["state"]["terminated"].clone();
    assert_eq!((ended["reason"].as_str(), ended["exitCode"].as_i64()), (Some("OOMKilled"), Some(137)));
    bench.uses(50);
    bench.pass(500);
    assert_eq!(bench.container()["restartCount"], 0, "not before the restart delay");
    bench.pass(600);
    assert_eq!(bench.container()["restartCount"], 1);
    assert_eq!(bench.container()["lastState"]["terminated"]["reason"], "OOMKilled");
    assert!(bench.container()["state"]["running"].is_object());
}

#[test]
fn an_oom_kill_can_show_as_running_to_running() {
    let mut bench = Bench::running(json!({"metadata": {"annotations": {"sim.vpa/oom": "direct"}}}));
    bench.usage.set(UsageRule { namespace: "ns".into(), memory_bytes: 300 * MI, ..UsageRule::default() });
    let before = bench.container();
    bench.now += SignedDuration::from_millis(100);
    let view = View {
        pod: &bench.pod,
        capacity: bench.capacity,
        room: bench.room,
        usage: &bench.usage,
        timings: &bench.timings,
        now: bench.now,
    };
    let Step::Status(status) = step(&mut bench.run, &view) else { panic!("nothing happened") };
    let after = &status.container_statuses.as_ref().unwrap()[0];
    assert!(before["state"]["running"].is_object() && after.state.as_ref().unwrap().running.is_some());
    assert_eq!(after.restart_count, 1);
    let last = after.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.reason.as_deref(), last.exit_code), (Some("OOMKilled"), 137));
}

#[test]
fn a_resize_is_allocated_first_and_takes_effect_later() {
    let mut bench = Bench::running(json!({}));
    bench.resize(json!({"requests": {"cpu": "300m", "memory": "100Mi"}, "limits": {"memory": "200Mi"}}));
    bench.pass(100);
    assert_eq!(bench.resize_conditions(), ["InProgress=True/"]);
    assert_eq!(bench.container()["allocatedResources"]["cpu"], "300m");
    assert_eq!(bench.container()["resources"]["requests"]["cpu"], "100m");
    assert_eq!(bench.status()["observedGeneration"], 2);
    bench.pass(500);
    assert_eq!(bench.resize_conditions(), [""; 0]);
    assert_eq!(bench.container()["resources"]["requests"]["cpu"], "300m");
    assert_eq!(bench.container()["restartCount"], 0);
}

#[test]
fn the_resize_policy_decides_on_a_restart() {
    let policy = |resource: &str| {
        json!({"spec": {"containers": [{"name": "app", "image": "x",
            "resizePolicy": [{"resourceName": resource, "restartPolicy": "RestartContainer"}],
            "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}]}})
    };
    for (resource, restarts) in [("cpu", 1), ("memory", 0)] {
        let mut bench = Bench::running(policy(resource));
        bench.resize(json!({"requests": {"cpu": "300m", "memory": "100Mi"}}));
        bench.pass(100);
        bench.pass(600);
        assert_eq!(bench.container()["restartCount"], restarts, "{resource}");
        assert_eq!(bench.container()["resources"]["requests"]["cpu"], "300m", "{resource}");
    }
}

#[test]
fn the_node_decides_what_fits() {
    let cases = [
        ("5", "100Mi", "Pending=True/Infeasible"),
        ("3", "100Mi", "Pending=True/Deferred"),
        ("1", "8Gi", "Pending=True/Infeasible"),
    ];
    for (cpu, memory, expected) in cases {
        let mut bench = Bench::running(json!({"spec": {"containers": [{"name": "app", "image": "x",
            "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}]}}));
        bench.room = Amounts { cpu_millis: 2000, memory_bytes: 1024 * MI };
        bench.resize(json!({"requests": {"cpu": cpu, "memory": memory}}));
        bench.pass(100);
        assert_eq!(bench.resize_conditions(), [expected], "{cpu} {memory}");
        bench.room = bench.capacity;
        bench.pass(100);
        bench.pass(600);
        let fits = expected.ends_with("Deferred");
        assert_eq!(bench.resize_conditions().is_empty(), fits, "{cpu} {memory}: once there is room");
    }
}

#[test]
fn a_script_decides_before_the_node_and_lets_go() {
    for (verdict, expected) in [
        ("deferred", "Pending=True/Deferred"),
        ("infeasible", "Pending=True/Infeasible"),
        ("in-progress", "InProgress=True/"),
        ("error", "InProgress=True/Error"),
    ] {
        let mut bench = Bench::running(json!({}));
        bench.script(verdict);
        bench.resize(json!({"requests": {"cpu": "150m", "memory": "100Mi"}, "limits": {"memory": "200Mi"}}));
        bench.pass(100);
        bench.pass(10_000);
        assert_eq!(bench.resize_conditions(), [expected]);
        assert_eq!(bench.container()["resources"]["requests"]["cpu"], "100m", "{verdict}");
        bench.script("accept");
        bench.pass(100);
        bench.pass(600);
        assert_eq!(bench.resize_conditions(), [""; 0], "{verdict}");
        assert_eq!(bench.container()["resources"]["requests"]["cpu"], "150m", "{verdict}");
    }
}

#[test]
fn a_memory_limit_is_not_lowered_below_the_use() {
    let mut bench = Bench::running(json!({}));
    bench.uses(150);
    bench.resize(json!({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"memory": "120Mi"}}));
    bench.pass(1000);
    assert_eq!(bench.resize_conditions(), ["InProgress=True/Error"]);
    bench.uses(90);
    bench.pass(1000);
    bench.pass(1000);
    assert_eq!(bench.container()["resources"]["limits"]["memory"], "120Mi");
}

#[test]
fn taking_a_resize_back_ends_it() {
    let mut bench = Bench::running(json!({"metadata": {"annotations": {"sim.vpa/resize": "deferred"}}}));
    let old = json!({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"memory": "200Mi"}});
    bench.resize(json!({"requests": {"cpu": "150m", "memory": "100Mi"}, "limits": {"memory": "200Mi"}}));
    bench.pass(1000);
    assert_eq!(bench.resize_conditions(), ["Pending=True/Deferred"]);
    bench.resize(old);
    bench.pass(1000);
    assert_eq!(bench.resize_conditions(), [""; 0]);
}

#[test]
fn a_job_pod_ends_well_and_a_killed_one_that_never_restarts_ends_badly() {
    let job =
        json!({"metadata": {"annotations": {"sim.vpa/run-for": "5s"}}, "spec": {"restartPolicy": "Never"}});
    let mut bench = Bench::running(job.clone());
    bench.pass(3000);
    assert_eq!(bench.status()["phase"], "Running");
    bench.pass(3000);
    assert_eq!(bench.status()["phase"], "Succeeded");
    assert_eq!(bench.container()["state"]["terminated"]["exitCode"], 0);
    let mut bench = Bench::running(job);
    bench.uses(300);
    bench.pass(100);
    assert_eq!(bench.status()["phase"], "Failed");
    bench.pass(60_000);
    assert_eq!(bench.container()["restartCount"], 0);
}

#[test]
fn a_deleted_pod_goes_after_its_grace() {
    let mut bench = Bench::running(json!({}));
    bench.change(
        json!({"metadata": {"deletionTimestamp": "2026-11-22T10:00:30Z", "deletionGracePeriodSeconds": 30}}),
    );
    bench.pass(100);
    assert!(!bench.deleted);
    bench.pass(300);
    assert!(bench.deleted);
}

#[test]
fn a_quiet_pod_costs_no_write_and_is_still_watched() {
    let mut bench = Bench::running(json!({}));
    let version = bench.pod.metadata.resource_version.clone();
    for _ in 0..100 {
        bench.pass(250);
    }
    assert_eq!(bench.pod.metadata.resource_version, version);
    assert_eq!(bench.run.quiet, version);
    bench.uses(500);
    bench.pass(250);
    assert_eq!(bench.container()["state"]["terminated"]["reason"], "OOMKilled");
}
