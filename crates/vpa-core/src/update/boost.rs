//! The end of a CPU startup boost.
//!
//! The admission controller gives a pod more CPU while it starts and writes what the container had before into an
//! annotation of the pod. Once the pod has been Ready for the boost's duration, the updater takes the boost back with a
//! resize and removes the annotation.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use vpa_api::names::annotation::CPU_STARTUP_BOOST_PREFIX;
use vpa_api::pod::Pod;
use vpa_api::{ResourceList, VerticalPodAutoscaler};

use crate::policy::container_policy;

/// What a container had before its boost, as the annotation tells it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct OriginalResources {
    /// Requests before the boost.
    #[serde(default)]
    pub requests: Option<ResourceList>,
    /// Limits before the boost.
    #[serde(default)]
    pub limits: Option<ResourceList>,
}

/// An annotation that does not say what a container had before its boost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {annotation} of pod {pod}: {reason}; restart the pod, or write the requests and limits it should have"
)]
pub struct BoostError {
    /// Namespace and name of the pod.
    pub pod: String,
    /// Key of the annotation.
    pub annotation: String,
    /// What is wrong with its value.
    pub reason: String,
}

/// Whether a container of the pod has a startup boost, of whichever VPA.
pub fn is_boosted(pod: &Pod) -> bool {
    pod.annotations().keys().any(|key| key.starts_with(CPU_STARTUP_BOOST_PREFIX))
}

/// Key of the annotation for a container.
pub(super) fn annotation_key(container: &str) -> String {
    format!("{CPU_STARTUP_BOOST_PREFIX}{container}")
}

/// Keys of the boost annotations whose time is over, in order: the pod is Ready and has been for longer than the boost
/// lasts. A VPA that sets no duration, or has no boost any more, ends it as soon as the pod is Ready.
pub fn expired_annotations(pod: &Pod, vpa: &VerticalPodAutoscaler, now: Timestamp) -> Vec<String> {
    let Some(ready) =
        pod.status.conditions.iter().find(|c| c.type_ == "Ready").filter(|c| c.status == "True")
    else {
        return Vec::new();
    };
    let ready_for = ready.last_transition_time.as_ref().map(|since| now.duration_since(since.0));
    let is_over = |container: &str| {
        let duration = duration(container, vpa);
        // A Ready condition without a time has been Ready for ever.
        duration.is_zero() || ready_for.is_none_or(|time| time > duration)
    };
    let containers =
        pod.annotations().keys().filter_map(|key| Some((key, key.strip_prefix(CPU_STARTUP_BOOST_PREFIX)?)));
    containers.filter(|(_, container)| is_over(container)).map(|(key, _)| key.clone()).collect()
}

/// How long a container's boost outlasts the moment its pod becomes Ready: its own setting, else the pod's, else nothing.
fn duration(container: &str, vpa: &VerticalPodAutoscaler) -> SignedDuration {
    let seconds = |boost: Option<&vpa_api::vpa::StartupBoost>| boost?.cpu.as_ref()?.duration_seconds;
    let own = container_policy(container, vpa.spec.resource_policy.as_ref())
        .and_then(|p| seconds(p.startup_boost.as_ref()));
    let seconds = own.or_else(|| seconds(vpa.spec.startup_boost.as_ref())).unwrap_or(0);
    SignedDuration::from_secs(i64::from(seconds))
}

/// What a container had before its boost; `None` without an annotation.
///
/// # Errors
/// When the annotation cannot be read.
pub fn original_resources(pod: &Pod, container: &str) -> Result<Option<OriginalResources>, BoostError> {
    let key = annotation_key(container);
    let Some(value) = pod.annotations().get(&key) else { return Ok(None) };
    let parsed: Result<Option<OriginalResources>, _> = serde_json::from_str(value);
    match parsed {
        Ok(original) => Ok(Some(original.unwrap_or_default())),
        Err(error) => {
            Err(BoostError { pod: super::group::pod_name(pod), annotation: key, reason: error.to_string() })
        }
    }
}
