//! Deviations of the admission cases.

mod capping;
mod http;
mod pods;
mod vpas;

use serde_json::{Value, json};

use super::Deviation;

const POD_FILES: [&str; 2] = ["pod_admission.json", "pod_admission_random.json"];

pub(super) const RULES: &[Deviation] = &[
    Deviation {
        id: "other-path",
        reason: "every path is served as if it were the webhook's; here there is `/` alone",
        applies: |file, _, case| file == "malformed.json" && http::path(case) != "/",
        rewrite: |_, _, case| case["expect"] = json!({ "status": 404, "content_type": null, "body": "" }),
    },
    Deviation {
        id: "other-method",
        reason: "the method is not looked at; here reviews are posted",
        applies: |file, _, case| file == "malformed.json" && case["input"]["method"] != "POST",
        rewrite: |_, _, case| case["expect"] = json!({ "status": 405, "content_type": null, "body": "" }),
    },
    Deviation {
        id: "content-type-parameters",
        reason: "JSON is refused when its media type has a parameter or is written in capitals",
        applies: |file, _, case| file == "malformed.json" && http::is_json_in_other_words(case),
        rewrite: |_, _, case| http::expect_answer(case, true),
    },
    Deviation {
        id: "no-request",
        reason: "a review without a request crashes; here it admits",
        applies: |file, _, case| {
            file == "malformed.json" && crashes(case) && !http::request(case).is_object()
        },
        rewrite: |_, _, case| http::expect_plain(case),
    },
    Deviation {
        id: "no-request-kind",
        reason: "a review without requestKind crashes; here it is reviewed like any other",
        applies: |file, _, case| {
            let request = http::request(case);
            file == "malformed.json"
                && crashes(case)
                && request.is_object()
                && request["requestKind"].is_null()
        },
        rewrite: |_, _, case| {
            let known = ["pods", "verticalpodautoscalers"].map(Value::from);
            let patched = known.contains(&http::request(case)["resource"]["resource"]);
            http::expect_answer(case, patched);
        },
    },
    Deviation {
        id: "only-created-pods",
        reason: "changes and deletions of pods and requests of subresources are taken for creations",
        applies: |file, _, case| file == "malformed.json" && http::is_pod_but_not_created(case),
        rewrite: |_, _, case| {
            if case["expect"]["body"].as_str().is_some_and(|body| body.contains("\"patch\"")) {
                http::expect_plain(case);
            }
        },
    },
    Deviation {
        id: "deleted-vpa",
        reason: "the deletion of a VPA is refused since there is no object; here it is allowed",
        applies: |_, _, case| vpas::request(case)["operation"] == "DELETE" && vpas::is_vpa(case),
        rewrite: |file, _, case| vpas::expect_allowed(file, case),
    },
    Deviation {
        id: "unreadable-vpa",
        reason: "the text comes from Go's JSON decoder; here it names the path of the field",
        applies: |_, _, case| has_tag(case, "go_decode_text"),
        rewrite: |file, _, case| vpas::expect_path(file, case),
    },
    Deviation {
        id: "off-with-boost-and-gate-off",
        reason: "a VPA in mode Off with a boost takes the pod though boosts are off, and shadows an active one",
        applies: |_, _, case| !has_gate(case, "CPUStartupBoost") && !pods::off_with_boost(case).is_empty(),
        rewrite: |file, _, case| pods::expect_without_off(file, case),
    },
    Deviation {
        id: "patch-does-not-fit",
        reason: "the patch follows the container's status and does not apply to the spec; here it fits what was sent",
        applies: |file, _, case| POD_FILES.contains(&file) && pods::has_status_resources(case),
        rewrite: |_, _, case| pods::add_missing_parents(case),
    },
    Deviation {
        id: "crash-of-a-pod-review",
        reason: "the review crashes (startupBoost {}, Pod LimitRange with containers without recommendation)",
        applies: |file, _, case| POD_FILES.contains(&file) && crashes(case),
        rewrite: |_, _, case| expect_sound(case),
    },
    Deviation {
        id: "crash-of-capping",
        reason: "capping crashes (Pod LimitRange with containers without recommendation)",
        applies: |file, _, case| file == "capping.json" && crashes(case),
        rewrite: |_, _, case| expect_sound(case),
    },
    Deviation {
        id: "beyond-64-bits",
        reason: "amounts beyond int64 wrap or become zero; here they saturate with a note",
        applies: |file, _, case| file != "vpa_validation.json" && has_tag(case, "beyond_int64_milli"),
        rewrite: |_, _, case| expect_sound(case),
    },
    Deviation {
        id: "boost-beyond-64-bits",
        reason: "the product or sum of a boost wraps to a negative amount; here it saturates",
        applies: |file, _, case| POD_FILES.contains(&file) && has_gate(case, "CPUStartupBoost"),
        rewrite: |_, _, case| {
            if pods::sets_negative(case) {
                expect_sound(case);
            }
        },
    },
    Deviation {
        id: "pod-limit-range",
        reason: "scaling to a Pod LimitRange breaks the order of the bounds (8776, 9935), makes up amounts that are not \
                 recommended, and ends at zero or below (7726)",
        applies: |file, _, case| file == "capping.json" && capping::has_pod_limits(case),
        rewrite: |_, _, case| capping::correct(case),
    },
    Deviation {
        id: "pod-limit-range-of-a-review",
        reason: "as pod-limit-range, in the patch of a pod",
        applies: |file, _, case| POD_FILES.contains(&file) && capping::has_pod_limits(case),
        rewrite: |_, _, case| {
            if pods::sets_not_recommended(case) || pods::sets_nothing_or_less(case) {
                expect_sound(case);
            }
        },
    },
];

fn has_tag(case: &Value, tag: &str) -> bool {
    case["tags"].as_array().is_some_and(|tags| tags.iter().any(|found| found == tag))
}

fn crashes(case: &Value) -> bool {
    has_tag(case, "go_panic")
}

fn has_gate(case: &Value, gate: &str) -> bool {
    case["config"]["feature_gates"].as_array().is_some_and(|gates| gates.iter().any(|found| found == gate))
}

/// Instead of the reference's answer, that ours is sound: the runner checks amounts, their order and their proportions.
fn expect_sound(case: &mut Value) {
    case["expect"] = json!({ "http_status": 200, "sound": true });
}

/// The number of a quantity; close enough to compare.
fn amount(quantity: &Value) -> f64 {
    let Some(text) = quantity.as_str() else { return 0.0 };
    let digits = text.find(|c: char| !"+-.0123456789".contains(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        exponent => {
            exponent.get(1..).and_then(|power| power.parse().ok()).map_or(1.0, |power| 10.0_f64.powi(power))
        }
    };
    number.parse().unwrap_or(0.0) * factor
}
