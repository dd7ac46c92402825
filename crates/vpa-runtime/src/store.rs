//! The present state of one kind of object in the cluster.
//!
//! A store lists in pages, then watches from there with bookmarks. When the watch ends it goes on from the last version
//! seen; when that version is gone (410) it lists again. Failures back off, are counted and logged once per change, and
//! readers keep the last known state. An object that cannot be decoded is left out (an earlier good state of it stays),
//! logged once per state, and counted; it never stops the others.

mod feed;
mod stored;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Cluster;
use crate::flags::Scope;
use crate::metrics::RuntimeMetrics;

pub use feed::WATCH_SECONDS;
pub use stored::Stored;

/// What changed in a store.
#[derive(Debug)]
pub enum StoreEvent<'a, K> {
    /// An object is new or different. `before` is what the store held.
    Applied {
        /// The state until now.
        before: Option<&'a Arc<K>>,
        /// The state from now on.
        now: &'a Arc<K>,
    },
    /// An object is gone.
    Deleted(&'a Arc<K>),
    /// The first list is complete.
    Synced,
}

type Modify<K> = Arc<dyn Fn(&mut K) + Send + Sync>;
type Listener<K> = Arc<dyn Fn(StoreEvent<'_, K>) + Send + Sync>;

/// How a store is fed.
pub struct StoreOptions<K> {
    name: &'static str,
    namespace: Option<String>,
    labels: Option<String>,
    fields: Option<String>,
    modify: Option<Modify<K>>,
    listener: Option<Listener<K>>,
    optional: bool,
}

impl<K> StoreOptions<K> {
    /// All objects of the kind, under a name for logs, metrics and readiness (`pods`, `vpas`, …).
    pub fn named(name: &'static str) -> Self {
        Self {
            name,
            namespace: None,
            labels: None,
            fields: None,
            modify: None,
            listener: None,
            optional: false,
        }
    }

    /// Only this namespace; `None` for all.
    #[must_use]
    pub fn namespace(mut self, namespace: Option<String>) -> Self {
        self.namespace = namespace;
        self
    }

    /// Only the namespace that the scope names, if it names one. Ignored namespaces are still listed, as the API has
    /// no selector for "all but": ask [`Scope::admits`] when reading.
    #[must_use]
    pub fn scope(self, scope: &Scope) -> Self {
        self.namespace(scope.namespace.clone())
    }

    /// Only objects that match a label selector.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Only objects that match a field selector.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// The program works without these objects: readiness does not wait for them, such as where a right is missing.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.optional
    }

    /// Slims each object before it is kept. The managed fields are dropped in any case.
    #[must_use]
    pub fn modify(mut self, modify: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        self.modify = Some(Arc::new(modify));
        self
    }

    /// Called for every change, in order, by the task that feeds the store: it has to be quick and may not wait. The
    /// store already shows the change.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(StoreEvent<'_, K>) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }
}

/// What a store holds, by namespace and name. Objects without a namespace are under the empty one.
type Objects<K> = BTreeMap<CompactString, BTreeMap<CompactString, Arc<K>>>;

struct Inner<K> {
    name: &'static str,
    objects: RwLock<Objects<K>>,
    /// Number of changes so far; its receivers wake up with each.
    changes: watch::Sender<u64>,
    synced: watch::Sender<bool>,
    /// Last failure of the feed, until it works again.
    trouble: RwLock<Option<String>>,
}

/// The present state of one kind of object. Cheap to clone; all clones show the same state.
pub struct Store<K>(Arc<Inner<K>>);

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> std::fmt::Debug for Store<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<K> Store<K> {
    /// An empty store that is fed by hand, for tests and for programs without a cluster.
    pub fn detached(name: &'static str) -> Self {
        Self(Arc::new(Inner {
            name,
            objects: RwLock::default(),
            changes: watch::Sender::new(0),
            synced: watch::Sender::new(false),
            trouble: RwLock::default(),
        }))
    }

    /// Name for logs, metrics and readiness.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.objects.read().get(namespace)?.get(name).cloned()
    }

    /// All objects, ordered by namespace and name. Later changes do not show in it.
    pub fn snapshot(&self) -> Vec<Arc<K>> {
        self.0.objects.read().values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// All objects of one namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.0
            .objects
            .read()
            .get(namespace)
            .map(|objects| objects.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.0.objects.read().values().map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.objects.read().is_empty()
    }

    /// Whether the first list is complete.
    pub fn synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Waits until the first list is complete. Returns `false` if `stop` came first.
    pub async fn wait_synced(&self, stop: &CancellationToken) -> bool {
        let mut synced = self.0.synced.subscribe();
        // Waiting fails only when the sender is gone, and it is held by this store.
        tokio::select! {
            result = synced.wait_for(|synced| *synced) => result.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Wakes up when something changes; the number counts changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Why the store does not follow the cluster at present; `None` while it does.
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.read().clone()
    }

    /// For readiness: the first list is complete.
    ///
    /// # Errors
    /// What is missing, with the last failure.
    pub fn ready(&self) -> Result<(), String> {
        if self.synced() {
            return Ok(());
        }
        let trouble = self.trouble().map(|trouble| format!(": {trouble}")).unwrap_or_default();
        Err(format!("{} not listed yet{trouble}", self.0.name))
    }
}

impl<K: Stored> Store<K> {
    /// Puts an object in, by hand.
    pub fn apply(&self, object: K) {
        self.insert(object);
        self.touch();
    }

    /// Takes an object out, by hand.
    pub fn delete(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let removed = self.remove(namespace, name);
        self.touch();
        removed
    }

    /// Says that the first list is complete, by hand.
    pub fn mark_synced(&self) {
        self.0.synced.send_replace(true);
    }

    fn insert(&self, object: K) -> (Option<Arc<K>>, Arc<K>) {
        let (namespace, name) = key(&object);
        let object = Arc::new(object);
        let before = self.0.objects.write().entry(namespace).or_default().insert(name, object.clone());
        (before, object)
    }

    fn remove(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let mut objects = self.0.objects.write();
        let of_namespace = objects.get_mut(namespace)?;
        let removed = of_namespace.remove(name);
        if of_namespace.is_empty() {
            objects.remove(namespace);
        }
        removed
    }

    fn touch(&self) {
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn key<K: Stored>(object: &K) -> (CompactString, CompactString) {
    (object.namespace().into(), object.name().into())
}

/// Starts to feed a store, until `stop`. Returns the store at once, empty, and the task's future.
pub fn feed<K>(
    cluster: &Cluster,
    options: StoreOptions<K>,
    metrics: Arc<RuntimeMetrics>,
    stop: CancellationToken,
) -> (Store<K>, impl Future<Output = ()> + Send + 'static)
where
    K: Stored,
{
    let store = Store::detached(options.name);
    let feed = feed::Feed::new(cluster.client.clone(), store.clone(), options, metrics);
    (store, async move {
        tokio::select! {
            () = feed.run() => {}
            () = stop.cancelled() => {}
        }
    })
}

/// Waits until all stores are listed. Returns `false` if `stop` came first. Logs those that keep it waiting.
pub async fn wait_all(stores: &[&(dyn Synced + Sync)], stop: &CancellationToken) -> bool {
    // Long enough for a large cluster's first list, short enough that an operator who looks finds the reason.
    const REMIND_EVERY: Duration = Duration::from_secs(15);
    let mut since_reminder = Duration::ZERO;
    const POLL: Duration = Duration::from_millis(50);
    loop {
        let waiting: Vec<String> = stores.iter().filter_map(|store| store.check().err()).collect();
        if waiting.is_empty() {
            return true;
        }
        if since_reminder >= REMIND_EVERY {
            tracing::warn!(waiting = waiting.join("; "), "still waiting for the cluster's state");
            since_reminder = Duration::ZERO;
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(POLL) => since_reminder += POLL,
        }
    }
}

/// Something that has to be complete before a program starts to decide.
pub trait Synced {
    /// Whether it is.
    ///
    /// # Errors
    /// What is missing.
    fn check(&self) -> Result<(), String>;
}

impl<K: Send + Sync> Synced for Store<K> {
    fn check(&self) -> Result<(), String> {
        self.ready()
    }
}

#[cfg(test)]
mod tests;
