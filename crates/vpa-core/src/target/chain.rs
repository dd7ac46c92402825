//! The way from a pod up to its topmost controller.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use vpa_api::pod::Pod;

use super::{Controller, ControllerKey, ControllerSource, Lookup};

/// Controllers above one another that are followed. Real chains have two or three; the bound only keeps a chain of
/// invented objects from holding up a review.
pub const MAX_CHAIN: usize = 64;

/// Why the topmost controller is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A controller in the chain is gone, or not in the cache yet.
    #[error("{0} does not exist")]
    Missing(ControllerKey),
    /// The API server does not serve the kind.
    #[error("the kind of {0} ({version}) is not served by the API server", version = .0.api_version)]
    UnknownKind(ControllerKey),
    /// This program may not read the scale subresource.
    #[error("no permission to get the scale subresource of {0}")]
    Forbidden(ControllerKey),
    /// The source is still looking; ask again.
    #[error("{0} is still being looked up")]
    Pending(ControllerKey),
    /// The look-up failed.
    #[error("look-up of {key} failed: {reason}")]
    Failed {
        /// Which controller.
        key: ControllerKey,
        /// Why.
        reason: String,
    },
    /// A controller owns itself, by way of others or directly.
    #[error("owner references lead in a circle at {0}")]
    Cycle(ControllerKey),
    /// More than [`MAX_CHAIN`] controllers above one another.
    #[error("more than {MAX_CHAIN} owners above one another up to {0}")]
    TooLong(ControllerKey),
}

/// The controller among the owners of a controller: the first with `controller: true`.
pub fn controller_owner<'a>(
    owners: impl IntoIterator<Item = &'a OwnerReference>,
) -> Option<&'a OwnerReference> {
    owners.into_iter().find(|owner| owner.controller == Some(true))
}

/// The topmost well-known or scalable controller of a pod with these owner references, in its namespace.
///
/// `None` where the pod has no controller, where a Node is in the chain, or where no controller in it is well known
/// or scalable. The last reference with `controller: true` counts on a pod (the API server lets only one through).
///
/// # Errors
/// When a link of the chain cannot be followed: then nothing is known of what is above it, and the pod is left alone.
pub fn topmost<S: ControllerSource + ?Sized>(
    source: &S,
    namespace: &str,
    owners: &[OwnerReference],
) -> Result<Option<Arc<Controller>>, ChainError> {
    let Some(owner) = owners.iter().rev().find(|owner| owner.controller == Some(true)) else {
        return Ok(None);
    };
    climb(source, ControllerKey::of_owner(namespace, owner))
}

/// [`topmost`] for a pod.
///
/// # Errors
/// As [`topmost`].
pub fn topmost_of_pod<S: ControllerSource + ?Sized>(
    source: &S,
    pod: &Pod,
) -> Result<Option<Arc<Controller>>, ChainError> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    topmost(source, pod.metadata.namespace.as_deref().unwrap_or_default(), owners)
}

/// The topmost well-known or scalable controller of the chain that begins with `first`, which is part of it.
///
/// # Errors
/// As [`topmost`].
pub fn climb<S: ControllerSource + ?Sized>(
    source: &S,
    first: ControllerKey,
) -> Result<Option<Arc<Controller>>, ChainError> {
    let mut visited: Vec<ControllerKey> = Vec::new();
    let mut top = None;
    let mut current = first;
    loop {
        // Static pods are owned by their node. It is no workload, and looking nodes up would be costly.
        if current.kind == "Node" {
            return Ok(None);
        }
        if visited.contains(&current) {
            return Err(ChainError::Cycle(current));
        }
        if visited.len() >= MAX_CHAIN {
            return Err(ChainError::TooLong(current));
        }
        match source.get(&current) {
            Lookup::Found(controller) => {
                let Some(owner) = controller.owner.clone() else { return Ok(Some(controller)) };
                top = Some(controller);
                visited.push(std::mem::replace(&mut current, owner));
            }
            Lookup::NotFound if current.well_known().is_none() => return Ok(top),
            Lookup::NotFound => return Err(ChainError::Missing(current)),
            Lookup::UnknownKind => return Err(ChainError::UnknownKind(current)),
            Lookup::Forbidden => return Err(ChainError::Forbidden(current)),
            Lookup::Pending => return Err(ChainError::Pending(current)),
            Lookup::Failed(reason) => return Err(ChainError::Failed { key: current, reason }),
        }
    }
}
