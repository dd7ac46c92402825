//! The rights of the programs: the chart's service accounts and roles, one set for each scenario.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::chart;
use crate::error::{Doing, Error, OnFile, Result};
use crate::kubeconfig::{self, Endpoint, Identity};
use crate::pki;
use crate::programs::Program;
use crate::tools::Tools;

/// Stands for the prefix of object names in the rendered file.
const NAME: &str = "release-name";
/// Stands for the release's namespace there.
const NAMESPACE: &str = "release-namespace";
/// Environment variable that has a stale rendered file written anew.
const UPDATE: &str = "E2E_UPDATE";

/// Kinds that make up the rights.
const KINDS: [&str; 5] = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];

/// Service accounts, roles and bindings as the chart renders them, so that a cluster can be set up without Helm.
fn rendered_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rbac.json")
}

/// Checks that the rendered file is what the chart gives today; writes it anew where `E2E_UPDATE` is set.
///
/// # Errors
/// If Helm fails, or the file is stale.
pub fn check_rendered_file(tools: &Tools) -> Result<()> {
    let values = [
        &format!("fullnameOverride={NAME}"),
        "admissionController.registerWebhook=true",
        "admissionController.tls.managed=true",
    ]
    .map(String::from);
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let mut objects = chart::render(tools, NAME, NAMESPACE, &values)?;
    objects.retain(|object| object.types.as_ref().is_some_and(|types| KINDS.contains(&types.kind.as_str())));
    // Labels carry the chart's version, which does not concern the rights; annotations say when Helm applies them.
    objects.iter_mut().for_each(|object| {
        object.metadata.labels = None;
        object.metadata.annotations = None;
    });
    objects.sort_by_key(chart::title);
    let text =
        serde_json::to_string_pretty(&objects).map_err(|error| Error::Chart(error.to_string()))? + "\n";
    let path = rendered_file();
    if std::env::var_os(UPDATE).is_some() {
        return pki::write(&path, &text);
    }
    if std::fs::read_to_string(&path).on_file(&path, "read")? == text {
        return Ok(());
    }
    Err(Error::Chart(format!("{} is not what the chart gives: run 'make chart'", path.display())))
}

/// The rights of one scenario's programs.
#[derive(Clone, Debug)]
pub struct Access {
    name: String,
    namespace: String,
}

impl Access {
    /// Creates service accounts, roles and bindings in and for the namespace `namespace`, which must exist.
    ///
    /// # Errors
    /// If the rendered file is not readable or the API server refuses an object.
    pub async fn install(client: &kube::Client, namespace: &str) -> Result<Self> {
        let path = rendered_file();
        let text = std::fs::read_to_string(&path).on_file(&path, "read")?;
        let text = text.replace(NAMESPACE, namespace).replace(NAME, namespace);
        let objects: Vec<DynamicObject> = serde_json::from_str(&text)
            .map_err(|error| Error::Chart(format!("{}: {error}", path.display())))?;
        for object in &objects {
            chart::create(client, object).await?;
        }
        Ok(Self { name: namespace.to_owned(), namespace: namespace.to_owned() })
    }

    /// Writes a kubeconfig with a token of the program's service account.
    ///
    /// # Errors
    /// If no token is issued or the file cannot be written.
    pub async fn kubeconfig(
        &self,
        client: &kube::Client,
        endpoint: &Endpoint,
        program: Program,
        dir: &Path,
    ) -> Result<PathBuf> {
        self.kubeconfig_of(client, endpoint, program.component(), dir).await
    }

    /// The same for a component that is no program of its own: `deregister`, the chart's hook.
    ///
    /// # Errors
    /// If no token is issued or the file cannot be written.
    pub async fn kubeconfig_of(
        &self,
        client: &kube::Client,
        endpoint: &Endpoint,
        component: &str,
        dir: &Path,
    ) -> Result<PathBuf> {
        let account = format!("{}-{component}", self.name);
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &self.namespace);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "audiences": [], "expirationSeconds": 7200 },
        });
        let what = format!("get a token for the service account {}/{account}", self.namespace);
        let answer: Value = accounts
            .create_subresource("token", &account, &PostParams::default(), &request)
            .await
            .doing(&what)?;
        let token = answer["status"]["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(Error::expectation(format!("cannot {what}: the answer holds none: {answer}")));
        }
        let path = kubeconfig::path(dir, component);
        kubeconfig::write(&path, endpoint, &Identity::Token(token.to_owned()))?;
        Ok(path)
    }

    /// Takes a resource away from the program's ClusterRole.
    ///
    /// # Errors
    /// If the role does not have it or cannot be changed.
    pub async fn revoke(&self, client: &kube::Client, program: Program, resource: &str) -> Result<()> {
        let name = self.object_name(program);
        let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(client.clone());
        let role = roles.get(&name).await.doing(format!("get ClusterRole {name}"))?;
        let mut rules = role.rules.unwrap_or_default();
        let before: usize = rules.iter().map(|rule| rule.resources.iter().flatten().count()).sum();
        for rule in &mut rules {
            if let Some(resources) = &mut rule.resources {
                resources.retain(|found| found != resource);
            }
        }
        rules.retain(|rule| rule.resources.as_ref().is_none_or(|resources| !resources.is_empty()));
        let after: usize = rules.iter().map(|rule| rule.resources.iter().flatten().count()).sum();
        if before == after {
            return Err(Error::expectation(format!("ClusterRole {name} has no rule for {resource}")));
        }
        roles
            .patch(&name, &PatchParams::default(), &Patch::Merge(json!({ "rules": rules })))
            .await
            .doing(format!("change ClusterRole {name}"))
            .map(drop)
    }

    fn object_name(&self, program: Program) -> String {
        format!("{}-{}", self.name, program.component())
    }
}
