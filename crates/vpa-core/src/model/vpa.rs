//! What the model keeps of a VPA.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::CrossVersionObjectReference;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::vpa::ContainerResourcePolicy;

use super::checkpoints::Saved;
use super::history::History;
use super::namespace::{ByContainer, GroupId};
use crate::policy::container_policy;
use crate::target::Selector;

/// What a VPA's `targetRef` led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Its pods have labels that meet this selector.
    Found(Selector),
    /// The object cannot be served as it is written; the message says why. Counts at once.
    Unsupported(String),
    /// There is no such object; the message says so. History is kept for a grace time.
    Gone(String),
    /// It cannot be told for now, for instance because the API server does not answer; the message says why. What was
    /// known before stays in force.
    Failed(String),
    /// The look-up is under way. What was known before stays in force, and a VPA of which nothing is known is left
    /// alone until it is.
    Pending,
}

impl Target {
    /// What to tell the owner; `None` where all is well or nothing is known yet.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Found(_) | Self::Pending => None,
            Self::Unsupported(message) | Self::Gone(message) | Self::Failed(message) => Some(message),
        }
    }
}

/// State of a VPA.
#[derive(Clone, Debug)]
pub struct VpaState {
    /// The object as last seen.
    pub object: Arc<VerticalPodAutoscaler>,
    /// What its `targetRef` led to, at the last look-up.
    pub target: Target,
    /// Since when the target has been gone.
    pub(super) gone_since: Option<Timestamp>,
    /// The selector found last, for the `targetRef` that it was found for.
    pub(super) known: Option<(CrossVersionObjectReference, Selector)>,
    /// Whether pods are selected: with the selector found last, though the target may not be found for a moment.
    pub(super) serving: bool,
    /// Label sets whose pods are selected, in the order of the labels.
    pub(super) groups: Vec<GroupId>,
    /// History from checkpoints, by container name.
    pub(super) history: ByContainer<History>,
    /// What is known of the checkpoint of each container.
    pub(super) saved: ByContainer<Saved>,
    /// Since when the bounds are other ones than those published, though by little.
    pub(crate) bounds_since: Option<Timestamp>,
}

impl VpaState {
    pub(super) fn new(object: Arc<VerticalPodAutoscaler>) -> Self {
        Self {
            object,
            target: Target::Pending,
            gone_since: None,
            known: None,
            serving: false,
            groups: Vec::new(),
            history: ByContainer::new(),
            saved: ByContainer::new(),
            bounds_since: None,
        }
    }

    /// The policy of one of its containers.
    pub fn policy(&self, container: &str) -> Option<&ContainerResourcePolicy> {
        container_policy(container, self.object.spec.resource_policy.as_ref())
    }

    /// Whether pods are selected.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// Whether pods are selected by what was found earlier, because the target is not found at present.
    pub fn is_held(&self) -> bool {
        self.serving && !matches!(self.target, Target::Found(_))
    }

    /// The selector that is in force; `None` where no pod is selected.
    pub(super) fn selector(&self) -> Option<&Selector> {
        self.known.as_ref().filter(|_| self.serving).map(|(_, selector)| selector)
    }

    /// Takes note of a look-up. Returns whether other pods may be selected than before.
    pub(super) fn set_target(&mut self, target: Target, grace: jiff::SignedDuration, now: Timestamp) -> bool {
        let reference = self.object.spec.target_ref.clone().unwrap_or_default();
        let before = self.selector().cloned();
        if self.known.as_ref().is_some_and(|(known, _)| *known != reference) {
            // Another workload from here on: what is known of the old one says nothing about it.
            self.known = None;
            self.serving = false;
            self.history.clear();
            self.gone_since = None;
        }
        match &target {
            Target::Found(selector) => {
                if self.known.as_ref().is_some_and(|(_, known)| known != selector) {
                    self.history.clear();
                }
                self.known = Some((reference, selector.clone()));
                self.serving = true;
                self.gone_since = None;
            }
            Target::Unsupported(_) => self.serving = false,
            Target::Gone(_) => {
                let since = *self.gone_since.get_or_insert(now);
                if now.duration_since(since) >= grace {
                    self.serving = false;
                    self.known = None;
                    self.history.clear();
                }
            }
            Target::Failed(_) | Target::Pending => {}
        }
        self.target = target;
        self.selector() != before.as_ref()
    }

    /// Whether a published recommendation must not be overwritten, because what it rests on is only out of sight.
    pub fn must_wait(&self, grace: jiff::SignedDuration, now: Timestamp) -> bool {
        match self.target {
            Target::Found(_) | Target::Unsupported(_) => false,
            Target::Failed(_) | Target::Pending => !self.serving,
            Target::Gone(_) => {
                !self.serving && self.gone_since.is_some_and(|since| now.duration_since(since) < grace)
            }
        }
    }
}
