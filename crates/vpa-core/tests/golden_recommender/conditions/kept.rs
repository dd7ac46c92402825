//! Cases in which a target cannot be looked up for a while: the history is kept, and so is what was published.

use golden::{expect, expect_json};
use serde_json::{Value, json};
use vpa_core::model::Target;

use super::{Case, Cycles, Step, target};

/// Runs a case beside a twin whose target is found all the time once it was.
pub(super) fn run(case: &Case) -> Result<(), String> {
    let mut cycles = Cycles::new(case)?;
    let mut twin = Cycles::new(case)?;
    let mut good: Option<Step> = None;
    let mut deviated = false;
    for (n, step) in case.steps.iter().enumerate() {
        let what = |part: &str| format!("step {n} {part}");
        let before = cycles.vpa.status.clone();
        let out_of_sight = matches!(target(step)?, Target::Gone(_) | Target::Failed(_));
        match (&good, out_of_sight) {
            (Some(found), true) => {
                // Held: as if it were found, but for the condition that tells.
                cycles.step(step)?;
                let mut as_found = step.clone();
                as_found.selector = found.selector.clone();
                as_found.owner.clone_from(&found.owner);
                twin.step(&as_found)?;
                expect_json(&what("status"), &plain(&twin.status()?, true), &plain(&cycles.status()?, true))?;
                unsupported(step, &cycles.status()?).map_err(|error| what(&error))?;
                deviated = true;
            }
            (None, true) if published(before.as_ref()) => {
                // Nothing is known of it yet: what was published stays.
                cycles.step(step)?;
                twin.step(step)?;
                let after = cycles.vpa.status.clone().unwrap_or_default();
                let before = before.unwrap_or_default();
                expect(&what("recommendation"), &before.recommendation, &after.recommendation)?;
                let shown = |list: &Option<Vec<_>>| {
                    let list = super::show(list.as_deref().unwrap_or(&[]), cycles.now);
                    plain(&json!({"conditions": list}), true)
                };
                expect_json(&what("conditions"), &shown(&before.conditions), &shown(&after.conditions))?;
                unsupported(step, &cycles.status()?).map_err(|error| what(&error))?;
                deviated = true;
            }
            _ => {
                let cycle = cycles.step(step)?;
                twin.step(step)?;
                if let Some(want) = &step.status {
                    let got = cycles.status()?;
                    if deviated {
                        // Since when a condition holds is another matter now.
                        expect_json(&what("status"), &plain(want, false), &plain(&got, false))?;
                    } else {
                        expect_json(&what("status"), want, &got)?;
                        expect(&what("patched"), &step.patched, &cycle.patched)?;
                    }
                }
                good = matches!(target(step)?, Target::Found(_)).then(|| step.clone());
            }
        }
    }
    expect("something differs", &true, &deviated)
}

fn published(status: Option<&vpa_api::vpa::VerticalPodAutoscalerStatus>) -> bool {
    let recommendation = status.and_then(|status| status.recommendation.as_ref());
    recommendation.and_then(|r| r.container_recommendations.as_ref()).is_some_and(|list| !list.is_empty())
}

/// A status without transition times, and without what changes with the look-up of the target.
fn plain(status: &Value, without_unsupported: bool) -> Value {
    let mut status = status.clone();
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|condition| {
            let of_target = ["ConfigUnsupported", "ConfigDeprecated"];
            !(without_unsupported && of_target.iter().any(|type_| condition["type"] == *type_))
        });
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            condition.remove("lastTransitionTime");
        }
    }
    status
}

/// The status has to tell what is wrong with the target.
fn unsupported(step: &Step, status: &Value) -> Result<(), String> {
    let told =
        status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "ConfigUnsupported");
    let target = target(step)?;
    let want = target.message().map(|message| json!(message));
    expect("message of ConfigUnsupported", &want.as_ref(), &told.map(|condition| &condition["message"]))
}
