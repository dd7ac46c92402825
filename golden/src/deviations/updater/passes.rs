//! Right answers to whole passes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::budget::{Scene, is_pending};
use super::counts::{add, count_failures, put_failures};
use super::in_place::{changes_nothing, phase, qos, skips_budget};
use super::json::{annotations, list, number, text};

/// Whether more pods may be updated than the rate limit lets through in a pass, in the first loop.
pub(super) fn runs_out_of_rate(input: &Value) -> bool {
    let rate = number(input, "/flags/evictionRateLimit").unwrap_or(-1.0);
    let burst = number(input, "/flags/evictionRateBurst").unwrap_or(1.0);
    let interval = number(input, "/flags/updaterIntervalSeconds").unwrap_or(60.0);
    let fraction = number(input, "/flags/evictionTolerance").unwrap_or(0.5);
    let vpas = list(input, "/loops/0/vpas");
    let pods = list(input, "/loops/0/pods").len() as f64;
    rate > 0.0
        && burst > 0.0
        && vpas.len() == 1
        && (pods * fraction).floor() > burst + (rate * interval).floor()
}

/// Sets the gauges that the reference leaves out: how many VPAs had pods to update, and had some updated.
pub(super) fn rewrite_rate(case: &mut Value) {
    let Some(loops) = case["loops"].as_array_mut() else { return };
    for one in loops {
        let updated = one["want"]["actions"].as_object().is_some_and(|actions| !actions.is_empty());
        let Some(metrics) = one["want"]["metrics"].as_object_mut() else { continue };
        let found = |prefix: &str| {
            let label = |key: &String| key.strip_prefix(prefix).map(str::to_owned);
            metrics.keys().find_map(label)
        };
        let mut more = Vec::new();
        if let Some(labels) = found("vpa_updater_evictable_pods_total") {
            more.push(format!("vpa_updater_vpas_with_evictable_pods_total{labels}"));
            more.extend(updated.then(|| format!("vpa_updater_vpas_with_evicted_pods_total{labels}")));
        }
        if let Some(labels) = found("vpa_updater_in_place_updatable_pods_total") {
            more.push(format!("vpa_updater_vpas_with_in_place_updatable_pods_total{labels}"));
            more.extend(
                updated.then(|| format!("vpa_updater_vpas_with_in_place_updated_pods_total{labels}")),
            );
        }
        metrics.extend(more.into_iter().map(|key| (key, 1.into())));
    }
}

/// Whether a VPA in mode `InPlace` has more to resize than its budget allows, or a pod that is not ready for it.
pub(super) fn resizes_in_place(input: &Value) -> bool {
    let mut copy = input.clone();
    rewrite_in_place_with(&mut copy, false)
}

/// Leaves of the resizes in mode `InPlace` those that the budget allows, of pods that are ready for it.
pub(super) fn rewrite_in_place(case: &mut Value) {
    rewrite_in_place_with(case, true);
}

/// Whether a Recreate VPA has pods whose owner is of a kind that the reference has no budget for.
pub(super) fn evicts_of_unknown_owner(input: &Value) -> bool {
    list(input, "/loops")
        .iter()
        .any(|one| list(one, "/vpas").iter().any(|vpa| targets_unknown_owner(one, vpa)))
}

fn targets_unknown_owner(one: &Value, vpa: &Value) -> bool {
    let kind = text(vpa, "/spec/targetRef/kind");
    let known =
        ["ReplicationController", "StatefulSet", "ReplicaSet", "DaemonSet", "Job", "Deployment", "CronJob"];
    let listed = list(one, "/controllers").iter().any(|controller| controller["kind"] == kind);
    mode(vpa) == "Recreate" && listed && !known.contains(&kind)
}

/// Leaves of the evictions those that a budget as for any owner allows.
pub(super) fn rewrite_unknown_owner(case: &mut Value) {
    let input = case.clone();
    let mut evicted: BTreeMap<String, i64> = BTreeMap::new();
    let Some(loops) = case["loops"].as_array_mut() else { return };
    for (one, before) in loops.iter_mut().zip(list(&input, "/loops")) {
        for vpa in list(before, "/vpas").iter().filter(|vpa| targets_unknown_owner(before, vpa)) {
            let name = name_of(vpa);
            let mut scene = Scene::new(&scene_of(&input, before, vpa, controlled(before, &name)));
            let mut kept = Vec::new();
            let count = evicted.entry(name.clone()).or_default();
            for block in blocks(before, &name) {
                let Some(pod) = scene.pods.iter().find(|pod| is_of(&block, pod)).cloned() else { continue };
                let done = block[0]["failed"] != true;
                if let Some(group) =
                    scene.group_mut(&pod).filter(|group| group.disruptable() || is_pending(&pod))
                {
                    group.evicted += i64::from(done && !is_pending(&pod));
                    *count += i64::from(done);
                    kept.extend(block);
                }
            }
            set_actions(&mut one["want"]["actions"], &name, kept);
            let labels = format!("vpa_name=\"{}\"", text(vpa, "/metadata/name"));
            for (key, value) in one["want"]["metrics"].as_object_mut().into_iter().flatten() {
                if key.starts_with("vpa_updater_evicted_pods_total") && key.contains(&labels) {
                    *value = (*count).into();
                }
            }
        }
    }
}

pub(super) fn name_of(vpa: &Value) -> String {
    format!("{}/{}", text(vpa, "/metadata/namespace"), text(vpa, "/metadata/name"))
}

pub(super) fn mode(vpa: &Value) -> &str {
    match text(vpa, "/spec/updatePolicy/updateMode") {
        "" | "Auto" => "Recreate",
        mode => mode,
    }
}

/// A case of one VPA and these pods.
pub(super) fn scene_of(case: &Value, one: &Value, vpa: &Value, pods: Vec<Value>) -> Value {
    let part = |key: &str| case.get(key).cloned().unwrap_or(json!({}));
    json!({
        "vpa": vpa, "pods": pods, "controllers": one["controllers"],
        "flags": part("flags"), "featureGates": part("featureGates"),
    })
}

/// The pods that a VPA controls, in order.
pub(super) fn controlled(one: &Value, vpa: &str) -> Vec<Value> {
    let names = one["want"]["controlled"][vpa].as_array().cloned().unwrap_or_default();
    let named = |pod: &&Value| names.contains(&json!(super::budget::full_name(pod)));
    list(one, "/pods").iter().filter(named).cloned().collect()
}

/// The actions for a VPA, pod by pod.
fn blocks(one: &Value, vpa: &str) -> Vec<Vec<Value>> {
    let mut blocks: Vec<Vec<Value>> = Vec::new();
    for entry in one["want"]["actions"][vpa].as_array().into_iter().flatten() {
        let begins =
            entry["call"] == "resize" || entry["call"] == "evict" || entry["event"] == "InPlaceResizeSkipped";
        match blocks.last_mut().filter(|_| !begins) {
            Some(block) => block.push(entry.clone()),
            None => blocks.push(vec![entry.clone()]),
        }
    }
    blocks
}

fn is_of(block: &[Value], pod: &Value) -> bool {
    let name = super::budget::full_name(pod);
    block.first().is_some_and(|entry| entry["pod"] == name.as_str() || entry["on"] == format!("Pod {name}"))
}

/// Counts of one VPA over the loops: what the reference did beyond what is right.
#[derive(Default)]
struct Beyond {
    /// By the number of pods, as the metrics are.
    updated: BTreeMap<u32, i64>,
    failed: BTreeMap<(String, u32), i64>,
    /// Failures that the reference has counted in earlier loops.
    failed_before: i64,
    /// Pods skipped for the sake of an attempt that is not made here.
    skipped: i64,
    /// UIDs of pods whose infeasible resize is remembered.
    remembered: BTreeSet<String>,
}

fn rewrite_in_place_with(case: &mut Value, has_want: bool) -> bool {
    let input = case.clone();
    let mut beyond: BTreeMap<String, Beyond> = BTreeMap::new();
    let gate = |name: &str| input.pointer(&format!("/featureGates/{name}")) == Some(&Value::Bool(true));
    let mut applies = false;
    let Some(loops) = case["loops"].as_array_mut() else { return false };
    for (one, before) in loops.iter_mut().zip(list(&input, "/loops")) {
        for vpa in list(before, "/vpas").iter().filter(|vpa| mode(vpa) == "InPlace" && gate("InPlace")) {
            if !has_want {
                applies |= may_differ(&input, before, vpa);
                continue;
            }
            let name = name_of(vpa);
            let scene = scene_of(&input, before, vpa, controlled(before, &name));
            rewrite_vpa(one, before, &scene, gate("CPUStartupBoost"), beyond.entry(name).or_default());
        }
    }
    applies
}

/// Whether some pod of the VPA is not ready, or there are more than the budget has room for. What eviction requirements
/// hold back is not worked out, so VPAs that have some are left to the reference.
fn may_differ(case: &Value, one: &Value, vpa: &Value) -> bool {
    let labels = |pod: &&Value| pod["metadata"]["namespace"] == vpa["metadata"]["namespace"];
    let pods: Vec<Value> = list(one, "/pods").iter().filter(labels).cloned().collect();
    let case = scene_of(case, one, vpa, pods);
    let mut scene = Scene::new(&case);
    let recommended = !vpa.pointer("/status/recommendation").is_none_or(Value::is_null);
    recommended
        && list(vpa, "/spec/updatePolicy/evictionRequirements").is_empty()
        && scene.pods.clone().iter().any(|pod| {
            let free = scene.group(pod).is_some_and(|group| group.disruptable()) || skips_budget(pod, &case);
            let ready =
                scene.group(pod).is_some() && !is_pending(pod) && matches!(phase(pod), "None" | "Infeasible");
            let refused = one["apiErrors"].get(format!("resize {}", super::budget::full_name(pod))).is_some();
            if let Some(group) = scene.group_mut(pod).filter(|_| free && ready && !refused) {
                group.resized += 1;
            }
            !(free && ready)
        })
}

fn rewrite_vpa(one: &mut Value, before: &Value, case: &Value, boosts: bool, beyond: &mut Beyond) {
    let (vpa, mut scene) = (&case["vpa"], Scene::new(case));
    let name = name_of(vpa);
    let boosts = boosts && vpa.pointer("/spec/startupBoost").is_some();
    let is_boosted = |pod: &Value| boosts && annotations(pod).any(|(key, _)| key.starts_with(super::BOOST));
    let (mut kept, mut rest): (Vec<Value>, Vec<(Value, Vec<Value>)>) = (Vec::new(), Vec::new());
    let mut boosts_done = 0;
    for block in blocks(before, &name) {
        let Some(pod) = scene.pods.iter().find(|pod| is_of(&block, pod)).cloned() else { continue };
        let fails = block.iter().any(|entry| entry["call"] == "resize" && entry["failed"] == true);
        if block[0]["event"].is_string() && !beyond.remembered.contains(text(&pod, "/metadata/uid")) {
            beyond.skipped += 1;
            continue;
        }
        if is_boosted(&pod) || block[0]["event"].is_string() {
            boosts_done += i64::from(!fails && block[0]["event"].is_null());
            if let Some(group) = scene.group_mut(&pod).filter(|_| !fails && block[0]["event"].is_null()) {
                group.resized += 1;
            }
            kept.extend(block);
        } else {
            rest.push((pod, block));
        }
    }
    // Who is ready is decided before the first resize, who has room at each.
    let ready: Vec<bool> = rest.iter().map(|(pod, _)| is_ready(pod, &scene, case)).collect();
    let (mut ours, mut ours_done, mut theirs_done, mut fails_seen) = (0, 0, 0, 0);
    let mut errors: BTreeMap<String, i64> = BTreeMap::new();
    for ((pod, block), ready) in rest.iter().zip(&ready) {
        let fails = block.iter().any(|entry| entry["call"] == "resize" && entry["failed"] == true);
        fails_seen += i64::from(fails);
        theirs_done += i64::from(!fails);
        ours += i64::from(*ready);
        let ops = list(&block[0], "/ops");
        let free = scene.group(pod).is_some_and(|group| group.disruptable()) || skips_budget(pod, case);
        let uid = text(pod, "/metadata/uid").to_owned();
        let tried = *ready && free && qos(pod, &[]) == qos(pod, ops);
        // What was not tried is not found infeasible.
        if tried && one["want"]["infeasibleAttempts"].get(&uid).is_some() {
            beyond.remembered.insert(uid);
        }
        if !tried || changes_nothing(pod, ops) {
            continue;
        }
        kept.extend(block.iter().cloned());
        if fails {
            *errors.entry(failure(before, pod)).or_default() += 1;
        } else {
            ours_done += 1;
            if let Some(group) = scene.group_mut(pod) {
                group.resized += 1;
            }
        }
    }
    set_actions(&mut one["want"]["actions"], &name, kept);
    forget_untried(&mut one["want"]["infeasibleAttempts"], &scene, &beyond.remembered);
    let size = scene.pods.len().checked_ilog2().unwrap_or(0);
    *beyond.updated.entry(size).or_default() += theirs_done - ours_done;
    for (reason, count) in errors {
        *beyond.failed.entry((reason, size)).or_default() += count;
    }
    let counts = Counts {
        tried: rest.len() as i64,
        ours,
        ours_done: ours_done + boosts_done,
        theirs_done: theirs_done + boosts_done,
        fails_seen,
    };
    if let Some(metrics) = one["want"]["metrics"].as_object_mut() {
        counts.put(metrics, vpa, size, beyond);
    }
}

/// What a pass in mode `InPlace` counts for one VPA, here and in the reference.
struct Counts {
    /// Pods that the reference takes up.
    tried: i64,
    /// Pods that are ready here.
    ours: i64,
    /// Resizes that get through, ends of boosts included.
    ours_done: i64,
    theirs_done: i64,
    /// Resizes of the reference that fail.
    fails_seen: i64,
}

impl Counts {
    /// Sets the metrics of the VPA right.
    fn put(&self, metrics: &mut Map<String, Value>, vpa: &Value, size: u32, beyond: &mut Beyond) {
        let labels = format!(
            "vpa_name=\"{}\",vpa_namespace=\"{}\"",
            text(vpa, "/metadata/name"),
            text(vpa, "/metadata/namespace")
        );
        let failed = count_failures(metrics, &labels);
        // A pod without a budget of its own counts as a failure without a call.
        let theirs = self.tried + (failed - beyond.failed_before - self.fails_seen).max(0);
        beyond.failed_before = failed;
        put_failures(metrics, &labels, &beyond.failed);
        for (size, more) in &beyond.updated {
            let updated =
                format!("vpa_updater_in_place_updated_pods_total{{{labels},vpa_size_log2=\"{size}\"}}");
            add(metrics, &updated, -more, true);
        }
        let skipped =
            format!("vpa_updater_in_place_infeasible_skip_pods_total{{{labels},vpa_size_log2=\"{size}\"}}");
        add(metrics, &skipped, -beyond.skipped, false);
        let gauge = |name: &str| format!("vpa_updater_{name}{{vpa_size_log2=\"{size}\"}}");
        add(metrics, &gauge("in_place_updatable_pods_total"), self.ours - theirs, false);
        let none_left = |before: i64, now: i64| if before > 0 && now == 0 { -1 } else { 0 };
        let [with_updatable, with_updated] =
            ["updatable", "updated"].map(|name| gauge(&format!("vpas_with_in_place_{name}_pods_total")));
        add(metrics, &with_updatable, none_left(theirs, self.ours), false);
        add(metrics, &with_updated, none_left(self.theirs_done, self.ours_done), false);
    }
}

/// Takes out pods of which the reference remembers an attempt that is not made here.
fn forget_untried(attempts: &mut Value, scene: &Scene, remembered: &BTreeSet<String>) {
    if let Some(attempts) = attempts.as_object_mut() {
        let ours = |uid: &String| scene.pods.iter().any(|pod| text(pod, "/metadata/uid") == uid);
        attempts.retain(|uid, _| !ours(uid) || remembered.contains(uid));
    }
}

fn is_ready(pod: &Value, scene: &Scene, case: &Value) -> bool {
    let free = scene.group(pod).is_some_and(|group| group.disruptable()) || skips_budget(pod, case);
    scene.group(pod).is_some()
        && !is_pending(pod)
        && match phase(pod) {
            "None" => free,
            "Infeasible" | "Error" => true,
            _ => false,
        }
}

fn failure(one: &Value, pod: &Value) -> String {
    let error = &one["apiErrors"][format!("resize {}", super::budget::full_name(pod))];
    let capacity = list(error, "/details/causes").iter().any(|cause| cause["reason"] == "NodeCapacity");
    let infeasible = capacity && error["reason"] == "Forbidden";
    if infeasible { "InPlaceUpdateInfeasible" } else { "InPlaceUpdateError" }.to_owned()
}

pub(super) fn set_actions(actions: &mut Value, vpa: &str, kept: Vec<Value>) {
    if let Some(actions) = actions.as_object_mut() {
        if kept.is_empty() {
            actions.remove(vpa);
        } else {
            actions.insert(vpa.to_owned(), kept.into());
        }
    }
}

/// What becomes of pods that one VPA in mode Recreate controls, all of them far off their recommendation, in one pass:
/// the smallest are evicted first, as many as the budget allows.
pub(super) fn rewrite_evictions_of_all(case: &mut Value) {
    let input = case.clone();
    let one = &input["loops"][0];
    let vpa = &one["vpas"][0];
    let mut pods = list(one, "/pods").to_vec();
    let mut scene = Scene::new(&scene_of(&input, one, vpa, pods.clone()));
    let names: Vec<String> = pods.iter().map(super::budget::full_name).collect();
    let request = |pod: &Value| super::json::amount(text(pod, "/spec/containers/0/resources/requests/cpu"));
    pods.sort_by(|a, b| request(a).total_cmp(&request(b)));
    let (mut actions, mut evicted) = (Vec::new(), 0);
    for pod in &pods {
        if let Some(group) = scene.group_mut(pod).filter(|group| group.disruptable()) {
            group.evicted += 1;
            evicted += 1;
            actions.extend(
                super::budget::eviction_log(pod, &name_of(vpa)).as_array().cloned().unwrap_or_default(),
            );
        }
    }
    let size = format!("vpa_size_log2=\"{}\"", pods.len().checked_ilog2().unwrap_or(0));
    let mode = format!("update_mode=\"Recreate\",{size}");
    let (name, namespace) = (text(vpa, "/metadata/name"), text(vpa, "/metadata/namespace"));
    let vpa_labels = format!("vpa_name=\"{name}\",vpa_namespace=\"{namespace}\",{size}");
    let metric = |name: &str, labels: &str| format!("vpa_updater_{name}{{{labels}}}");
    let metrics = BTreeMap::from([
        (metric("controlled_pods_total", &mode), pods.len()),
        (metric("evictable_pods_total", &mode), pods.len()),
        (metric("evicted_pods_total", &format!("update_mode=\"Recreate\",{vpa_labels}")), evicted),
        (metric("in_place_updated_pods_total", &vpa_labels), 0),
        (metric("vpas_with_evictable_pods_total", &mode), 1),
        (metric("vpas_with_evicted_pods_total", &mode), 1),
    ]);
    case["loops"][0]["want"] = json!({
        "actions": { name_of(vpa): actions }, "controlled": { name_of(vpa): names },
        "infeasibleAttempts": {}, "lastInPlaceAttempts": {}, "metrics": metrics,
    });
}
