//! Objects, their one sequence of resource versions, and the history that watches read.
//!
//! Each kind has a table of objects and a bounded history of changes. A watch holds nothing but the last resource
//! version it has seen and reads on from there, so a slow one costs no memory: when the history has moved past it, it
//! is told `410 Gone` as by etcd's compaction.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::value::{items, meta, text};

/// Name of an object within its table; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(object: &Value) -> Self {
        Self::new(meta(object, "namespace"), meta(object, "name"))
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One entry of a table's history.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) version: u64,
    pub(crate) change: Change,
    pub(crate) object: Arc<Value>,
    /// The object before the change: decides what a watch with a selector sees.
    pub(crate) previous: Option<Arc<Value>>,
}

/// Why a conditional write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    Exists,
    Changed,
}

#[derive(Debug)]
struct Table {
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Event>,
    /// Version of the newest event that is no longer in the history.
    forgotten: u64,
    latest: watch::Sender<u64>,
}

impl Table {
    fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            forgotten: 0,
            latest: watch::Sender::new(0),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    tables: HashMap<String, Table>,
    /// UIDs of live objects.
    live: HashSet<String>,
    /// Dependents by the UID of an owner.
    owned: HashMap<String, HashSet<(String, Key)>>,
}

/// All objects of the cluster.
#[derive(Debug)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
    history_max: usize,
}

/// A list as of one resource version.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) version: u64,
    pub(crate) objects: Vec<Arc<Value>>,
    /// Set where more follow: the last key of this page and how many are left.
    pub(crate) next: Option<(Key, usize)>,
}

/// What a watch finds when it looks on.
#[derive(Debug)]
pub(crate) enum Since {
    Events(Vec<Event>),
    /// The history no longer goes back that far; the oldest version it can be read from.
    Expired(u64),
}

impl Store {
    /// `history_max`: events kept for each kind.
    pub(crate) fn new(history_max: usize) -> Self {
        let inner = Inner { version: 1, ..Inner::default() };
        Self { inner: Mutex::new(inner), history_max: history_max.max(1) }
    }

    pub(crate) fn version(&self) -> u64 {
        self.inner.lock().version
    }

    pub(crate) fn get(&self, table: &str, key: &Key) -> Option<Arc<Value>> {
        self.inner.lock().tables.get(table)?.objects.get(key).cloned()
    }

    /// Objects of a namespace (of all, if empty) after `after`, at most `limit` that pass `keep`.
    pub(crate) fn list(
        &self,
        table: &str,
        namespace: &str,
        after: Option<&Key>,
        limit: usize,
        keep: impl Fn(&Value) -> bool,
    ) -> Listing {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let inner = self.inner.lock();
        let mut listing = Listing { version: inner.version, objects: Vec::new(), next: None };
        let Some(found) = inner.tables.get(table) else { return listing };
        let start = match after {
            Some(key) => Excluded(key.clone()),
            None if namespace.is_empty() => Unbounded,
            None => Included(Key::new(namespace, "")),
        };
        let mut last = None;
        let mut left = 0;
        for (key, object) in found.objects.range((start, Unbounded)) {
            if !namespace.is_empty() && key.namespace != namespace {
                break;
            }
            if !keep(object) {
                continue;
            }
            if listing.objects.len() == limit {
                left += 1;
                continue;
            }
            listing.objects.push(Arc::clone(object));
            last = Some(key.clone());
        }
        listing.next = last.filter(|_| left > 0).map(|key| (key, left));
        listing
    }

    /// Adds an object; fills in its resource version.
    pub(crate) fn create(&self, table: &str, object: Value) -> Result<Arc<Value>, Refused> {
        let key = Key::of(&object);
        let mut inner = self.inner.lock();
        if inner.tables.get(table).is_some_and(|found| found.objects.contains_key(&key)) {
            return Err(Refused::Exists);
        }
        Ok(self.write(&mut inner, table, key, object))
    }

    /// Replaces an object if it still is `expected` (by resource version).
    pub(crate) fn replace(
        &self,
        table: &str,
        expected: &Value,
        object: Value,
    ) -> Result<Arc<Value>, Refused> {
        let key = Key::of(expected);
        let mut inner = self.inner.lock();
        check_unchanged(&inner, table, &key, expected)?;
        Ok(self.write(&mut inner, table, key, object))
    }

    /// Removes an object if it still is `expected` (by resource version).
    pub(crate) fn remove(&self, table: &str, expected: &Value) -> Result<Arc<Value>, Refused> {
        let key = Key::of(expected);
        let mut inner = self.inner.lock();
        check_unchanged(&inner, table, &key, expected)?;
        inner.version += 1;
        let version = inner.version;
        let Some(found) = inner.tables.get_mut(table) else { return Err(Refused::NotFound) };
        let Some(previous) = found.objects.remove(&key) else { return Err(Refused::NotFound) };
        let mut last = (*previous).clone();
        last["metadata"]["resourceVersion"] = json!(version.to_string());
        let last = Arc::new(last);
        forget_owner(&mut inner, table, &key, &previous);
        inner.live.remove(meta(&previous, "uid"));
        let event =
            Event { version, change: Change::Deleted, object: Arc::clone(&last), previous: Some(previous) };
        self.publish(&mut inner, table, event);
        Ok(last)
    }

    fn write(&self, inner: &mut Inner, table: &str, key: Key, mut object: Value) -> Arc<Value> {
        inner.version += 1;
        let version = inner.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let object = Arc::new(object);
        let found = inner.tables.entry(table.to_owned()).or_insert_with(Table::new);
        let previous = found.objects.insert(key.clone(), Arc::clone(&object));
        if let Some(previous) = &previous {
            forget_owner(inner, table, &key, previous);
        }
        inner.live.insert(meta(&object, "uid").to_owned());
        for owner in items(&object["metadata"]["ownerReferences"]) {
            let uid = text(owner, &["uid"]).to_owned();
            inner.owned.entry(uid).or_default().insert((table.to_owned(), key.clone()));
        }
        let change = if previous.is_some() { Change::Modified } else { Change::Added };
        self.publish(inner, table, Event { version, change, object: Arc::clone(&object), previous });
        object
    }

    fn publish(&self, inner: &mut Inner, table: &str, event: Event) {
        let Some(found) = inner.tables.get_mut(table) else { return };
        let version = event.version;
        found.history.push_back(event);
        while found.history.len() > self.history_max {
            if let Some(dropped) = found.history.pop_front() {
                found.forgotten = dropped.version;
            }
        }
        found.latest.send_replace(version);
    }

    /// Events of a table after `version`, oldest first.
    pub(crate) fn since(&self, table: &str, version: u64) -> Since {
        let inner = self.inner.lock();
        let Some(found) = inner.tables.get(table) else { return Since::Events(Vec::new()) };
        if version < found.forgotten {
            return Since::Expired(found.forgotten);
        }
        let start = found.history.partition_point(|event| event.version <= version);
        Since::Events(found.history.iter().skip(start).cloned().collect())
    }

    /// Whether a list or watch can still start at `version`.
    pub(crate) fn reaches(&self, table: &str, version: u64) -> bool {
        self.inner.lock().tables.get(table).is_none_or(|found| version >= found.forgotten)
    }

    /// Wakes on every change of a table.
    pub(crate) fn subscribe(&self, table: &str) -> watch::Receiver<u64> {
        let mut inner = self.inner.lock();
        inner.tables.entry(table.to_owned()).or_insert_with(Table::new).latest.subscribe()
    }

    /// Forgets all history, as a compaction of etcd does: every watch that is behind gets `410 Gone`.
    pub(crate) fn compact(&self) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        let version = inner.version;
        for table in inner.tables.values_mut() {
            table.history.clear();
            table.forgotten = version;
            table.latest.send_replace(version);
        }
    }

    /// Objects none of whose owners lives, with their tables.
    pub(crate) fn orphans(&self) -> Vec<(String, Key)> {
        let inner = self.inner.lock();
        let mut found = HashSet::new();
        for (_, dependents) in inner.owned.iter().filter(|(uid, _)| !inner.live.contains(*uid)) {
            for (table, key) in dependents {
                let object = inner.tables.get(table).and_then(|table| table.objects.get(key));
                let all_gone = object.is_some_and(|object| {
                    items(&object["metadata"]["ownerReferences"])
                        .iter()
                        .all(|owner| !inner.live.contains(text(owner, &["uid"])))
                });
                if all_gone {
                    found.insert((table.clone(), key.clone()));
                }
            }
        }
        found.into_iter().collect()
    }

    /// Objects that name `uid` as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<(String, Key)> {
        self.inner.lock().owned.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Everything within a namespace, with its table.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<(String, Key)> {
        let inner = self.inner.lock();
        let mut found = Vec::new();
        for (name, table) in &inner.tables {
            let keys = table.objects.range(Key::new(namespace, "")..).map(|(key, _)| key);
            found.extend(
                keys.take_while(|key| key.namespace == namespace).map(|key| (name.clone(), key.clone())),
            );
        }
        found
    }
}

fn check_unchanged(inner: &Inner, table: &str, key: &Key, expected: &Value) -> Result<(), Refused> {
    let current =
        inner.tables.get(table).and_then(|found| found.objects.get(key)).ok_or(Refused::NotFound)?;
    let same = meta(current, "resourceVersion") == meta(expected, "resourceVersion")
        && meta(current, "uid") == meta(expected, "uid");
    if same { Ok(()) } else { Err(Refused::Changed) }
}

fn forget_owner(inner: &mut Inner, table: &str, key: &Key, object: &Value) {
    let entry = (table.to_owned(), key.clone());
    for owner in items(&object["metadata"]["ownerReferences"]) {
        let uid = text(owner, &["uid"]);
        if let Some(dependents) = inner.owned.get_mut(uid) {
            dependents.remove(&entry);
            if dependents.is_empty() {
                inner.owned.remove(uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> Value {
        json!({"metadata": {"namespace": "n", "name": name, "uid": name}})
    }

    #[test]
    fn a_watch_behind_the_history_is_told_so() {
        let store = Store::new(2);
        let first = store.create("pods", object("a")).unwrap();
        let start: u64 = meta(&first, "resourceVersion").parse().unwrap();
        for name in ["b", "c"] {
            store.create("pods", object(name)).unwrap();
        }
        assert!(matches!(store.since("pods", start), Since::Events(events) if events.len() == 2));
        store.create("pods", object("d")).unwrap();
        assert!(matches!(store.since("pods", start), Since::Expired(_)));
    }

    #[test]
    fn a_stale_write_is_refused() {
        let store = Store::new(10);
        let old = store.create("pods", object("a")).unwrap();
        store.replace("pods", &old, object("a")).unwrap();
        assert_eq!(store.replace("pods", &old, object("a")).unwrap_err(), Refused::Changed);
        assert_eq!(store.remove("pods", &old).unwrap_err(), Refused::Changed);
        assert_eq!(store.create("pods", object("a")).unwrap_err(), Refused::Exists);
    }

    #[test]
    fn lists_are_paged_in_order() {
        let store = Store::new(10);
        for name in ["a", "b", "c"] {
            store.create("pods", object(name)).unwrap();
        }
        let first = store.list("pods", "n", None, 2, |_| true);
        let (after, left) = first.next.unwrap();
        assert_eq!((first.objects.len(), left), (2, 1));
        let second = store.list("pods", "n", Some(&after), 2, |_| true);
        assert_eq!(meta(&second.objects[0], "name"), "c");
        assert!(second.next.is_none());
    }

    #[test]
    fn dependents_of_the_dead_are_orphans() {
        let store = Store::new(10);
        let owner = store.create("rs", object("owner")).unwrap();
        let mut pod = object("pod");
        pod["metadata"]["ownerReferences"] = json!([{"uid": "owner"}]);
        store.create("pods", pod).unwrap();
        assert!(store.orphans().is_empty());
        store.remove("rs", &owner).unwrap();
        assert_eq!(store.orphans(), [("pods".to_owned(), Key::new("n", "pod"))]);
    }
}
