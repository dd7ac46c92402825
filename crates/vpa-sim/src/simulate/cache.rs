//! Objects of one kind as the API server has them, kept by a watch and by the answers to this process's own writes.
//!
//! A controller that plans from a watch alone sees its own writes late and would repeat them (two pods for one
//! replica). So the answer to each write goes in here at once; a later event of the watch replaces it only if it is
//! newer, and an object that was seen to go never comes back from a late answer.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::world::Wake;

/// Objects remembered as gone. Only an answer still on its way needs the memory, and far fewer writes than this are
/// ever under way together.
const GONE_MAX: usize = 4096;

/// Namespace and name; the namespace is empty for kinds of the whole cluster.
pub(crate) type Key = (String, String);

/// Objects of one kind.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    inner: RwLock<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    objects: BTreeMap<Key, Arc<K>>,
    listing: BTreeMap<Key, Arc<K>>,
    gone: HashSet<String>,
    gone_order: VecDeque<String>,
    synced: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let inner = Inner {
            objects: BTreeMap::new(),
            listing: BTreeMap::new(),
            gone: HashSet::new(),
            gone_order: VecDeque::new(),
            synced: false,
        };
        Self { inner: RwLock::new(inner) }
    }
}

impl<K: Resource> Cache<K> {
    /// Every object, by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.inner.read().objects.values().cloned().collect()
    }

    /// One object.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.inner.read().objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Whether the first list is in.
    pub(crate) fn synced(&self) -> bool {
        self.inner.read().synced
    }

    /// Takes in the state of one object; an older state than the known one is dropped.
    pub(crate) fn observe(&self, object: K) {
        let mut inner = self.inner.write();
        if object.meta().uid.as_ref().is_some_and(|uid| inner.gone.contains(uid)) {
            return;
        }
        let key = key_of(&object);
        let known = inner.objects.get(&key);
        if known.is_none_or(|known| is_newer(&object, known)) {
            inner.objects.insert(key, Arc::new(object));
        }
    }

    /// Takes in that an object is gone.
    pub(crate) fn remove(&self, object: &K) {
        let mut inner = self.inner.write();
        let key = key_of(object);
        let uid = object.meta().uid.clone();
        // Its name may already have been given to a new object.
        if inner.objects.get(&key).is_some_and(|known| known.meta().uid == uid) {
            inner.objects.remove(&key);
        }
        if let Some(uid) = uid {
            inner.forget(uid);
        }
    }

    fn event(&self, event: Event<K>) {
        match event {
            Event::Apply(object) => self.observe(object),
            Event::Delete(object) => self.remove(&object),
            Event::Init => self.inner.write().listing.clear(),
            Event::InitApply(object) => {
                self.inner.write().listing.insert(key_of(&object), Arc::new(object));
            }
            Event::InitDone => {
                let mut inner = self.inner.write();
                inner.objects = std::mem::take(&mut inner.listing);
                inner.synced = true;
            }
        }
    }
}

impl<K> Inner<K> {
    fn forget(&mut self, uid: String) {
        if self.gone.insert(uid.clone()) {
            self.gone_order.push_back(uid);
        }
        while self.gone_order.len() > GONE_MAX {
            if let Some(oldest) = self.gone_order.pop_front() {
                self.gone.remove(&oldest);
            }
        }
    }
}

/// Keeps `cache` until `stop`, listing again with backoff when the watch breaks.
pub(crate) async fn keep<K>(cache: Arc<Cache<K>>, api: Api<K>, wake: Wake, stop: CancellationToken)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let events = watch(api, watcher::Config::default()).default_backoff();
    pin_mut!(events);
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(event)) => {
                cache.event(event);
                wake.all();
            }
            Some(Err(error)) => tracing::debug!(%error, "watch interrupted"),
            None => return,
        }
    }
}

fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Resource versions are opaque to clients by contract; those of etcd and of `vpa-sim` are counters, and a simulator
/// of the cluster may know that. Where one is none, the later answer wins.
fn is_newer<K: Resource>(new: &K, known: &K) -> bool {
    let number =
        |object: &K| object.meta().resource_version.as_ref().and_then(|text| text.parse::<u64>().ok());
    match (number(new), number(known)) {
        (Some(new), Some(known)) => new >= known,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some("ns".into());
        map.metadata.name = Some(name.into());
        map.metadata.uid = Some(uid.into());
        map.metadata.resource_version = Some(version.into());
        map
    }

    fn version(cache: &Cache<ConfigMap>, name: &str) -> Option<String> {
        cache.get("ns", name).and_then(|map| map.metadata.resource_version.clone())
    }

    #[test]
    fn an_older_event_does_not_undo_the_answer_to_a_write() {
        let cache = Cache::default();
        cache.observe(object("a", "1", "10"));
        cache.event(Event::Apply(object("a", "1", "9")));
        assert_eq!(version(&cache, "a").as_deref(), Some("10"));
        cache.event(Event::Apply(object("a", "1", "11")));
        assert_eq!(version(&cache, "a").as_deref(), Some("11"));
    }

    #[test]
    fn a_late_answer_does_not_bring_back_what_is_gone() {
        let cache = Cache::default();
        cache.event(Event::Apply(object("a", "1", "5")));
        cache.event(Event::Delete(object("a", "1", "6")));
        cache.observe(object("a", "1", "5"));
        assert_eq!(version(&cache, "a"), None);
        cache.observe(object("a", "2", "7"));
        assert_eq!(version(&cache, "a").as_deref(), Some("7"));
        cache.event(Event::Delete(object("a", "1", "6")));
        assert_eq!(version(&cache, "a").as_deref(), Some("7"), "the new object of that name stays");
    }

    #[test]
    fn a_list_replaces_everything() {
        let cache = Cache::default();
        cache.observe(object("old", "1", "5"));
        assert!(!cache.synced());
        cache.event(Event::Init);
        cache.event(Event::InitApply(object("new", "2", "6")));
        assert_eq!(version(&cache, "old").as_deref(), Some("5"), "kept until the list is complete");
        cache.event(Event::InitDone);
        assert!(cache.synced());
        assert_eq!((version(&cache, "old"), version(&cache, "new").as_deref()), (None, Some("6")));
    }
}
