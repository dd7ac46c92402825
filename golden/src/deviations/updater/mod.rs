//! Deviations of the updater cases.

mod budget;
mod counts;
mod in_place;
mod json;
mod passes;
mod stuck;

use serde_json::{Value, json};

use super::Deviation;
use budget::Scene;
use json::{annotations, list, number, text};

pub(super) const RULES: &[Deviation] = &[
    Deviation {
        id: "owner-reference-without-controller",
        reason: "the reference dies of an owner reference that does not say whether it is the controller; here it is none",
        applies: |file, _, input| {
            file == "eviction.json" && list(input, "/pods").iter().any(has_bare_owner_reference)
        },
        rewrite: |_, _, case| Scene::new(case).rewrite_evictions(case),
    },
    Deviation {
        id: "unknown-owner",
        reason: "owners of a kind that the reference does not know have no budget there, so all pods go at once",
        applies: |file, _, input| file == "eviction.json" && Scene::new(input).has_unknown_owner(),
        rewrite: |_, _, case| Scene::new(case).rewrite_evictions(case),
    },
    Deviation {
        id: "boost-annotation-without-boost",
        reason: "a boost annotation on any pod lifts the minimum of replicas in the reference, gate and VPA or not",
        applies: |file, _, input| file == "eviction.json" && Scene::new(input).is_lifted_without_boost(),
        rewrite: |_, _, case| Scene::new(case).rewrite_evictions(case),
    },
    Deviation {
        id: "no-recommendation-threshold-zero",
        reason: "with threshold 0 the reference dies of an old pod without recommendation; here nothing is to be done",
        applies: |file, _, input| {
            let no = |pointer: &str| input.pointer(pointer).is_none_or(Value::is_null);
            file == "update_order.json"
                && no("/vpa/status/recommendation")
                && no("/vpa/spec/resourcePolicy")
                && input.pointer("/flags/podUpdateThreshold").and_then(Value::as_f64) == Some(0.0)
        },
        rewrite: |_, _, case| case["want"] = json!({ "accepted": [], "order": [] }),
    },
    Deviation {
        id: "resize-within-budget",
        reason: "mode InPlace patches deferred, pending and unbudgeted pods in the reference; in both modes it sends patches \
                 that change nothing, or the QoS class, which the API server refuses",
        applies: |file, _, input| file == "inplace.json" && in_place::applies(input),
        rewrite: |_, _, case| in_place::rewrite(case),
    },
    Deviation {
        id: "boost-without-resize",
        reason: "a boost that leaves nothing to resize is an error for ever in the reference; here the annotation goes",
        applies: |file, _, input| file == "startup_boost.json" && ends_without_resize(input),
        rewrite: |_, _, case| rewrite_boost(case),
    },
    Deviation {
        id: "burst-zero",
        reason: "a rate with burst 0 lets nothing through and ends each pass; here it is refused at the start",
        applies: |file, _, input| {
            let rate = number(input, "/flags/evictionRateLimit").unwrap_or(-1.0);
            file == "loop.json" && rate > 0.0 && number(input, "/flags/evictionRateBurst") == Some(0.0)
        },
        rewrite: |_, _, case| case["refused"] = true.into(),
    },
    Deviation {
        id: "rate-limited-gauges",
        reason: "a failed wait of the limiter ends the pass before the gauges of the VPA are set, though pods were updated",
        applies: |file, _, input| file == "loop.json" && passes::runs_out_of_rate(input),
        rewrite: |_, _, case| passes::rewrite_rate(case),
    },
    Deviation {
        id: "in-place-within-budget",
        reason: "mode InPlace ignores the disruption budget in the reference and patches again pods that are still resizing",
        applies: |file, _, input| file == "loop.json" && passes::resizes_in_place(input),
        rewrite: |_, _, case| passes::rewrite_in_place(case),
    },
    Deviation {
        id: "unknown-owner-pass",
        reason: "as unknown-owner, in a whole pass",
        applies: |file, _, input| file == "loop.json" && passes::evicts_of_unknown_owner(input),
        rewrite: |_, _, case| passes::rewrite_unknown_owner(case),
    },
    Deviation {
        id: "owner-reference-without-controller-pass",
        reason: "as owner-reference-without-controller, in a whole pass",
        applies: |file, _, input| {
            let pods = list(input, "/loops/0/pods");
            file == "loop.json"
                && list(input, "/loops/0/vpas").len() == 1
                && pods.iter().any(has_bare_owner_reference)
        },
        rewrite: |_, _, case| passes::rewrite_evictions_of_all(case),
    },
    Deviation {
        id: "fallback-first-and-timed-by-attempt",
        reason: "in mode InPlaceOrRecreate resizes of other pods starve one whose fallback is due, for ever; the time of a \
                 fallback goes by the pod's name and is never cleared; patches that change nothing are sent",
        applies: |file, _, input| file == "loop.json" && stuck::applies(input),
        rewrite: |_, _, case| stuck::rewrite(case),
    },
];

/// Whether an owner reference without `controller` comes before the controller.
fn has_bare_owner_reference(pod: &Value) -> bool {
    let owners = list(pod, "/metadata/ownerReferences");
    let controller = owners.iter().position(|owner| owner["controller"] == true);
    owners.iter().take(controller.unwrap_or(owners.len())).any(|owner| owner.get("controller").is_none())
}

/// Whether a pod's boost is over, its VPA is off, and its annotation holds no resources.
fn ends_without_resize(input: &Value) -> bool {
    let empty = |value: &String| {
        serde_json::from_str::<Value>(value).is_ok_and(|original| {
            let none = |key: &str| {
                original.get(key).is_none_or(|list| list.as_object().is_none_or(|l| l.is_empty()))
            };
            none("requests") && none("limits")
        })
    };
    let boosted = |pod: &Value| annotations(pod).any(|(key, value)| key.starts_with(BOOST) && empty(&value));
    text(input, "/vpa/spec/updatePolicy/updateMode") == "Off" && list(input, "/pods").iter().any(boosted)
}

const BOOST: &str = "vpaCpuStartupBoost/";

fn rewrite_boost(case: &mut Value) {
    let pods = list(case, "/pods").to_vec();
    let Some(steps) = case.pointer_mut("/want/steps").and_then(Value::as_array_mut) else { return };
    for (pod, step) in pods.iter().zip(steps) {
        if step["canUnboost"] != true {
            continue;
        }
        let name = format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        let mut ops =
            vec![json!({ "op": "add", "path": "/metadata/annotations/vpaInPlaceUpdated", "value": "true" })];
        for key in list(step, "/expired") {
            let path =
                format!("/metadata/annotations/{}", key.as_str().unwrap_or_default().replace('/', "~1"));
            ops.push(json!({ "op": "remove", "path": path, "value": null }));
        }
        let event = json!({
            "event": "InPlaceResizedByVPA", "message": "Pod was resized in place by VPA Updater.",
            "on": format!("Pod {name}"), "type": "Normal",
        });
        step["unboost"] = json!({ "ok": true, "log": [{ "call": "patch", "ops": ops, "pod": name }, event] });
    }
}
