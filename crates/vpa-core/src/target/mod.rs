//! Whose pods a VPA controls.
//!
//! A pod belongs to a chain of controllers: a ReplicaSet of a Deployment of a custom resource. The topmost one that is
//! well known or has the scale subresource ([`topmost`]) is what a VPA's `targetRef` must name, and that controller's
//! selector must match the pod's labels ([`controlling`]). Where several VPAs name it, the oldest wins.
//!
//! Controllers come from a [`ControllerSource`]: a cache in the programs, a map in tests.

mod chain;
mod key;
mod matching;
mod selector;

pub use chain::{ChainError, MAX_CHAIN, climb, controller_owner, topmost, topmost_of_pod};
pub use key::{ControllerKey, WellKnown};
pub use matching::{VpaIndex, VpaSource, controlling, pod_namespace, stronger};
pub use selector::{Operator, Requirement, Selector, SelectorError};

use std::sync::Arc;

/// A controller of pods, as far as the suite needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Controller {
    /// Which one it is.
    pub key: ControllerKey,
    /// UID, where the source knows it (the scale subresource carries the object's).
    pub uid: Option<String>,
    /// The controller above it: the first owner reference with `controller: true`.
    pub owner: Option<ControllerKey>,
    /// Which pods are its own, or why that cannot be said.
    pub selector: Result<Selector, SelectorError>,
    /// Desired pods: `spec.replicas`, for a DaemonSet `status.numberReady`, for a Job `spec.parallelism`.
    /// `None` where the kind has no such number.
    pub replicas: Option<i32>,
    /// Names of the main and init containers of the pod template; `None` where the source does not see the template.
    pub containers: Option<Vec<String>>,
}

/// Answer of a [`ControllerSource`].
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The controller: of a well-known kind, or one whose scale subresource answered.
    Found(Arc<Controller>),
    /// There is no such object, or its kind has no scale subresource (the API server answers 404 to both).
    NotFound,
    /// The API server does not serve the kind.
    UnknownKind,
    /// The API server does not let this program see it.
    Forbidden,
    /// Not known yet; ask again once the source has looked it up.
    Pending,
    /// The look-up failed, for this reason.
    Failed(String),
}

/// Where controllers are looked up.
///
/// A kind in [`WellKnown`] is looked up by namespace, kind and name whatever the API version says, as the Go suite
/// does. Any other kind is looked up by its group, through the scale subresource.
pub trait ControllerSource {
    /// Looks up one controller, without waiting.
    fn get(&self, key: &ControllerKey) -> Lookup;
}

impl<S: ControllerSource + ?Sized> ControllerSource for &S {
    fn get(&self, key: &ControllerKey) -> Lookup {
        (**self).get(key)
    }
}

impl ControllerSource for std::collections::BTreeMap<ControllerKey, Lookup> {
    fn get(&self, key: &ControllerKey) -> Lookup {
        let known = WellKnown::from_kind(&key.kind).is_some();
        self.iter()
            .find(|(k, _)| {
                k.namespace == key.namespace
                    && k.kind == key.kind
                    && k.name == key.name
                    && (known || k.group() == key.group())
            })
            .map_or(Lookup::NotFound, |(_, lookup)| lookup.clone())
    }
}

#[cfg(test)]
mod tests;
