//! Bounds of a policy that the namespace or the nodes cannot meet.

use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::vpa::ContainerResourcePolicy;
use vpa_api::{Quantity, ResourceList};

use super::rivals::controls;
use super::{Subject, Warnings};
use crate::policy::LimitRanges;

/// Warns of bounds with which pods could not be created or scheduled. A VPA's own bounds are applied last, so they win over
/// the limits of the namespace, and the API server refuses the pod.
pub(super) fn advise(subject: &Subject<'_>, warnings: &mut Warnings) {
    let policies = subject.vpa.spec.resource_policy.as_ref();
    let policies = policies.and_then(|policy| policy.container_policies.as_deref()).unwrap_or_default();
    if policies.is_empty() {
        return;
    }
    let limits = subject.snapshot.limit_ranges.limit_ranges(subject.namespace());
    for (i, policy) in policies.iter().enumerate() {
        for resource in [CPU, MEMORY].into_iter().filter(|resource| controls(policy, resource)) {
            let check = Check { subject, limits: &limits, resource, place: i };
            check.run(policy, warnings);
        }
    }
}

/// One resource of one policy.
struct Check<'a> {
    subject: &'a Subject<'a>,
    limits: &'a LimitRanges,
    resource: &'static str,
    /// Place of the policy in its list.
    place: usize,
}

impl Check<'_> {
    fn run(&self, policy: &ContainerResourcePolicy, warnings: &mut Warnings) {
        let Self { resource, limits, subject, .. } = self;
        let (min, max) = (self.bound(policy.min_allowed.as_ref()), self.bound(policy.max_allowed.as_ref()));
        let namespace = subject.namespace();
        let limits = limits.container.as_ref();
        let (lowest, highest) = (
            self.bound(limits.and_then(|l| l.min.as_ref())),
            self.bound(limits.and_then(|l| l.max.as_ref())),
        );
        if let Some((min, highest)) = min.zip(highest).filter(|(min, highest)| min > highest) {
            warnings.push(&self.field("minAllowed"), || {
                format!(
                    "{min} is above the most that a LimitRange of namespace {namespace:?} allows a container, {highest}; pods \
                     that get it are refused"
                )
            });
        }
        if let Some((max, lowest)) = max.zip(lowest).filter(|(max, lowest)| max < lowest) {
            warnings.push(&self.field("maxAllowed"), || {
                format!(
                    "{max} is below the least that a LimitRange of namespace {namespace:?} allows a container, {lowest}; pods \
                     that get it are refused"
                )
            });
        }
        let Some(largest) = subject.surroundings.largest_node(resource) else { return };
        // Where the minimum is too much the maximum is too.
        if let Some(min) = min.filter(|min| **min > largest) {
            warnings.push(&self.field("minAllowed"), || {
                format!(
                    "{min} is more than any node can give to pods, {largest}; pods that get it stay Pending"
                )
            });
        } else if let Some(max) = max.filter(|max| **max > largest) {
            warnings.push(&self.field("maxAllowed"), || {
                format!(
                    "{max} is more than any node can give to pods, {largest}; a recommendation above that would leave pods \
                     Pending"
                )
            });
        }
    }

    /// A bound of zero is none.
    fn bound<'a>(&self, list: Option<&'a ResourceList>) -> Option<&'a Quantity> {
        list?.get(self.resource).filter(|amount| amount.milli_value_saturating() > 0)
    }

    fn field(&self, bound: &str) -> String {
        let Self { place, resource, .. } = self;
        format!("spec.resourcePolicy.containerPolicies[{place}].{bound}[{resource}]")
    }
}
