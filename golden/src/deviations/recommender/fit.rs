//! Recommendations fit to be published: without zeros, bounds in order.

use serde_json::{Value, json};

use super::amounts::nanos;

/// Whether raw amounts hold a zero or a bound on the wrong side. Rounding and capping keep the order.
pub(super) fn applies(input: &Value) -> bool {
    let containers = input["raw"].as_object().into_iter().flatten();
    containers.into_iter().any(|(_, container)| {
        ["cpu", "memory"].iter().any(|resource| {
            let amount = |list: &str| container[list][resource].as_i64();
            let (target, lower, upper) = (amount("target"), amount("lowerBound"), amount("upperBound"));
            let zero = [target, lower, upper].contains(&Some(0));
            zero || lower > target || target > upper
        })
    })
}

/// Makes a recommendation fit.
pub(super) fn rewrite(recommendation: &mut Value) {
    let containers = recommendation["containerRecommendations"].as_array_mut();
    for container in containers.into_iter().flatten() {
        for resource in ["cpu", "memory"] {
            fit(container, resource);
        }
        if let Some(container) = container.as_object_mut() {
            container
                .retain(|key, list| key == "target" || !list.as_object().is_some_and(|list| list.is_empty()));
        }
    }
    if recommendation["containerRecommendations"].is_null()
        && let Some(recommendation) = recommendation.as_object_mut()
    {
        // Looking for the key has made it.
        recommendation.remove("containerRecommendations");
    }
}

fn fit(container: &mut Value, resource: &str) {
    let amount = |container: &Value, list: &str| container[list][resource].as_str().and_then(nanos);
    let remove = |lists: &[&str], container: &mut Value| {
        for list in lists {
            if let Some(list) = container.get_mut(*list).and_then(Value::as_object_mut) {
                list.remove(resource);
            }
        }
    };
    if amount(container, "uncappedTarget") == Some(0) {
        remove(&["uncappedTarget"], container);
    }
    let Some(target) = amount(container, "target") else { return };
    if target == 0 {
        return remove(&["target", "lowerBound", "upperBound"], container);
    }
    let text = container["target"][resource].clone();
    if amount(container, "lowerBound") == Some(0) {
        container["lowerBound"][resource] = json!(if resource == "cpu" { "1m" } else { "1" });
    }
    if amount(container, "lowerBound").is_some_and(|lower| lower > target) {
        container["lowerBound"][resource] = text.clone();
    }
    if amount(container, "upperBound").is_some_and(|upper| upper < target) {
        container["upperBound"][resource] = text;
    }
}
