//! Objects of the well-known kinds, down to what a VPA asks of them.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use compact_str::CompactString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::Resource;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use vpa_core::target::{Controller, ControllerKey, Selector, WellKnown, controller_owner};

use crate::store::Stored;

/// An object of the well-known kind `K`: its [`Controller`] and its version, a few hundred bytes instead of kilobytes.
#[derive(Debug)]
pub struct Workload<K> {
    version: Option<CompactString>,
    /// What a VPA asks of it.
    pub controller: Arc<Controller>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()> + 'static> Stored for Workload<K> {
    fn url_path(namespace: Option<&str>) -> String {
        K::url_path(&(), namespace)
    }

    fn namespace(&self) -> &str {
        &self.controller.key.namespace
    }

    fn name(&self) -> &str {
        &self.controller.key.name
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

/// All fields that any of the kinds has.
#[derive(Deserialize)]
struct Raw {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMeta {
    name: String,
    #[serde(default)]
    namespace: String,
    uid: Option<String>,
    resource_version: Option<CompactString>,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    /// A map of labels on a ReplicationController, else a label selector.
    selector: Option<serde_json::Value>,
    replicas: Option<i32>,
    parallelism: Option<i32>,
    template: Option<RawTemplate>,
    job_template: Option<RawJobTemplate>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    desired_number_scheduled: Option<i32>,
}

#[derive(Deserialize)]
struct RawJobTemplate {
    spec: Option<RawJobSpec>,
}

#[derive(Deserialize)]
struct RawJobSpec {
    template: Option<RawTemplate>,
}

#[derive(Deserialize)]
struct RawTemplate {
    metadata: Option<RawTemplateMeta>,
    spec: Option<RawPodSpec>,
}

#[derive(Deserialize)]
struct RawTemplateMeta {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPodSpec {
    containers: Option<Vec<RawContainer>>,
    init_containers: Option<Vec<RawContainer>>,
}

#[derive(Deserialize)]
struct RawContainer {
    name: String,
}

impl<'de, K: Resource<DynamicType = ()>> Deserialize<'de> for Workload<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw { metadata, spec, status } = Raw::deserialize(deserializer)?;
        let known =
            WellKnown::from_kind(&K::kind(&())).ok_or_else(|| D::Error::custom("not a well-known kind"))?;
        let selector = selector(known, &spec).map_err(|e| D::Error::custom(format!("spec.selector: {e}")))?;
        let RawMeta { name, namespace, uid, resource_version, owner_references } = metadata;
        let template = match known {
            WellKnown::CronJob => spec.job_template.and_then(|job| job.spec?.template),
            _ => spec.template,
        };
        let owner = controller_owner(owner_references.iter().flatten())
            .map(|owner| ControllerKey::of_owner(&namespace, owner));
        let controller = Controller {
            key: ControllerKey {
                namespace,
                api_version: known.api_version().to_owned(),
                kind: known.kind().to_owned(),
                name,
            },
            uid,
            owner,
            selector,
            replicas: match known {
                WellKnown::DaemonSet => status.desired_number_scheduled,
                WellKnown::Job => spec.parallelism,
                WellKnown::CronJob => None,
                _ => spec.replicas,
            },
            containers: template.and_then(|template| template.spec).map(|pod| {
                let (main, init) = (pod.containers, pod.init_containers);
                main.into_iter().chain(init).flatten().map(|container| container.name).collect()
            }),
        };
        Ok(Self { version: resource_version, controller: Arc::new(controller), kind: PhantomData })
    }
}

/// The selector of a kind. The outer error is one of form, which makes the object undecodable; the inner one is a
/// selector that the API server would not take either, which is the target's business to report.
fn selector(
    known: WellKnown,
    spec: &RawSpec,
) -> Result<Result<Selector, vpa_core::target::SelectorError>, serde_json::Error> {
    Ok(match known {
        WellKnown::CronJob => {
            let template = spec.job_template.as_ref().and_then(|job| job.spec.as_ref()?.template.as_ref());
            Selector::from_label_map(
                template.and_then(|template| template.metadata.as_ref()?.labels.as_ref()),
            )
        }
        WellKnown::ReplicationController => {
            let labels: Option<BTreeMap<String, String>> =
                spec.selector.as_ref().map(BTreeMap::deserialize).transpose()?;
            Selector::from_label_map(labels.as_ref())
        }
        _ => {
            let selector: Option<LabelSelector> =
                spec.selector.as_ref().map(LabelSelector::deserialize).transpose()?;
            Selector::from_label_selector(selector.as_ref())
        }
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
    use k8s_openapi::api::batch::v1::{CronJob, Job};
    use k8s_openapi::api::core::v1::ReplicationController;
    use serde_json::{Value, json};

    use super::*;

    fn read<K: Resource<DynamicType = ()>>(value: Value) -> Arc<Controller> {
        serde_json::from_str::<Workload<K>>(&value.to_string()).unwrap().controller
    }

    fn matches(controller: &Controller, app: &str) -> bool {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        controller.selector.as_ref().unwrap().matches(&labels)
    }

    #[test]
    fn each_kind_has_its_selector_and_number() {
        let template = json!({"metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "x", "image": "i"}], "initContainers": [{"name": "y"}]}});
        let meta = json!({"name": "n", "namespace": "ns", "uid": "u", "resourceVersion": "7",
            "ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1"},
                {"apiVersion": "example.com/v1", "kind": "B", "name": "b", "uid": "2", "controller": true}]});
        let selector = json!({"matchLabels": {"app": "a"}});

        let deployment = read::<Deployment>(json!({"metadata": meta,
            "spec": {"selector": selector, "replicas": 3, "template": template}}));
        assert_eq!(deployment.replicas, Some(3));
        assert_eq!(deployment.containers, Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(deployment.owner.as_ref().unwrap().kind, "B");
        assert!(matches(&deployment, "a") && !matches(&deployment, "b"));

        let daemon_set = read::<DaemonSet>(json!({"metadata": meta, "spec": {"selector": selector},
            "status": {"desiredNumberScheduled": 4}}));
        assert_eq!((daemon_set.replicas, daemon_set.containers.clone()), (Some(4), None));

        let job = read::<Job>(json!({"metadata": meta, "spec": {"selector": selector, "parallelism": 2}}));
        assert_eq!(job.replicas, Some(2));

        let cron_job = read::<CronJob>(json!({"metadata": meta,
            "spec": {"jobTemplate": {"spec": {"template": template}}}}));
        assert_eq!((cron_job.replicas, matches(&cron_job, "a")), (None, true));
        assert_eq!(cron_job.containers.as_ref().unwrap().len(), 2);

        let rc = read::<ReplicationController>(json!({"metadata": meta, "spec": {"selector": {"app": "a"}}}));
        assert!(matches(&rc, "a") && !matches(&rc, "b"));
    }

    #[test]
    fn a_malformed_object_is_undecodable_and_a_bad_selector_is_kept() {
        let bad = json!({"metadata": {"name": "n"}, "spec": {"selector": {"matchLabels": "x"}}}).to_string();
        assert!(serde_json::from_str::<Workload<Deployment>>(&bad).is_err());
        let odd = read::<Deployment>(json!({"metadata": {"name": "n"},
            "spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}}));
        assert!(odd.selector.is_err());
        assert!(!matches(&read::<Deployment>(json!({"metadata": {"name": "n"}})), "a"));
    }
}
