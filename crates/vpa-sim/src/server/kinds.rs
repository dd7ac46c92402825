//! The kinds that the server knows: built in ones and those of CustomResourceDefinitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::schema::Schema;

/// Paths of the scale subresource within an object, as keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: Vec<String>,
    pub(crate) status_replicas: Vec<String>,
    /// Where a CRD keeps its selector as text; `None` for built in kinds, whose `spec.selector` is an object.
    pub(crate) selector: Option<Vec<String>>,
}

/// One served version of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// Checks and defaults of a CRD; built in kinds have theirs in code.
    pub(crate) schema: Option<Arc<Schema>>,
    pub(crate) status: bool,
    pub(crate) scale: Option<ScalePaths>,
}

/// A kind with its resource name.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    /// Served versions by name.
    pub(crate) versions: BTreeMap<String, Version>,
    /// Version that objects are kept in.
    pub(crate) storage: String,
    /// Subresources besides status and scale.
    pub(crate) extra: &'static [&'static str],
    pub(crate) custom: bool,
}

impl Kind {
    /// Key of the kind's table: `pods`, `deployments.apps`.
    /// Both event APIs show the same objects.
    pub(crate) fn table(&self) -> String {
        if self.group == "events.k8s.io" {
            return "events".to_owned();
        }
        super::error::group_resource(&self.group, &self.plural)
    }

    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// Whether updates of the specification count in `metadata.generation`.
    pub(crate) fn has_generation(&self) -> bool {
        if self.custom {
            return true;
        }
        !matches!(
            (self.group.as_str(), self.plural.as_str()),
            ("", plural) if plural != "pods" && plural != "replicationcontrollers"
        ) && !matches!(
            self.group.as_str(),
            "rbac.authorization.k8s.io" | "coordination.k8s.io" | "discovery.k8s.io" | "storage.k8s.io"
        )
    }
}

/// Group, version, kind, plural, short names, namespaced, status, scale, further subresources.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    bool,
    bool,
    bool,
    &'static [&'static str],
);

const NONE: &[&str] = &[];

/// Kinds that the suite, its scenarios and common clients touch.
const BUILT_IN: &[Row] = &[
    ("", "v1", "Pod", "pods", &["po"], true, true, false, &["binding", "eviction", "resize"]),
    ("", "v1", "Node", "nodes", &["no"], false, true, false, NONE),
    ("", "v1", "Namespace", "namespaces", &["ns"], false, true, false, &["finalize"]),
    ("", "v1", "Service", "services", &["svc"], true, true, false, NONE),
    ("", "v1", "Endpoints", "endpoints", &["ep"], true, false, false, NONE),
    ("", "v1", "ConfigMap", "configmaps", &["cm"], true, false, false, NONE),
    ("", "v1", "Secret", "secrets", NONE, true, false, false, NONE),
    ("", "v1", "ServiceAccount", "serviceaccounts", &["sa"], true, false, false, &["token"]),
    ("", "v1", "Event", "events", &["ev"], true, false, false, NONE),
    ("", "v1", "LimitRange", "limitranges", &["limits"], true, false, false, NONE),
    ("", "v1", "ResourceQuota", "resourcequotas", &["quota"], true, true, false, NONE),
    ("", "v1", "PersistentVolume", "persistentvolumes", &["pv"], false, true, false, NONE),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"], true, true, false, NONE),
    ("", "v1", "ReplicationController", "replicationcontrollers", &["rc"], true, true, true, NONE),
    ("apps", "v1", "Deployment", "deployments", &["deploy"], true, true, true, NONE),
    ("apps", "v1", "ReplicaSet", "replicasets", &["rs"], true, true, true, NONE),
    ("apps", "v1", "StatefulSet", "statefulsets", &["sts"], true, true, true, NONE),
    ("apps", "v1", "DaemonSet", "daemonsets", &["ds"], true, true, false, NONE),
    ("apps", "v1", "ControllerRevision", "controllerrevisions", NONE, true, false, false, NONE),
    ("batch", "v1", "Job", "jobs", NONE, true, true, false, NONE),
    ("batch", "v1", "CronJob", "cronjobs", &["cj"], true, true, false, NONE),
    (
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        &["hpa"],
        true,
        true,
        false,
        NONE,
    ),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", &["pdb"], true, true, false, NONE),
    ("coordination.k8s.io", "v1", "Lease", "leases", NONE, true, false, false, NONE),
    ("events.k8s.io", "v1", "Event", "events", &["ev"], true, false, false, NONE),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", NONE, true, false, false, NONE),
    ("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", &["pc"], false, false, false, NONE),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", NONE, true, false, false, NONE),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", NONE, true, false, false, NONE),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", NONE, false, false, false, NONE),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        NONE,
        false,
        false,
        false,
        NONE,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        NONE,
        false,
        false,
        false,
        NONE,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        NONE,
        false,
        false,
        false,
        NONE,
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        &["crd", "crds"],
        false,
        true,
        false,
        NONE,
    ),
    ("apiregistration.k8s.io", "v1", "APIService", "apiservices", NONE, false, true, false, NONE),
];

fn built_in(row: &Row) -> Kind {
    let (group, version, kind, plural, short_names, namespaced, status, scale, extra) = *row;
    let keys = |path: [&str; 2]| path.map(str::to_owned).to_vec();
    let scale = scale.then(|| ScalePaths {
        spec_replicas: keys(["spec", "replicas"]),
        status_replicas: keys(["status", "replicas"]),
        selector: None,
    });
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let in_all = matches!(plural, "pods" | "services" | "jobs" | "cronjobs") || group == "apps";
    Kind {
        group: group.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: owned(short_names),
        categories: if in_all { vec!["all".to_owned()] } else { Vec::new() },
        namespaced,
        versions: BTreeMap::from([(version.to_owned(), Version { schema: None, status, scale })]),
        storage: version.to_owned(),
        extra,
        custom: false,
    }
}

/// Every kind, by group and resource.
#[derive(Debug)]
pub(crate) struct Registry(BTreeMap<(String, String), Arc<Kind>>);

impl Registry {
    pub(crate) fn built_in() -> Self {
        let kinds = BUILT_IN.iter().map(|row| Arc::new(built_in(row)));
        Self(kinds.map(|kind| ((kind.group.clone(), kind.plural.clone()), kind)).collect())
    }

    pub(crate) fn get(&self, group: &str, resource: &str) -> Option<&Arc<Kind>> {
        self.0.get(&(group.to_owned(), resource.to_owned()))
    }

    /// Whether anything is served under that group and version.
    pub(crate) fn serves(&self, group: &str, version: &str) -> bool {
        self.0.values().any(|kind| kind.group == group && kind.versions.contains_key(version))
    }

    pub(crate) fn insert(&mut self, kind: Kind) {
        self.0.insert((kind.group.clone(), kind.plural.clone()), Arc::new(kind));
    }

    pub(crate) fn remove_custom(&mut self, group: &str, resource: &str) {
        let key = (group.to_owned(), resource.to_owned());
        if self.0.get(&key).is_some_and(|kind| kind.custom) {
            self.0.remove(&key);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.0.values()
    }
}
