//! Recommendations without writing anything: for a demonstration, or for a look at a cluster that is not managed yet.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::CrossVersionObjectReference;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::pod::Pod;
use vpa_api::vpa::{RecommendedPodResources, VerticalPodAutoscalerSpec};

use super::config::Config;
use super::plan::plan;
use super::report::ContainerReport;
use crate::model::{ApplyError, ClusterState, ContainerId, Observation, Settings, Target, VpaId};
use crate::target::{Controller, Selector};

/// What the suite would recommend for workloads that have no VPA.
///
/// Tell it of [workloads](Self::workload) and [pods](Self::pod), feed it [usage](Self::usage), as often as there is any,
/// and ask for [recommendations](Self::recommend). Nothing leaves it but the answer.
#[derive(Debug)]
pub struct Offline {
    state: ClusterState,
    config: Config,
}

/// What the suite would recommend for one workload.
#[derive(Clone, Debug)]
pub struct WorkloadRecommendation {
    /// Namespace and name of the workload; the name has its kind before it: `deployment-web`.
    pub workload: VpaId,
    /// Pods of it that were seen.
    pub pods: usize,
    /// The recommendation as it would stand in the status of a VPA.
    pub recommendation: RecommendedPodResources,
    /// How it came about, by container.
    pub containers: Vec<ContainerReport>,
}

impl Offline {
    /// With these settings; `Default::default()` are those of the programs.
    pub fn new(settings: Settings, config: Config) -> Self {
        Self { state: ClusterState::new(settings), config }
    }

    /// A workload whose pods the selector finds, as if a VPA without a policy named it. Returns the id under which it
    /// will be reported.
    pub fn workload(&mut self, controller: &Controller, selector: Selector, now: Timestamp) -> VpaId {
        let key = &controller.key;
        let name = format!("{}-{}", key.kind.to_lowercase(), key.name);
        let mut vpa = VerticalPodAutoscaler::new(
            &name,
            VerticalPodAutoscalerSpec {
                target_ref: Some(CrossVersionObjectReference {
                    api_version: Some(key.api_version.clone()),
                    kind: key.kind.clone(),
                    name: key.name.clone(),
                }),
                ..VerticalPodAutoscalerSpec::default()
            },
        );
        vpa.metadata.namespace = Some(key.namespace.clone());
        self.vpa(Arc::new(vpa), Target::Found(selector), now)
    }

    /// A VPA of one's own making or one that exists, with what its target led to.
    pub fn vpa(&mut self, vpa: Arc<VerticalPodAutoscaler>, target: Target, now: Timestamp) -> VpaId {
        let id = VpaId::of_vpa(&vpa);
        // A VPA is always taken.
        let _ = self.state.apply(Observation::Vpa(vpa, target), now);
        id
    }

    /// A pod, as it is now.
    pub fn pod(&mut self, pod: &Pod, now: Timestamp) {
        // A pod is always taken.
        let _ = self.state.apply(Observation::Pod(&pod.into()), now);
    }

    /// Usage of a container at a time: CPU in millicores, memory in bytes.
    ///
    /// # Errors
    /// Says why a sample was not taken; the other one then may have been.
    pub fn usage(
        &mut self,
        container: &ContainerId,
        time: Timestamp,
        millicores: Option<i64>,
        bytes: Option<i64>,
        now: Timestamp,
    ) -> Result<(), ApplyError> {
        let cpu = millicores
            .map(|millicores| self.state.apply(Observation::Cpu { container, time, millicores }, now));
        let memory = bytes.map(|bytes| self.state.apply(Observation::Memory { container, time, bytes }, now));
        cpu.into_iter().chain(memory).collect()
    }

    /// The recommendations, in order of namespace and name; workloads of which no pod was seen are left out.
    pub fn recommend(&mut self, now: Timestamp) -> Vec<WorkloadRecommendation> {
        let plan = plan(&mut self.state, &self.config, now);
        let mut statuses: std::collections::BTreeMap<_, _> =
            plan.statuses.into_iter().map(|write| (write.vpa, write.status)).collect();
        let reports = plan.report.vpas.into_iter().filter(|report| report.pods > 0);
        reports
            .filter_map(|report| {
                Some(WorkloadRecommendation {
                    recommendation: statuses.remove(&report.vpa)?.recommendation?,
                    workload: report.vpa,
                    pods: report.pods,
                    containers: report.containers,
                })
            })
            .collect()
    }
}
