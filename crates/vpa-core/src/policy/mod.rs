//! How a recommendation becomes the requests and limits of one pod.
//!
//! A recommendation is capped in this order, and a later step may break an earlier one: LimitRange of the pod, LimitRange
//! of the container, the VPA's own policy, and for `RequestsOnly` the container's limit ([`process`]). Limits then follow
//! requests in the proportion that the pod has ([`container_resources`]). The recommender applies the VPA's policy
//! alone ([`apply_vpa_policy`]), since limit ranges belong to the pod's admission.
//!
//! Steps leave short notes on what they changed; the admission controller writes them into the pod's annotation.

mod capping;
mod containers;
mod limit_range;
mod mode;
mod pod_limits;
mod scaling;

pub use capping::{Notes, Processed, apply_vpa_policy, depends_on_requests, process};
pub use containers::{
    ContainerResources, container_policy, container_resources, controlled_values, current_resources,
    recommendation_for,
};
pub use limit_range::{Bounds, LimitRangeSource, LimitRanges};
pub use mode::{Mode, has_startup_boost, mode};
pub use scaling::{Limits, boundary_request, proportional_limit, proportional_limits};

#[cfg(test)]
mod tests;
