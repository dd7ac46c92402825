//! What the admission controller answers.
//!
//! [`decode`] reads a review into a [`Request`] whose parts are all there; [`review`] decides it against a [`Snapshot`]
//! of the cluster. A pod that is created under a VPA gets patches for its requests and limits; a VPA that is created or
//! changed is validated and gets its default update policy. A pod is never refused: what goes wrong is in the
//! [`Report`], and the pod is admitted as it is.

mod boost;
mod field;
mod pod;
mod pods;
mod request;
mod shallow;
mod surroundings;
mod validation;
mod vpas;
mod warnings;

pub use field::{FieldError, Reason};
pub use request::{DecodeError, GroupVersionResource, Operation, Request, decode};
pub use surroundings::{Autoscaler, ScaledOn, Surroundings};

use serde::Serialize;
use serde_json::Value;
use vpa_api::Quantity;

use crate::policy::LimitRangeSource;
use crate::target::{ControllerKey, ControllerSource, VpaSource};

/// Feature gates that admission looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// VPAs may use the update mode `InPlace`.
    pub in_place: bool,
    /// VPAs may set their own OOM and memory-window parameters.
    pub per_vpa_config: bool,
    /// VPAs may ask for a startup boost, and pods get it.
    pub cpu_startup_boost: bool,
}

/// Settings of admission.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Feature gates.
    pub gates: Gates,
    /// Most CPU that a boosted container gets; none or zero for no bound.
    pub max_allowed_cpu_boost: Option<Quantity>,
}

/// The cluster at one moment.
#[derive(Clone, Copy)]
pub struct Snapshot<'a> {
    /// VPAs by what they target.
    pub vpas: &'a dyn VpaSource,
    /// Controllers of pods.
    pub controllers: &'a dyn ControllerSource,
    /// Limits of namespaces.
    pub limit_ranges: &'a dyn LimitRangeSource,
    /// What warnings about a VPA look at; none for the warnings of the Go suite alone.
    pub surroundings: Option<&'a dyn Surroundings>,
    /// Settings.
    pub config: &'a Config,
}

/// One operation of a JSON patch; only additions are made (which replace what is there).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Patch {
    /// Always `add`.
    pub op: &'static str,
    /// JSON pointer into the object.
    pub path: String,
    /// What is put there.
    pub value: Value,
}

impl Patch {
    fn add(path: String, value: impl Into<Value>) -> Self {
        Self { op: "add", path, value: value.into() }
    }
}

/// Why an object is refused, as the API server shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Denial {
    /// API group of the object.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object; may be empty.
    pub name: String,
    /// What is wrong with it, at least one.
    pub causes: Vec<FieldError>,
}

impl Denial {
    /// All causes in one line, each text once.
    pub fn message(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for cause in &self.causes {
            let text = cause.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let Self { group, kind, name, .. } = self;
        let joined = texts.join(", ");
        let joined = if texts.len() == 1 { joined } else { format!("[{joined}]") };
        format!("{kind}.{group} {name:?} is invalid: {joined}")
    }
}

/// The kind of object a review was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reviewed {
    /// A pod.
    Pod,
    /// A VPA.
    Vpa,
    /// Something that this webhook is not for.
    Other,
}

/// What came of a review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There are patches.
    Applied,
    /// There is nothing to change, for this reason.
    Skipped(String),
    /// The object was refused.
    Denied,
    /// The object could not be looked at, for this reason; it is admitted as it is.
    Failed(String),
    /// A controller is still being looked up, or is not there (yet): review again once the source knows it, or admit
    /// the pod as it is.
    Pending(ControllerKey),
}

/// For logs and metrics.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Report {
    /// What was reviewed.
    pub reviewed: Reviewed,
    /// What came of it.
    pub outcome: Outcome,
    /// Name of the VPA that controls the pod.
    pub vpa: Option<String>,
}

/// Answer to a review.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Decision {
    /// Why the object is refused; `None` admits it.
    pub denial: Option<Denial>,
    /// What to change in the object.
    pub patches: Vec<Patch>,
    /// Texts that the API server shows to the user.
    pub warnings: Vec<String>,
    /// What happened.
    pub report: Report,
}

impl Decision {
    /// Whether the object is admitted.
    pub fn allowed(&self) -> bool {
        self.denial.is_none()
    }

    fn admit(reviewed: Reviewed, outcome: Outcome) -> Self {
        let report = Report { reviewed, outcome, vpa: None };
        Self { denial: None, patches: Vec::new(), warnings: Vec::new(), report }
    }
}

/// Decides a review.
pub fn review(request: &Request<'_>, snapshot: &Snapshot<'_>) -> Decision {
    match (request.resource.group.as_str(), request.resource.resource.as_str()) {
        ("", "pods") => pods::review(request, snapshot),
        (vpa_api::names::GROUP, "verticalpodautoscalers") => vpas::review(request, snapshot),
        (group, resource) => {
            let reason = format!("resource {resource:?} of group {group:?} is not for this webhook");
            Decision::admit(Reviewed::Other, Outcome::Failed(reason))
        }
    }
}

#[cfg(test)]
mod tests;
