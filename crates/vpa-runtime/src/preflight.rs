//! What has to be in order before a program starts to work: the cluster answers, the CRDs are there, the rights are.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use serde::Deserialize;

use crate::client::{chain, repeat};
use crate::errors::MissingPermission;
use crate::{Cluster, Error};

/// How long CRDs and roles that were applied a moment ago may take to become effective.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// Time between two looks.
const SETTLE_POLL: Duration = Duration::from_millis(500);
/// Questions about rights at once. There are a few dozen, each a millisecond for the API server.
const REVIEWS_AT_ONCE: usize = 8;
/// Waits before a question about a right is asked again after an answer of a failing server, or none. The client repeats no
/// creation that may have been done, but a review leaves nothing behind, and one bad answer to dozens of questions is no
/// reason to end.
const REVIEW_WAITS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// A kind that has to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crd {
    /// API group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Plural resource name.
    pub plural: &'static str,
}

/// The `VerticalPodAutoscaler`.
pub const VPA_CRD: Crd =
    Crd { group: vpa_api::names::GROUP, version: "v1", plural: "verticalpodautoscalers" };
/// The `VerticalPodAutoscalerCheckpoint`.
pub const CHECKPOINT_CRD: Crd =
    Crd { group: vpa_api::names::GROUP, version: "v1", plural: "verticalpodautoscalercheckpoints" };

/// A right that a program needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: Option<&'static str>,
    namespace: Option<String>,
    name: Option<String>,
    purpose: &'static str,
    optional: bool,
}

impl Permission {
    /// The right to `verb` a `resource` (`pods`, or `pods/eviction`) of `group` in all namespaces, in order to
    /// `purpose` ("evict pods").
    pub fn new(
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        purpose: &'static str,
    ) -> Self {
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (resource, None),
        };
        Self { verb, group, resource, subresource, namespace: None, name: None, purpose, optional: false }
    }

    /// The rights to get, list and watch a resource, which a store needs.
    pub fn read(group: &'static str, resource: &'static str, purpose: &'static str) -> [Self; 3] {
        ["get", "list", "watch"].map(|verb| Self::new(verb, group, resource, purpose))
    }

    /// Only in this namespace; `None` for all.
    #[must_use]
    pub fn in_namespace(mut self, namespace: Option<&str>) -> Self {
        self.namespace = namespace.map(str::to_owned);
        self
    }

    /// Only on the object of this name, as roles with `resourceNames` grant it.
    #[must_use]
    pub fn on(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Without it the program works less well: its absence is a warning.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    fn missing(&self) -> MissingPermission {
        let resource = match self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource),
            None => self.resource.to_owned(),
        };
        MissingPermission {
            verb: self.verb.to_owned(),
            group: self.group.to_owned(),
            resource,
            namespace: self.namespace.clone(),
            purpose: self.purpose.to_owned(),
        }
    }
}

/// Asks the API server for its version.
///
/// # Errors
/// [`Error::ClusterUnreachable`], after the client's attempts, or [`Error::Unauthorized`].
pub async fn reachable(cluster: &Cluster) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "gitVersion", default)]
        git_version: String,
    }
    let text = get(cluster, "/version").await?.ok_or_else(|| Error::ClusterUnreachable {
        url: cluster.url.clone(),
        reason: "what answers there is not a Kubernetes API server: it has no /version".to_owned(),
    })?;
    let version: Version = serde_json::from_str(&text).map_err(|_| Error::ClusterUnreachable {
        url: cluster.url.clone(),
        reason: "what answers there is not a Kubernetes API server: its /version is no version".to_owned(),
    })?;
    Ok(version.git_version)
}

/// Makes sure that kinds are served.
///
/// # Errors
/// [`Error::CrdsMissing`], when they are not after a few seconds.
pub async fn crds(cluster: &Cluster, crds: &[Crd]) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + SETTLE_MAX;
    loop {
        let mut missing = Vec::new();
        for crd in crds {
            if !serves(cluster, crd).await? {
                missing.push(format!("{}.{}/{}", crd.plural, crd.group, crd.version));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Error::CrdsMissing(missing));
        }
        tokio::time::sleep(SETTLE_POLL).await;
    }
}

async fn serves(cluster: &Cluster, crd: &Crd) -> Result<bool, Error> {
    #[derive(Deserialize)]
    struct Resources {
        #[serde(default)]
        resources: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        name: String,
    }
    let path = format!("/apis/{}/{}", crd.group, crd.version);
    let Some(text) = get(cluster, &path).await? else { return Ok(false) };
    let list: Resources = serde_json::from_str(&text)
        .map_err(|e| Error::other(format!("reading the resources under {path}"), e))?;
    Ok(list.resources.iter().any(|resource| resource.name == crd.plural))
}

/// Text of a path of the API; `None` where there is nothing.
async fn get(cluster: &Cluster, path: &str) -> Result<Option<String>, Error> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|e| Error::other(path, e))?;
    match cluster.client.request_text(request).await {
        Ok(text) => Ok(Some(text)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 401 => {
            Err(Error::Unauthorized { url: cluster.url.clone(), reason: status.message })
        }
        Err(kube::Error::Api(status)) if status.code < 500 => {
            Err(Error::other(format!("GET {path}"), status.message))
        }
        Err(error) => Err(Error::ClusterUnreachable { url: cluster.url.clone(), reason: chain(&error) }),
    }
}

/// Makes sure that rights are there. Where the API server does not answer such questions, they count as there.
///
/// # Errors
/// [`Error::PermissionMissing`] with all that are missing after a few seconds.
pub async fn permissions(cluster: &Cluster, wanted: &[Permission]) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + SETTLE_MAX;
    let mut open: Vec<Permission> = wanted.to_vec();
    loop {
        open = refused(cluster, open).await?;
        if !open.iter().any(|permission| !permission.optional) {
            break;
        }
        if tokio::time::Instant::now() >= deadline {
            let missing =
                open.iter().filter(|permission| !permission.optional).map(Permission::missing).collect();
            return Err(Error::PermissionMissing(missing));
        }
        tokio::time::sleep(SETTLE_POLL).await;
    }
    for permission in open {
        let missing = permission.missing();
        tracing::warn!(%missing, rule = missing.rule(), "a permission is missing; going on without");
    }
    Ok(())
}

/// Those that are refused.
async fn refused(cluster: &Cluster, wanted: Vec<Permission>) -> Result<Vec<Permission>, Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let reviews = &reviews;
    futures::stream::iter(wanted)
        .map(|permission| async move {
            match ask(reviews, &review(&permission)).await {
                Ok(answer) => Ok((!answer.status.is_some_and(|status| status.allowed)).then_some(permission)),
                Err(kube::Error::Api(status)) if status.code == 401 => {
                    Err(Error::Unauthorized { url: cluster.url.clone(), reason: status.message })
                }
                Err(kube::Error::Api(status)) if status.code < 500 => {
                    tracing::debug!(
                        code = status.code,
                        "the API server does not answer questions about rights"
                    );
                    Ok(None)
                }
                Err(error) => {
                    Err(Error::ClusterUnreachable { url: cluster.url.clone(), reason: chain(&error) })
                }
            }
        })
        .buffered(REVIEWS_AT_ONCE)
        .try_filter_map(|permission| async move { Ok(permission) })
        .try_collect()
        .await
}

/// Asks about a right, again where that may help.
async fn ask(
    reviews: &Api<SelfSubjectAccessReview>,
    review: &SelfSubjectAccessReview,
) -> Result<SelfSubjectAccessReview, kube::Error> {
    let again = |error: &kube::Error| match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    };
    let params = PostParams::default();
    repeat(&REVIEW_WAITS, again, || reviews.create(&params, review)).await
}

fn review(permission: &Permission) -> SelfSubjectAccessReview {
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(permission.group.to_owned()),
                resource: Some(permission.resource.to_owned()),
                subresource: permission.subresource.map(str::to_owned),
                verb: Some(permission.verb.to_owned()),
                name: permission.name.clone(),
                namespace: permission.namespace.clone(),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests;
