//! What the updater keeps of a pod.

use vpa_api::names::pod_condition;
use vpa_api::pod::Pod;

/// Conditions that decisions read.
const CONDITIONS: [&str; 3] = ["Ready", pod_condition::RESIZE_PENDING, pod_condition::RESIZE_IN_PROGRESS];

/// Drops what no decision reads, of the little that a [`Pod`] keeps: there are tens of thousands of them.
pub(crate) fn slim(pod: &mut Pod) {
    pod.metadata.generate_name = None;
    pod.metadata.finalizers = None;
    let conditions = &mut pod.status.conditions;
    conditions.retain(|condition| CONDITIONS.contains(&condition.type_.as_str()));
    conditions.shrink_to_fit();
    for container in &mut pod.spec.containers {
        // A resource without a policy needs no restart either.
        container.resize_policy.retain(|policy| policy.restart_policy != "NotRequired");
        container.resize_policy.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vpa_core::update::ResizePhase;

    use super::*;

    #[test]
    fn what_decisions_read_stays() {
        let condition =
            |type_: &str, reason: &str| json!({ "type": type_, "status": "True", "reason": reason });
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "generateName": "p-", "annotations": { "a": "b" } },
            "spec": { "containers": [{ "name": "c", "resizePolicy": [
                { "resourceName": "cpu", "restartPolicy": "NotRequired" },
                { "resourceName": "memory", "restartPolicy": "RestartContainer" },
            ] }] },
            "status": { "conditions": [
                condition("Initialized", ""), condition("PodResizePending", "Deferred"), condition("Ready", ""),
            ] },
        }))
        .unwrap();
        let phase = ResizePhase::of(&pod);
        slim(&mut pod);
        assert_eq!(ResizePhase::of(&pod), phase);
        let policies = &pod.spec.containers[0].resize_policy;
        assert_eq!((policies.len(), policies[0].resource_name.as_str()), (1, "memory"));
        let types: Vec<_> = pod.status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["PodResizePending", "Ready"]);
        assert!(pod.metadata.annotations.is_some() && pod.metadata.generate_name.is_none());
    }
}
