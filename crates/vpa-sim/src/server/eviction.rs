//! The eviction subresource of pods: a deletion that PodDisruptionBudgets can refuse.

use serde_json::{Value, json};

use super::delete::{DeleteOptions, delete_object};
use super::error::{ApiError, ApiResult};
use super::pods::{set_condition, update_raw};
use super::selector::from_label_selector;
use super::state::{Call, State};
use super::store::Refused;
use super::value::{at_mut, items, meta, now_text, text};

/// Most evictions that a budget remembers without its controller having confirmed them.
const DISRUPTED_PODS_MAX: usize = 2000;
/// Attempts to take one disruption from a budget that others change at the same time.
const ATTEMPTS_MAX: usize = 8;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Evicts the pod of the call.
pub(crate) fn evict(state: &State, call: &Call) -> ApiResult<Value> {
    let body = call.json()?;
    if meta(&body, "name") != call.path.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = DeleteOptions::read(&body["deleteOptions"]);
    options.dry_run |= call.query.dry_run()?;
    let pod = state.store.get("pods", &call.key()).ok_or_else(|| call.not_found())?;
    if !past_budgets(&pod)
        && let Some(budget) = budget_of(state, &pod)?
        && !unready_may_go(&pod, &budget)
    {
        take_one(state, &pod, &budget, options.dry_run)?;
    }
    mark_and_delete(state, call, &options)?;
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

/// A pod that does not run or is on its way out disrupts nothing.
fn past_budgets(pod: &Value) -> bool {
    matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending")
        || !meta(pod, "deletionTimestamp").is_empty()
}

fn budget_of(state: &State, pod: &Value) -> ApiResult<Option<Value>> {
    let namespace = meta(pod, "namespace");
    let found = state.store.list("poddisruptionbudgets.policy", namespace, None, usize::MAX, |budget| {
        from_label_selector(&budget["spec"]["selector"]).matches(pod)
    });
    match found.objects.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((**one).clone())),
        _ => {
            let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            Err(ApiError::new(500, "", message))
        }
    }
}

fn is_ready(pod: &Value) -> bool {
    items(&pod["status"]["conditions"])
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// An unready pod may go if the budget says so or the application is healthy without it.
fn unready_may_go(pod: &Value, budget: &Value) -> bool {
    if is_ready(pod) {
        return false;
    }
    let number = |key: &str| budget["status"][key].as_i64().unwrap_or(0);
    text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
        || (number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0)
}

/// Takes one allowed disruption from the budget, or refuses.
fn take_one(state: &State, pod: &Value, budget: &Value, dry_run: bool) -> ApiResult<()> {
    let key = super::store::Key::of(budget);
    for _ in 0..ATTEMPTS_MAX {
        let Some(current) = state.store.get("poddisruptionbudgets.policy", &key) else { return Ok(()) };
        check_budget(&current)?;
        if dry_run {
            return Ok(());
        }
        let mut object = (*current).clone();
        let allowed = object["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
        object["status"]["disruptionsAllowed"] = json!(allowed - 1);
        *at_mut(&mut object, &["status", "disruptedPods", meta(pod, "name")]) = json!(now_text());
        match state.store.replace("poddisruptionbudgets.policy", &current, object) {
            Ok(_) => return Ok(()),
            Err(Refused::NotFound) => return Ok(()),
            Err(Refused::Changed | Refused::Exists) => {}
        }
    }
    let message = format!("couldn't update PodDisruptionBudget \"{}\" due to conflicts", key.name);
    Err(ApiError::new(504, "Timeout", message))
}

fn check_budget(budget: &Value) -> ApiResult<()> {
    let name = meta(budget, "name");
    let number = |key: &str| budget["status"][key].as_i64().unwrap_or(0);
    let forbidden = |why: &str| Err(ApiError::forbidden("policy", "poddisruptionbudget", name, why));
    if number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::too_many_requests(REFUSED, 10).with_cause("DisruptionBudget", &cause));
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let waiting = budget["status"]["disruptedPods"].as_object().map_or(0, serde_json::Map::len);
    if waiting > DISRUPTED_PODS_MAX {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed > 0 {
        return Ok(());
    }
    let (current, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let cause = if current <= desired {
        format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    };
    Err(ApiError::too_many_requests(REFUSED, 0).with_cause("DisruptionBudget", &cause))
}

fn mark_and_delete(state: &State, call: &Call, options: &DeleteOptions) -> ApiResult<()> {
    let mut options = options.clone();
    if !options.dry_run {
        let marked = update_raw(state, call, |pod| {
            for (what, wanted, found) in [
                ("UID", &options.uid, meta(pod, "uid")),
                ("ResourceVersion", &options.resource_version, meta(pod, "resourceVersion")),
            ] {
                if !wanted.is_empty() && wanted != found {
                    return Err(ApiError::precondition("", "Pod", meta(pod, "name"), what, wanted, found));
                }
            }
            let mut pod = pod.clone();
            set_condition(
                &mut pod,
                "DisruptionTarget",
                "True",
                "EvictionByEvictionAPI",
                "Eviction API: evicting",
            );
            Ok(pod)
        })?;
        if !options.resource_version.is_empty() {
            meta(&marked, "resourceVersion").clone_into(&mut options.resource_version);
        }
    }
    delete_object(state, &call.kind, &call.key(), &options).map(drop)
}
