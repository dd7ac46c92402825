//! What all requests share, and one request taken apart.

use std::sync::Arc;

use axum::body::Bytes;
use parking_lot::RwLock;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::auth::{Tokens, User};
use super::error::{ApiError, ApiResult};
use super::external::ExternalMetrics;
use super::faults::Faults;
use super::kinds::{Kind, Registry, Version};
use super::request::{Query, ResourcePath, Verb};
use super::store::{Key, Store};
use super::warnings::Warnings;
use super::webhook::WebhookCaller;
use crate::metrics_api::MetricsStore;

/// State behind the router.
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) kinds: RwLock<Registry>,
    pub(crate) faults: Faults,
    pub(crate) tokens: Tokens,
    pub(crate) metrics: MetricsStore,
    pub(crate) external: Arc<ExternalMetrics>,
    pub(crate) webhooks: WebhookCaller,
    /// Woken when something was deleted, for the garbage collector.
    pub(crate) deleted: Notify,
    /// One permit for each open watch.
    pub(crate) watches: Arc<Semaphore>,
    pub(crate) body_bytes_max: usize,
    pub(crate) shutdown: CancellationToken,
}

/// Form of objects in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Full,
    /// `PartialObjectMetadata` and its list.
    Metadata,
}

impl Form {
    /// Reads an `Accept` header; the first form that is known here counts.
    pub(crate) fn of(accept: &str) -> Self {
        for part in accept.split(',') {
            if part.contains("as=PartialObjectMetadata") {
                return Self::Metadata;
            }
            if part.trim() == "application/json" {
                return Self::Full;
            }
        }
        Self::Full
    }
}

/// A request for a resource.
pub(crate) struct Call {
    pub(crate) path: ResourcePath,
    pub(crate) query: Query,
    pub(crate) verb: Verb,
    pub(crate) user: User,
    pub(crate) form: Form,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    /// The kind behind the path.
    pub(crate) kind: Arc<Kind>,
    /// What webhooks warn of.
    pub(crate) warnings: Arc<Warnings>,
}

impl Call {
    pub(crate) fn key(&self) -> Key {
        Key::new(self.path.namespace.clone(), self.path.name.clone())
    }

    /// The version of the path; known to be served.
    pub(crate) fn version(&self) -> ApiResult<&Version> {
        self.kind.versions.get(&self.path.version).ok_or_else(ApiError::unknown_path)
    }

    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.kind.group, &self.kind.plural, &self.path.name)
    }

    pub(crate) fn modified(&self) -> ApiError {
        ApiError::modified(&self.kind.group, &self.kind.plural, &self.path.name)
    }

    /// The body as JSON; `null` where there is none.
    pub(crate) fn json(&self) -> ApiResult<serde_json::Value> {
        if self.body.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        let media = self.content_type.split(';').next().unwrap_or_default().trim();
        match media {
            "" | "application/json" => serde_json::from_slice(&self.body)
                .map_err(|error| ApiError::bad_request(format!("error decoding the body: {error}"))),
            "application/yaml" => serde_saphyr::from_slice(&self.body)
                .map_err(|error| ApiError::bad_request(format!("error decoding the body: {error}"))),
            other => Err(ApiError::unsupported_media(format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, \
                 application/yaml (found {other})"
            ))),
        }
    }
}
