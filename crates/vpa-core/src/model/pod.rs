//! A pod, down to what the recommender takes from it.

use std::collections::BTreeMap;

use compact_str::CompactString;
use jiff::Timestamp;
use litemap::LiteMap;
use serde::Deserialize;
use vpa_api::Quantity;
use vpa_api::names::resource::MEMORY;
use vpa_api::pod::{ContainerStateTerminated, ContainerStatus, Pod};

use super::ids::PodId;
use crate::policy::current_resources;

/// Labels of a pod.
pub type Labels = LiteMap<CompactString, CompactString>;

/// See the [module](self). A pod of one container takes about half a kilobyte; read from the JSON of a whole [`Pod`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Pod")]
pub struct ObservedPod {
    /// Which one it is.
    pub id: PodId,
    /// Its resource version.
    pub version: Option<CompactString>,
    /// Its labels.
    pub labels: Labels,
    /// Its main containers.
    pub containers: Box<[ObservedContainer]>,
    /// Names of the containers that run before the main ones.
    pub init_containers: Box<[CompactString]>,
    /// State of the main containers, where there is one.
    pub statuses: Box<[ObservedStatus]>,
    /// Whether it is neither succeeded nor failed.
    pub active: bool,
    /// Value of its priority class.
    pub priority: i32,
    /// When it was created.
    pub created: Option<Timestamp>,
}

/// A main container.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedContainer {
    /// Its name.
    pub name: CompactString,
    /// Its memory request in force, in bytes; 0 where it has none.
    pub memory_request: i64,
    /// Whether the kubelet reported the request, so that it is not from the spec.
    pub reported: bool,
}

/// State of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedStatus {
    /// Name of the container.
    pub container: CompactString,
    /// Times it was started again.
    pub restarts: i32,
    /// The present run, if it has ended.
    pub current: Option<Box<EndedRun>>,
    /// The run before, if it ended.
    pub last: Option<Box<EndedRun>>,
}

/// A run of a container that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRun {
    /// Whether it was killed for using too much memory.
    pub oom_killed: bool,
    /// Its start.
    pub started: Option<Timestamp>,
    /// Its end.
    pub ended: Option<Timestamp>,
}

impl ObservedPod {
    /// A main container.
    pub fn container(&self, name: &str) -> Option<&ObservedContainer> {
        self.containers.iter().find(|container| container.name == name)
    }
}

/// Labels as the API has them.
pub fn labels(labels: &BTreeMap<String, String>) -> Labels {
    labels.iter().map(|(key, value)| (key.into(), value.into())).collect()
}

impl From<&Pod> for ObservedPod {
    fn from(pod: &Pod) -> Self {
        let container = |name: &str| {
            let (requests, _) = current_resources(name, pod);
            let mut statuses = pod.status.container_statuses.iter();
            ObservedContainer {
                name: name.into(),
                memory_request: requests
                    .and_then(|requests| requests.get(MEMORY))
                    .map_or(0, Quantity::value_saturating),
                reported: statuses.any(|status| status.name == name && status.resources.is_some()),
            }
        };
        Self {
            id: PodId::of_pod(pod),
            version: pod.metadata.resource_version.as_deref().map(Into::into),
            labels: labels(pod.labels()),
            containers: pod.spec.containers.iter().map(|c| container(&c.name)).collect(),
            init_containers: pod.spec.init_containers.iter().map(|c| c.name.as_str().into()).collect(),
            statuses: pod.status.container_statuses.iter().map(Into::into).collect(),
            active: !matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")),
            priority: pod.spec.priority.unwrap_or(0),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        }
    }
}

impl From<Pod> for ObservedPod {
    fn from(pod: Pod) -> Self {
        Self::from(&pod)
    }
}

impl From<&ContainerStatus> for ObservedStatus {
    fn from(status: &ContainerStatus) -> Self {
        let run = |run: &Option<ContainerStateTerminated>| run.as_ref().map(|run| Box::new(run.into()));
        Self {
            container: status.name.as_str().into(),
            restarts: status.restart_count,
            current: run(&status.state.terminated),
            last: run(&status.last_state.terminated),
        }
    }
}

impl From<&ContainerStateTerminated> for EndedRun {
    fn from(run: &ContainerStateTerminated) -> Self {
        Self {
            oom_killed: run.reason.as_deref() == Some("OOMKilled"),
            started: run.started_at.as_ref().map(|time| time.0),
            ended: run.finished_at.as_ref().map(|time| time.0),
        }
    }
}
