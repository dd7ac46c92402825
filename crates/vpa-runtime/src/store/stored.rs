//! What a store has to know of an object.

use kube::Resource;
use serde::de::DeserializeOwned;

/// An object that a store can hold: any [`Resource`], or a type of its own that keeps less than a resource's metadata.
pub trait Stored: DeserializeOwned + Send + Sync + 'static {
    /// Path of the kind's collection, in a namespace or in all of them.
    fn url_path(namespace: Option<&str>) -> String;
    /// Namespace of the object; empty where it has none.
    fn namespace(&self) -> &str;
    /// Name of the object.
    fn name(&self) -> &str;
    /// Its resource version.
    fn version(&self) -> Option<&str>;
    /// Drops who manages which field, which nobody reads and which is half of many an object, and room that is not needed.
    fn slim(&mut self) {}
}

impl<K> Stored for K
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Send + Sync + 'static,
{
    fn url_path(namespace: Option<&str>) -> String {
        K::url_path(&(), namespace)
    }

    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    fn version(&self) -> Option<&str> {
        self.meta().resource_version.as_deref()
    }

    fn slim(&mut self) {
        let meta = self.meta_mut();
        meta.managed_fields = None;
        meta.owner_references.iter_mut().for_each(Vec::shrink_to_fit);
    }
}
