//! Names of controllers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use vpa_api::VerticalPodAutoscaler;

/// A kind of controller that Kubernetes itself brings, read in full rather than through the scale subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WellKnown {
    /// `batch/v1`
    CronJob,
    /// `apps/v1`
    DaemonSet,
    /// `apps/v1`
    Deployment,
    /// `batch/v1`
    Job,
    /// `apps/v1`
    ReplicaSet,
    /// `v1`
    ReplicationController,
    /// `apps/v1`
    StatefulSet,
}

impl WellKnown {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CronJob,
        Self::DaemonSet,
        Self::Deployment,
        Self::Job,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::StatefulSet,
    ];

    /// The kind of this name (with case).
    pub fn from_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.kind() == kind)
    }

    /// Kind as objects write it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::CronJob => "CronJob",
            Self::DaemonSet => "DaemonSet",
            Self::Deployment => "Deployment",
            Self::Job => "Job",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::StatefulSet => "StatefulSet",
        }
    }

    /// API version it is served under.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::CronJob | Self::Job => "batch/v1",
            Self::ReplicationController => "v1",
            Self::DaemonSet | Self::Deployment | Self::ReplicaSet | Self::StatefulSet => "apps/v1",
        }
    }
}

/// Names one controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControllerKey {
    /// Namespace.
    pub namespace: String,
    /// `group/version`, or the version alone for the core group.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl ControllerKey {
    /// The controller that an owner reference of an object in `namespace` names.
    pub fn of_owner(namespace: &str, owner: &OwnerReference) -> Self {
        Self {
            namespace: namespace.to_owned(),
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        }
    }

    /// The controller that a VPA's `targetRef` names; `None` without one.
    pub fn of_target(vpa: &VerticalPodAutoscaler) -> Option<Self> {
        let target = vpa.spec.target_ref.as_ref()?;
        Some(Self {
            namespace: vpa.metadata.namespace.clone().unwrap_or_default(),
            api_version: target.api_version.clone().unwrap_or_default(),
            kind: target.kind.clone(),
            name: target.name.clone(),
        })
    }

    /// The API group, empty for the core group; `None` where `api_version` has more than one slash.
    pub fn group(&self) -> Option<&str> {
        match self.api_version.split_once('/') {
            None => Some(""),
            Some((_, version)) if version.contains('/') => None,
            Some((group, _)) => Some(group),
        }
    }

    /// The well-known kind, if it is one.
    pub fn well_known(&self) -> Option<WellKnown> {
        WellKnown::from_kind(&self.kind)
    }
}

impl std::fmt::Display for ControllerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
