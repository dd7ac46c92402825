//! Any pod under any VPA and any limits.

use serde::Deserialize;
use serde_json::Value;
use vpa_api::limit_range::LimitRange;
use vpa_api::{Quantity, VerticalPodAutoscaler};
use vpa_core::policy::LimitRanges;

use crate::sound::{self, Facts};
use crate::{Problem, Worth, cluster, ensure, glue, review};

#[derive(Deserialize)]
struct Input {
    pod: Value,
    vpa: Value,
    #[serde(default)]
    limit_ranges: Vec<LimitRange>,
    max_allowed_cpu_boost: Option<Quantity>,
}

/// Admits a pod under a VPA that names its controller, in a namespace with limits, with every gate on.
///
/// The input has the members `pod`, `vpa`, `limit_ranges` and `max_allowed_cpu_boost`; owner and target are put in here.
///
/// # Errors
/// What is wrong with the answer.
pub fn pod(input: &[u8]) -> Result<Worth, Problem> {
    let Ok(Input { mut pod, mut vpa, limit_ranges, max_allowed_cpu_boost }) = serde_json::from_slice(input)
    else {
        return Ok(Worth::Nothing);
    };
    if cluster::bind(&mut vpa, &mut pod).is_none() {
        return Ok(Worth::Nothing);
    }
    let Ok(vpa) = VerticalPodAutoscaler::deserialize(vpa) else { return Ok(Worth::Nothing) };
    admit(&pod, &vpa, &LimitRanges::merge(&limit_ranges), max_allowed_cpu_boost.as_ref())?;
    Ok(Worth::Checked)
}

/// The review of a pod that the VPA names, and why nothing could be done for it, if so.
pub(crate) fn admit(
    pod: &Value,
    vpa: &VerticalPodAutoscaler,
    limits: &LimitRanges,
    max_boost: Option<&Quantity>,
) -> Result<Option<String>, Problem> {
    let facts = Facts::new(vpa, limits, max_boost);
    let cluster =
        cluster::with(vpa.clone(), limits.clone(), glue::config(true, true, true, max_boost.cloned()));
    let body = glue::review_of(("", "pods"), "Pod", "CREATE", pod, &Value::Null);
    let Some(found) = review::decide(&body, &cluster)? else {
        return Err("the review cannot be decoded".to_owned());
    };
    ensure(found.reviewed.decision.allowed(), || "a pod is refused".to_owned())?;
    if let Some((before, after)) = found.patched(&body)? {
        sound::pod(&before, &after, &found.operations, &facts)?;
    }
    Ok(found.reviewed.failed)
}
