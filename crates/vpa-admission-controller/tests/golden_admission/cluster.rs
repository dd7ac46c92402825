//! The cluster of a case: stored objects, discovery and answers of the scale subresource.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serde::Deserialize;
use serde_json::Value;
use vpa_admission_controller::metrics::WebhookMetrics;
use vpa_admission_controller::webhook::{View, Views, Webhook};
use vpa_api::limit_range::LimitRange;
use vpa_api::{Quantity, VerticalPodAutoscaler};
use vpa_core::admit;
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::target::{
    Controller, ControllerKey, ControllerSource, Lookup, Selector, VpaIndex, WellKnown, controller_owner,
};

#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    feature_gates: Vec<String>,
    max_allowed_cpu_boost: Option<Quantity>,
}

impl Config {
    fn admit(&self) -> admit::Config {
        let on = |gate: &str| self.feature_gates.iter().any(|on| on == gate);
        admit::Config {
            gates: admit::Gates {
                in_place: on("InPlace"),
                per_vpa_config: on("PerVPAConfig"),
                cpu_startup_boost: on("CPUStartupBoost"),
            },
            max_allowed_cpu_boost: self.max_allowed_cpu_boost.clone(),
        }
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cluster {
    vpas: Vec<VerticalPodAutoscaler>,
    limit_ranges: Vec<LimitRange>,
    controllers: Vec<Value>,
    api_resources: Vec<ApiResource>,
    scales: Vec<ScaleAnswer>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiResource {
    group_version: String,
    name: String,
    kind: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScaleAnswer {
    group_version: String,
    resource: String,
    namespace: String,
    name: String,
    status: u16,
    scale: Option<Value>,
}

/// The webhook of a case.
pub(crate) fn webhook(config: &Config, cluster: &Cluster) -> Arc<Webhook> {
    let metrics = WebhookMetrics::new(&prometheus::Registry::new()).unwrap();
    Arc::new(Webhook::new(Arc::new(cluster.clone()), config.admit(), metrics))
}

impl Views for Cluster {
    fn view(&self) -> View {
        View {
            vpas: Arc::new(VpaIndex::new(self.vpas.iter().cloned().map(|mut vpa| {
                // As the program holds them.
                vpa_admission_controller::state::slim(&mut vpa);
                Arc::new(vpa)
            }))),
            controllers: Arc::new(self.clone()),
            limit_ranges: Arc::new(self.clone()),
            surroundings: None,
        }
    }

    fn resolve<'a>(&'a self, _: &'a ControllerKey) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

impl LimitRangeSource for Cluster {
    fn limit_ranges(&self, namespace: &str) -> Arc<LimitRanges> {
        let here = |object: &&LimitRange| object.metadata.namespace.as_deref() == Some(namespace);
        Arc::new(LimitRanges::merge(self.limit_ranges.iter().filter(here)))
    }
}

fn metadata(object: &Value) -> ObjectMeta {
    ObjectMeta::deserialize(&object["metadata"]).unwrap()
}

fn owner(metadata: &ObjectMeta) -> Option<ControllerKey> {
    let owners: &[OwnerReference] = metadata.owner_references.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    controller_owner(owners).map(|owner| ControllerKey::of_owner(namespace, owner))
}

fn found(
    key: &ControllerKey,
    object: &Value,
    selector: Result<Selector, vpa_core::target::SelectorError>,
) -> Lookup {
    let metadata = metadata(object);
    Lookup::Found(Arc::new(Controller {
        key: key.clone(),
        uid: metadata.uid.clone(),
        owner: owner(&metadata),
        selector,
        replicas: None,
        containers: None,
    }))
}

impl ControllerSource for Cluster {
    fn get(&self, key: &ControllerKey) -> Lookup {
        match key.well_known() {
            Some(kind) => self.well_known(key, kind),
            None => self.scale(key),
        }
    }
}

impl Cluster {
    fn well_known(&self, key: &ControllerKey, kind: WellKnown) -> Lookup {
        let object = self.controllers.iter().find(|object| {
            object["kind"] == kind.kind()
                && object["metadata"]["namespace"] == key.namespace.as_str()
                && object["metadata"]["name"] == key.name.as_str()
        });
        let Some(object) = object else { return Lookup::NotFound };
        let labels = |value: &Value| Option::<BTreeMap<String, String>>::deserialize(value).unwrap();
        let selector = match kind {
            WellKnown::CronJob => {
                let labels = labels(&object["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]);
                Selector::from_label_map(labels.as_ref())
            }
            WellKnown::ReplicationController => {
                Selector::from_label_map(labels(&object["spec"]["selector"]).as_ref())
            }
            _ => {
                let selector = Option::<LabelSelector>::deserialize(&object["spec"]["selector"]).unwrap();
                Selector::from_label_selector(selector.as_ref())
            }
        };
        found(key, object, selector)
    }

    fn scale(&self, key: &ControllerKey) -> Lookup {
        let Some(group) = key.group() else { return Lookup::Failed("not an API version".into()) };
        let of_group = |group_version: &str| group_version.split('/').next() == Some(group);
        let known = self.api_resources.iter().find(|r| of_group(&r.group_version) && r.kind == key.kind);
        let Some(known) = known else {
            // Discovery knows the kinds of the core group; none but the well-known ones can be scaled.
            return if group.is_empty() { Lookup::NotFound } else { Lookup::UnknownKind };
        };
        let answer = self.scales.iter().find(|answer| {
            of_group(&answer.group_version)
                && answer.resource == known.name
                && answer.namespace == key.namespace
                && answer.name == key.name
        });
        match answer {
            Some(ScaleAnswer { status: 200, scale: Some(scale), .. }) => {
                found(key, scale, Selector::parse(scale["status"]["selector"].as_str().unwrap_or_default()))
            }
            Some(ScaleAnswer { status: 403, .. }) => Lookup::Forbidden,
            Some(ScaleAnswer { status: 404, .. }) | None => Lookup::NotFound,
            Some(other) => Lookup::Failed(format!("status {}", other.status)),
        }
    }
}
