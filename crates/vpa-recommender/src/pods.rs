//! Pods as the store keeps them.

use std::ops::Deref;

use serde::Deserialize;
use vpa_api::pod::Pod;
use vpa_core::model::ObservedPod;
use vpa_runtime::store::Stored;

/// A pod that a store can hold, without what the recommender does not read.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct StoredPod(ObservedPod);

impl Deref for StoredPod {
    type Target = ObservedPod;

    fn deref(&self) -> &ObservedPod {
        &self.0
    }
}

impl Stored for StoredPod {
    fn url_path(namespace: Option<&str>) -> String {
        <Pod as kube::Resource>::url_path(&(), namespace)
    }

    fn namespace(&self) -> &str {
        &self.id.namespace
    }

    fn name(&self) -> &str {
        &self.id.name
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}
