//! What scenarios look at in pods.

use k8s_openapi::api::core::v1::Pod;

/// Whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Name of a pod.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// A request of the container `app` in the pod's spec.
pub fn request(pod: &Pod, resource: &str) -> String {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.iter().find(|c| c.name == "app"));
    let requests = container.and_then(|c| c.resources.as_ref()?.requests.as_ref());
    requests
        .and_then(|requests| requests.get(resource))
        .map(|quantity| quantity.0.clone())
        .unwrap_or_default()
}

/// Restarts of the container `app`.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .filter(|status| status.name == "app")
        .map(|status| status.restart_count)
        .sum()
}

/// Pods in one line, for failures.
pub fn describe(pods: &[Pod]) -> String {
    let one = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        let ready = if is_ready(pod) { "ready" } else { "not ready" };
        let conditions: Vec<String> = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .filter(|condition| condition.type_.starts_with("PodResize"))
            .map(|condition| format!(" {}={}", condition.type_, condition.reason.clone().unwrap_or_default()))
            .collect();
        format!(
            "{} {phase} {ready} cpu={} memory={} restarts={}{}",
            name(pod),
            request(pod, "cpu"),
            request(pod, "memory"),
            restarts(pod),
            conditions.concat()
        )
    };
    if pods.is_empty() { "no pods".to_owned() } else { pods.iter().map(one).collect::<Vec<_>>().join("; ") }
}
