//! Warnings that help: a VPA that is allowed, and yet will not do what its owner wants.
//!
//! They never refuse anything, and are only given where the snapshot has [`Surroundings`]: the Go suite has none of them.

mod bounds;
mod rivals;
mod target;
#[cfg(test)]
mod tests;

use vpa_api::VerticalPodAutoscaler;
use vpa_api::vpa::{PodResourcePolicy, PodUpdatePolicy};

use super::surroundings::Surroundings;
use super::vpas::VpaInput;
use super::{Operation, Request, Snapshot};
use crate::target::ControllerKey;

/// Most warnings about one VPA, so that with the length below all of them stay within the 4,096 characters that the API
/// server passes on, the ones of the validation included.
const WARNINGS_MAX: usize = 10;

/// Most characters of a warning; the API server cuts longer ones when there are many.
const CHARS_MAX: usize = 256;

/// What there is to say about a VPA.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Advice {
    pub(super) warnings: Vec<String>,
    /// The target, where it may be on its way into the source or is being looked up: a later answer may have another
    /// warning, or none.
    pub(super) awaits: Option<ControllerKey>,
}

/// Looks at a VPA that has been found valid. `old` is what it was, on an update.
///
/// A change of anything but the spec gets no advice: labels, finalizers and the ever repeated apply of a GitOps tool say
/// nothing about the target and the bounds, and who ignored a warning once is not to be nagged.
pub(super) fn advise(
    request: &Request<'_>,
    vpa: &VpaInput,
    old: Option<&VpaInput>,
    snapshot: &Snapshot<'_>,
) -> Advice {
    let mut advice = Advice::default();
    let Some(surroundings) = snapshot.surroundings else { return advice };
    let unchanged = old.is_some_and(|old| old.spec == vpa.spec);
    if unchanged || !request.sub_resource.is_empty() || !surroundings.covers(&request.namespace) {
        return advice;
    }
    let subject = Subject {
        vpa: object(request, vpa),
        created: request.operation == Operation::Create,
        snapshot,
        surroundings,
    };
    let mut warnings = Warnings::default();
    advice.awaits = target::advise(&subject, &mut warnings);
    rivals::advise(&subject, &mut warnings);
    bounds::advise(&subject, &mut warnings);
    advice.warnings = warnings.finish();
    advice
}

/// What advice is given about, and against what.
struct Subject<'a> {
    /// The VPA, with the namespace and name of the request.
    vpa: VerticalPodAutoscaler,
    /// It is new.
    created: bool,
    snapshot: &'a Snapshot<'a>,
    surroundings: &'a dyn Surroundings,
}

impl Subject<'_> {
    fn namespace(&self) -> &str {
        self.vpa.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The target, unless the reference names nothing.
    fn target(&self) -> Option<ControllerKey> {
        ControllerKey::of_target(&self.vpa).filter(|key| !key.kind.is_empty() && !key.name.is_empty())
    }
}

/// The VPA as other parts know it, as far as advice looks at it.
fn object(request: &Request<'_>, input: &VpaInput) -> VerticalPodAutoscaler {
    let VpaInput { spec, metadata } = input;
    let own = metadata.as_ref();
    let mut vpa = VerticalPodAutoscaler::default();
    vpa.metadata.namespace = Some(request.namespace.clone());
    vpa.metadata.name =
        own.and_then(|own| own.name.clone()).or_else(|| Some(request.name.clone())).filter(|n| !n.is_empty());
    vpa.metadata.creation_timestamp = own.and_then(|own| own.creation_timestamp.clone());
    vpa.spec.target_ref.clone_from(&spec.target_ref);
    vpa.spec.startup_boost.clone_from(&spec.startup_boost);
    vpa.spec.update_policy = spec.update_policy.as_ref().map(|policy| PodUpdatePolicy {
        update_mode: policy.update_mode.as_deref().map(Into::into),
        ..PodUpdatePolicy::default()
    });
    vpa.spec.resource_policy = spec
        .resource_policy
        .as_ref()
        .map(|policy| PodResourcePolicy { container_policies: Some(policy.container_policies.clone()) });
    vpa
}

/// Warnings, as many as are given.
#[derive(Default)]
struct Warnings {
    texts: Vec<String>,
    left_out: usize,
}

impl Warnings {
    /// Adds one about a field, if there is still room.
    fn push(&mut self, field: &str, text: impl FnOnce() -> String) {
        // The last place is for the number of those that are left out.
        if self.texts.len() + 1 < WARNINGS_MAX {
            self.texts.push(cut(format!("{field}: {}", text())));
        } else {
            self.left_out += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.texts.push(format!("spec: {} more warnings are left out", self.left_out));
        }
        self.texts
    }
}

fn cut(text: String) -> String {
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    text.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}
