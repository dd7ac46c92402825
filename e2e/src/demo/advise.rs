//! What the suite would recommend for a cluster that exists. Nothing is changed there: every request is a GET.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vpa_api::pod::Pod;
use vpa_api::{Quantity, ResourceList};
use vpa_core::model::{ContainerId, Settings, VpaId};
use vpa_core::recommend::{Config, Offline, WorkloadRecommendation};
use vpa_core::target::{
    Controller, ControllerKey, ControllerSource, Lookup, Selector, controller_owner, topmost_of_pod,
};
use vpa_sim::simulate::amounts::Amounts;

use super::observe::text;
use super::paint::{Colour, Table, cores, count, memory};
use super::screen::Screen;
use crate::error::{Doing, Error, Result};
use crate::kubeconfig;

/// Time between two readings of the metrics API; metrics-server has new values every 15 s.
const READ: Duration = Duration::from_secs(5);

/// Objects of a page of a list.
const PAGE: u32 = 500;

/// Kinds of controllers that are looked through, and their resource names.
const KINDS: [(&str, &str, &str, &str); 7] = [
    ("", "v1", "ReplicationController", "replicationcontrollers"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("batch", "v1", "Job", "jobs"),
    ("batch", "v1", "CronJob", "cronjobs"),
];

/// Looks at the cluster of `kubeconfig` for `sample` and prints what would be recommended for each workload.
///
/// # Errors
/// If the cluster cannot be reached, or pods or metrics cannot be read.
pub async fn run(kubeconfig: &Path, sample: Duration) -> Result<()> {
    let client = connect(kubeconfig).await?;
    let mut screen = Screen::new();
    screen.print(&[
        format!(
            "Looking at the cluster of {} for {} s. Nothing is changed there.",
            kubeconfig.display(),
            sample.as_secs()
        ),
        "(Without KUBECONFIG, or with CLUSTER=sim, a cluster of its own is started instead.)".to_owned(),
    ]);
    let mut look = Look::new(&client, &mut screen).await?;
    let started = Instant::now();
    loop {
        look.read(&client).await?;
        let elapsed = started.elapsed();
        if elapsed >= sample {
            break;
        }
        let line = || format!("{:>4} s  {} read", elapsed.as_secs(), count(look.samples, "sample"));
        screen.show(elapsed, || vec![line()], line);
        tokio::select! {
            () = tokio::time::sleep(READ.min(sample.saturating_sub(elapsed))) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    let found = look.offline.recommend(Timestamp::now());
    if found.is_empty() {
        return Err(Error::expectation(
            "the metrics API told of no container of a known workload; does metrics-server run?",
        ));
    }
    screen.print(&report(&found, &look));
    Ok(())
}

/// A client for one kubeconfig, or for several as kubectl merges them (`KUBECONFIG=a:b`).
async fn connect(path: &Path) -> Result<Client> {
    if path.exists() {
        return kubeconfig::client(path).await;
    }
    let failed = |error: &dyn std::fmt::Display| Error::Client(format!("{}: {error}", path.display()));
    let merged = Kubeconfig::from_env().map_err(|error| failed(&error))?;
    let merged = merged.ok_or_else(|| failed(&"there is no such file"))?;
    let config = kube::Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default()).await;
    Client::try_from(config.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
}

/// What was found so far.
struct Look {
    offline: Offline,
    /// Kind and name of the workloads, and what a pod of each requests.
    workloads: BTreeMap<VpaId, (String, Amounts)>,
    /// The last time read of each pod.
    seen: HashMap<(String, String), Timestamp>,
    samples: usize,
}

impl Look {
    async fn new(client: &Client, screen: &mut Screen) -> Result<Self> {
        let mut owners = Owners::default();
        for (group, version, kind, plural) in KINDS {
            let resource =
                ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
            match list::<DynamicObject>(Api::all_with(client.clone(), &resource)).await {
                Ok(objects) => owners.add(&resource, objects),
                Err(error) => screen.print(&[format!("{plural} are left out: {error}")]),
            }
        }
        let pods: Vec<Pod> = list(Api::all(client.clone())).await.doing("list pods")?;
        let now = Timestamp::now();
        let mut look = Self {
            offline: Offline::new(Settings::default(), Config::default()),
            workloads: BTreeMap::new(),
            seen: HashMap::new(),
            samples: 0,
        };
        let mut known = BTreeSet::new();
        for pod in &pods {
            let Ok(Some(controller)) = topmost_of_pod(&owners, pod) else { continue };
            let Ok(selector) = controller.selector.clone() else { continue };
            if known.insert(controller.key.clone()) {
                let id = look.offline.workload(&controller, selector, now);
                let title = format!("{} {}", controller.key.kind, controller.key.name);
                look.workloads.insert(id, (title, requests(pod)));
            }
            look.offline.pod(pod, now);
        }
        screen.print(&[format!("{} of {}", count(pods.len(), "pod"), count(known.len(), "workload"))]);
        Ok(look)
    }

    async fn read(&mut self, client: &Client) -> Result<()> {
        let request = http::Request::get("/apis/metrics.k8s.io/v1beta1/pods").body(Vec::new());
        let request = request.map_err(|error| Error::Client(error.to_string()))?;
        let answer: PodMetricsList =
            client.request(request).await.doing("read the metrics API (metrics-server)")?;
        let now = Timestamp::now();
        for pod in answer.items {
            let name = (pod.metadata.namespace.unwrap_or_default(), pod.metadata.name.unwrap_or_default());
            if self.seen.insert(name.clone(), pod.timestamp) == Some(pod.timestamp) {
                continue;
            }
            for container in pod.containers {
                let id = ContainerId::new(&name.0, &name.1, &container.name);
                let cpu = container.usage.get("cpu").map(Quantity::milli_value_saturating);
                let memory = container.usage.get("memory").map(Quantity::value_saturating);
                // Containers of pods without a known workload are of no interest.
                if self.offline.usage(&id, pod.timestamp, cpu, memory, now).is_ok() {
                    self.samples += 1;
                }
            }
        }
        Ok(())
    }
}

/// Controllers by kind, namespace and name.
#[derive(Default)]
struct Owners(HashMap<(String, String, String), Arc<Controller>>);

impl Owners {
    fn add(&mut self, resource: &ApiResource, objects: Vec<DynamicObject>) {
        for object in objects {
            let namespace = object.metadata.namespace.clone().unwrap_or_default();
            let name = object.metadata.name.clone().unwrap_or_default();
            let owners = object.metadata.owner_references.clone().unwrap_or_default();
            let controller = Controller {
                key: ControllerKey {
                    namespace: namespace.clone(),
                    api_version: resource.api_version.clone(),
                    kind: resource.kind.clone(),
                    name: name.clone(),
                },
                uid: object.metadata.uid.clone(),
                owner: controller_owner(&owners).map(|owner| ControllerKey::of_owner(&namespace, owner)),
                selector: selector(&resource.kind, &object.data),
                replicas: None,
                containers: None,
            };
            self.0.insert((resource.kind.clone(), namespace, name), Arc::new(controller));
        }
    }
}

impl ControllerSource for Owners {
    fn get(&self, key: &ControllerKey) -> Lookup {
        let found = self.0.get(&(key.kind.clone(), key.namespace.clone(), key.name.clone()));
        // An owner of another kind counts as one without a scale: the controller below it is taken.
        found.map_or(Lookup::NotFound, |controller| Lookup::Found(controller.clone()))
    }
}

fn selector(kind: &str, data: &Value) -> std::result::Result<Selector, vpa_core::target::SelectorError> {
    let labels = |value: &Value| BTreeMap::<String, String>::deserialize(value).ok();
    match kind {
        "CronJob" => Selector::from_label_map(
            labels(&data["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]).as_ref(),
        ),
        "ReplicationController" => Selector::from_label_map(labels(&data["spec"]["selector"]).as_ref()),
        _ => {
            Selector::from_label_selector(LabelSelector::deserialize(&data["spec"]["selector"]).ok().as_ref())
        }
    }
}

/// The part of the metrics API that is read.
#[derive(Deserialize)]
struct PodMetricsList {
    #[serde(default)]
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: kube::api::ObjectMeta,
    timestamp: Timestamp,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: ResourceList,
}

/// Everything, a page at a time.
async fn list<K>(api: Api<K>) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut params = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = ListParams::default().limit(PAGE).continue_token(&token),
            None => return Ok(all),
        }
    }
}

fn requests(pod: &Pod) -> Amounts {
    let containers =
        pod.spec.containers.iter().map(|container| amounts(container.resources.requests.as_ref()));
    containers.fold(Amounts::default(), Amounts::plus)
}

fn amounts(list: Option<&ResourceList>) -> Amounts {
    let amount = |name: &str| list.and_then(|list| list.get(name));
    Amounts {
        cpu_millis: amount("cpu").map_or(0, Quantity::milli_value_saturating),
        memory_bytes: amount("memory").map_or(0, Quantity::value_saturating),
    }
}

fn report(found: &[WorkloadRecommendation], look: &Look) -> Vec<String> {
    let mut table = Table::new(&[2]);
    let title = |text: &str| (Colour::Dim, text.to_owned());
    table.row(
        ["NAMESPACE", "WORKLOAD", "PODS", "REQUESTED", "WOULD RECOMMEND", "EACH POD"].map(title).to_vec(),
    );
    let (mut before, mut after) = (Amounts::default(), Amounts::default());
    for one in found {
        let containers = one.recommendation.container_recommendations.iter().flatten();
        let target = containers.fold(Amounts::default(), |sum, each| sum.plus(amounts(Some(&each.target))));
        let unknown = (one.workload.name.to_string(), Amounts::default());
        let (name, requests) = look.workloads.get(&one.workload).unwrap_or(&unknown);
        for _ in 0..one.pods {
            (before, after) = (before.plus(*requests), after.plus(target));
        }
        table.row(vec![
            (Colour::Dim, one.workload.namespace.to_string()),
            (Colour::Bold, name.clone()),
            (Colour::Plain, one.pods.to_string()),
            (Colour::Plain, text(*requests)),
            (Colour::Cyan, text(target)),
            change(*requests, target),
        ]);
    }
    let mut lines = vec![String::new()];
    lines.extend(table.lines());
    lines.push(String::new());
    lines.push(format!(
        " All together: {} cores {} requested, {} cores {} would be recommended.",
        cores(before.cpu_millis),
        memory(before.memory_bytes),
        cores(after.cpu_millis),
        memory(after.memory_bytes)
    ));
    lines.push(
        " Nothing was changed. These are first estimates from a short look: the suite itself learns for days, and so \
         sees nightly peaks too."
            .to_owned(),
    );
    lines
}

fn change(requests: Amounts, target: Amounts) -> (Colour, String) {
    let part = |millis: i64| if millis > 0 { "+" } else { "" };
    let more = target.minus(requests);
    let colour = if more.cpu_millis <= 0 && more.memory_bytes <= 0 { Colour::Green } else { Colour::Yellow };
    let cpu = format!("{}{}m", part(more.cpu_millis), more.cpu_millis);
    (colour, format!("{cpu} {}{}", part(more.memory_bytes), memory(more.memory_bytes)))
}
