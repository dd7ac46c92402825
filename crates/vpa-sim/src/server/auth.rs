//! Who asks, and whether they may.
//!
//! A request without a token, or with the token of the written kubeconfig, comes from the administrator. A token that
//! was issued for a service account is held to the cluster's Roles and ClusterRoles. Any other token is refused. The
//! server listens on loopback only, so the administrator's door stands open on purpose.

use std::collections::HashMap;

use parking_lot::RwLock;
use serde_json::Value;

use super::error::ApiError;
use super::request::{ResourcePath, Verb};
use super::store::{Key, Store};
use super::value::{items, text};

/// Token of the kubeconfig that the server writes.
pub(crate) const ADMIN_TOKEN: &str = "vpa-sim-admin";
/// Most tokens at a time; a cluster has a handful of service accounts with one.
const TOKENS_MAX: usize = 1024;

/// Someone who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl User {
    pub(crate) fn admin() -> Self {
        Self { name: "vpa-sim-admin".to_owned(), groups: vec!["system:masters".to_owned()] }
    }

    pub(crate) fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }

    fn is_admin(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }

    fn is_subject(&self, subject: &Value, binding_namespace: &str) -> bool {
        let name = text(subject, &["name"]);
        match text(subject, &["kind"]) {
            "User" => self.name == name,
            "Group" => self.groups.iter().any(|group| group == name),
            "ServiceAccount" => {
                let namespace = match text(subject, &["namespace"]) {
                    "" => binding_namespace,
                    namespace => namespace,
                };
                self.name == format!("system:serviceaccount:{namespace}:{name}")
            }
            _ => false,
        }
    }
}

/// Tokens that were issued.
#[derive(Debug, Default)]
pub(crate) struct Tokens(RwLock<HashMap<String, User>>);

impl Tokens {
    /// Issues a token; `None` if there are too many.
    pub(crate) fn issue(&self, user: User) -> Option<String> {
        let mut tokens = self.0.write();
        if tokens.len() >= TOKENS_MAX {
            return None;
        }
        let token = format!("vpa-sim-{}", super::names::uid());
        tokens.insert(token.clone(), user);
        Some(token)
    }

    /// Who a request with this `Authorization` header comes from.
    pub(crate) fn identify(&self, authorization: Option<&str>) -> Result<User, ApiError> {
        let Some(header) = authorization else { return Ok(User::admin()) };
        let token = header.strip_prefix("Bearer ").unwrap_or(header).trim();
        if token == ADMIN_TOKEN {
            return Ok(User::admin());
        }
        let known = self.0.read().get(token).cloned();
        known.ok_or_else(|| ApiError::new(401, "Unauthorized", "Unauthorized"))
    }
}

/// What is asked for, as RBAC sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Set for paths outside the API's resources.
    pub(crate) non_resource_path: String,
}

impl Access {
    pub(crate) fn of(path: &ResourcePath, verb: Verb) -> Self {
        Self {
            verb: verb.name().to_owned(),
            group: path.group.clone(),
            resource: path.resource.clone(),
            subresource: path.subresource.clone(),
            namespace: path.namespace.clone(),
            name: path.name.clone(),
            non_resource_path: String::new(),
        }
    }

    fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    fn refused(&self, user: &User) -> ApiError {
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", self.namespace)
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
            user.name,
            self.verb,
            self.full_resource(),
            self.group
        );
        ApiError::forbidden(&self.group, &self.resource, &self.name, &why)
    }

    fn allowed_by(&self, rule: &Value) -> bool {
        let holds = |list: &str, wanted: &str| {
            items(&rule[list])
                .iter()
                .any(|found| found.as_str().is_some_and(|found| found == "*" || found == wanted))
        };
        if !holds("verbs", &self.verb) {
            return false;
        }
        if !self.non_resource_path.is_empty() {
            return items(&rule["nonResourceURLs"]).iter().filter_map(Value::as_str).any(|url| {
                url == self.non_resource_path
                    || url.strip_suffix('*').is_some_and(|prefix| self.non_resource_path.starts_with(prefix))
            });
        }
        let any_of_subresource = format!("*/{}", self.subresource);
        let resource = holds("resources", &self.full_resource())
            || (!self.subresource.is_empty() && holds("resources", &any_of_subresource));
        let names = items(&rule["resourceNames"]);
        let name = names.is_empty() || names.iter().any(|name| name.as_str() == Some(self.name.as_str()));
        holds("apiGroups", &self.group) && resource && name
    }
}

/// Whether the cluster's roles let `user` do it.
pub(crate) fn may(store: &Store, user: &User, access: &Access) -> bool {
    if user.is_admin() {
        return true;
    }
    let everything = |table: &str, namespace: &str| {
        store.list(table, namespace, None, usize::MAX, |binding| {
            items(&binding["subjects"])
                .iter()
                .any(|subject| user.is_subject(subject, text(binding, &["metadata", "namespace"])))
        })
    };
    let role_allows = |binding: &Value, namespace: &str| {
        let name = text(binding, &["roleRef", "name"]);
        let role = match text(binding, &["roleRef", "kind"]) {
            "Role" => store.get("roles.rbac.authorization.k8s.io", &Key::new(namespace, name)),
            _ => store.get("clusterroles.rbac.authorization.k8s.io", &Key::new("", name)),
        };
        role.is_some_and(|role| items(&role["rules"]).iter().any(|rule| access.allowed_by(rule)))
    };
    let cluster = everything("clusterrolebindings.rbac.authorization.k8s.io", "");
    if cluster.objects.iter().any(|binding| role_allows(binding, "")) {
        return true;
    }
    if access.namespace.is_empty() {
        return false;
    }
    let local = everything("rolebindings.rbac.authorization.k8s.io", &access.namespace);
    local.objects.iter().any(|binding| role_allows(binding, &access.namespace))
}

/// Refuses what the roles do not allow.
pub(crate) fn authorize(store: &Store, user: &User, access: &Access) -> Result<(), ApiError> {
    if may(store, user, access) { Ok(()) } else { Err(access.refused(user)) }
}
