//! Deviations of the recommender cases.
//!
//! Some answers can be computed from the reference's: those are rewritten here. Others follow from a different history
//! and are marked in `deviations`: the runner then asserts them by comparison with a twin of the case, in which what is
//! handled differently does not occur.

mod amounts;
mod fit;
mod oom;
mod scenario;

use serde_json::{Value, json};

use super::Deviation;

pub(super) const RULES: &[Deviation] = &[
    Deviation {
        id: "no-zero-and-in-order",
        reason: "the reference publishes zeros and bounds on the wrong side of the target when it is asked for such \
                 percentiles, minima or amounts; here no zero is published and the bounds are put in order",
        applies: |file, _, input| file == "postprocess.json" && fit::applies(input),
        rewrite: |_, _, case| {
            fit::rewrite(&mut case["recommendation"]);
            mark(case, "fit");
        },
    },
    Deviation {
        id: "missing-usage-is-no-sample",
        reason: "the reference takes a resource that the metrics API does not report for 0; here it is no sample",
        applies: |file, section, input| {
            file == "inputs.json"
                && section == "usage"
                && ["cpu", "memory"].iter().any(|resource| input["usage"].get(resource).is_none())
        },
        rewrite: |_, _, case| {
            for (resource, amount) in [("cpu", "cpuMillicores"), ("memory", "memoryBytes")] {
                if case["usage"].get(resource).is_none() {
                    case[amount] = Value::Null;
                }
            }
        },
    },
    Deviation {
        id: "no-oom-kill-is-lost",
        reason: "the reference loses OOM kills of containers that it sees for the first time, and those that it sees \
                 only as the last state of a waiting container (6705, 4981, 4152); here each is taken once",
        applies: |file, section, input| {
            file == "inputs.json" && section == "podUpdates" && !oom::overlooked(input).is_empty()
        },
        rewrite: |_, _, case| {
            let found = oom::overlooked(case);
            if let Some(ooms) = case["ooms"].as_array_mut() {
                ooms.extend(found);
            }
        },
    },
    Deviation {
        id: "history-is-kept",
        reason: "the reference drops history and overwrites the recommendation as soon as a target cannot be looked \
                 up (9891); here they are kept until it is known to be gone for a grace time",
        applies: |file, _, input| file == "conditions.json" && keeps_history(input),
        rewrite: |_, _, case| mark(case, "kept-history"),
    },
    Deviation {
        id: "other-history",
        reason: "the reference takes a memory sample of 0 bytes for a peak that blocks the window, lets an OOM kill \
                 move the last memory time backwards, and keeps a VPA's own OOM settings when they are gone; it raises \
                 the recommendation to the pod's minimum above what the VPA allows as its own (2004), and publishes \
                 zeros and bounds out of order",
        applies: |_, section, input| section == "scenarios" && scenario::applies(input),
        rewrite: |_, _, case| scenario::rewrite(case),
    },
];

/// Notes for the runner how the case differs.
fn mark(case: &mut Value, deviation: &str) {
    if let Some(object) = case.as_object_mut() {
        let list = object.entry("deviations").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!(deviation));
        }
    }
}

/// Whether a target cannot be looked up after it could, or while a recommendation is published.
fn keeps_history(input: &Value) -> bool {
    let published = |status: &Value| {
        status["recommendation"]["containerRecommendations"].as_array().is_some_and(|list| !list.is_empty())
    };
    let mut known = false;
    let mut provided = published(&input["vpa"]["status"]);
    for step in input["steps"].as_array().into_iter().flatten() {
        let labels = step["selector"].get("labels").is_some();
        let error = step["selector"]["error"].as_str();
        let gone = error.is_some_and(|error| error.ends_with("does not exist"));
        let owner = step["owner"].as_str().unwrap_or("");
        let failed = labels && owner.starts_with("error");
        if gone || failed {
            if known || provided {
                return true;
            }
        } else if labels && owner == "same" {
            known = true;
            provided = step["pods"].as_array().is_some_and(|pods| !pods.is_empty());
        } else {
            // Unusable as it is written: nothing is held on to.
            known = false;
            provided = false;
        }
    }
    false
}
