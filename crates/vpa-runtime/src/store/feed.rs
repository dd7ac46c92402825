//! The task that feeds a store: list in pages, watch, list again where the watch has lost its place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, Status};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::wire::{RawEvent, RawList, Stub, StubMeta, read_line, stub};
use super::{Listener, Modify, Store, StoreEvent, StoreOptions, Stored};
use crate::client::{chain, fetch};
use crate::metrics::RuntimeMetrics;

/// Objects asked for at once. A page is in memory as text, at times twice, while its objects are decoded: 200 pods take
/// a megabyte or two, and all stores list at the same time when a program starts. Five hundred, client-go's number,
/// would be hardly faster: the API server's work is by the object.
const PAGE_MAX: u32 = 200;
/// Seconds after which the API server ends a watch, so that a dead connection shows.
pub const WATCH_SECONDS: u32 = 290;
/// Longest silence on a watch. The API server ends it after [`WATCH_SECONDS`].
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);
/// First wait after a failure; doubles with each, up to [`BACKOFF_MAX`]. client-go's reflector has the same numbers.
const BACKOFF_FIRST: Duration = Duration::from_millis(800);
/// Longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A watch that ends sooner than this was not served.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);
/// States of undecodable objects that are remembered, so that each is logged once. With more the log repeats itself.
const KNOWN_BAD_MAX: usize = 1000;

/// Why a list or a watch ended.
enum End {
    /// As it should: go on from the last version.
    Done,
    /// The version is gone: list again.
    Expired,
    /// With an error.
    Failed(String),
}

pub(super) struct Feed<K> {
    client: Client,
    store: Store<K>,
    request: Request,
    labels: Option<String>,
    fields: Option<String>,
    modify: Option<Modify<K>>,
    listener: Option<Listener<K>>,
    metrics: Arc<RuntimeMetrics>,
    /// Undecodable states that were logged, by namespace and name.
    known_bad: HashMap<(CompactString, CompactString), String>,
}

impl<K> Feed<K>
where
    K: Stored,
{
    pub(super) fn new(
        client: Client,
        store: Store<K>,
        options: StoreOptions<K>,
        metrics: Arc<RuntimeMetrics>,
    ) -> Self {
        let StoreOptions { name: _, namespace, labels, fields, modify, listener, optional: _ } = options;
        let request = Request::new(K::url_path(namespace.as_deref()));
        Self { client, store, request, labels, fields, modify, listener, metrics, known_bad: HashMap::new() }
    }

    /// Feeds the store; never ends by itself.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut version: Option<String> = None;
        loop {
            let end = match version.take() {
                None => match self.list().await {
                    Ok(listed) => {
                        version = Some(listed);
                        End::Done
                    }
                    Err(end) => end,
                },
                Some(from) => {
                    let mut at = from;
                    let began = Instant::now();
                    let end = self.watch(&mut at).await;
                    version = Some(at);
                    // A server that ends every watch at once gets the pace of a failing one.
                    if matches!(end, End::Done) && began.elapsed() < SHORTEST_WATCH {
                        tokio::time::sleep(backoff.next()).await;
                        continue;
                    }
                    end
                }
            };
            match end {
                End::Done => {
                    self.recovered();
                    backoff.reset();
                }
                End::Expired => {
                    version = None;
                    tokio::time::sleep(backoff.next()).await;
                }
                End::Failed(reason) => {
                    self.failed(reason);
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Reads all pages and puts them in place of what the store holds. Returns the version to watch from.
    async fn list(&mut self) -> Result<String, End> {
        self.count(&self.metrics.store_lists);
        let mut params = ListParams {
            limit: Some(PAGE_MAX),
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            ..ListParams::default()
        };
        let mut present: HashSet<(CompactString, CompactString)> = HashSet::new();
        loop {
            let request = self.request.list(&params).map_err(|e| End::Failed(e.to_string()))?;
            let bytes = match fetch(&self.client, request).await {
                Ok(bytes) => bytes,
                Err(kube::Error::Api(status)) if status.code == 410 => return Err(End::Expired),
                Err(error) => return Err(End::Failed(format!("list: {}", chain(&error)))),
            };
            let page: RawList<'_> = serde_json::from_slice(&bytes)
                .map_err(|e| End::Failed(format!("list: the answer is not a list: {e}")))?;
            for raw in page.items.unwrap_or_default() {
                if let Some(key) = self.take_in(raw) {
                    present.insert(key);
                }
            }
            // Changes become visible with each page: a store that is listed again stays usable meanwhile.
            self.changed();
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_some() {
                continue;
            }
            let Some(version) = page.metadata.resource_version.filter(|version| !version.is_empty()) else {
                return Err(End::Failed("list: the answer has no resourceVersion".to_owned()));
            };
            self.drop_absent(&present);
            if !self.store.synced() {
                self.store.mark_synced();
                self.tell(StoreEvent::Synced);
            }
            return Ok(version);
        }
    }

    /// Follows changes from version `at`, and moves it along.
    async fn watch(&mut self, at: &mut String) -> End {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        };
        let mut request = match self.request.watch(&params, at) {
            Ok(request) => request,
            Err(error) => return End::Failed(error.to_string()),
        };
        // A compressed watch comes in as one member per event, of which the decompression reads the first only.
        request
            .headers_mut()
            .insert(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("identity"));
        let stream = match self.client.request_stream(request).await {
            Ok(stream) => stream,
            Err(kube::Error::Api(status)) if status.code == 410 => return End::Expired,
            Err(error) => return End::Failed(format!("watch: {}", chain(&error))),
        };
        self.recovered();
        let mut stream = std::pin::pin!(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match tokio::time::timeout(SILENCE_MAX, read_line(stream.as_mut(), &mut line)).await {
                // Both a clean end and silence mean: go on from where we are with a new connection.
                Ok(Ok(false)) | Err(_) => return End::Done,
                Ok(Ok(true)) => {}
                Ok(Err(error)) => return End::Failed(format!("watch: {error}")),
            }
            let event: RawEvent<'_> = match serde_json::from_slice(&line) {
                Ok(event) => event,
                // A connection that breaks in the middle of an event.
                Err(error) if error.is_eof() => return End::Done,
                Err(error) => return End::Failed(format!("watch: not an event: {error}")),
            };
            match self.event(&event, at) {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    fn event(&mut self, event: &RawEvent<'_>, at: &mut String) -> Result<(), End> {
        match event.kind {
            "ADDED" | "MODIFIED" => {
                let stub = stub(event.object);
                self.take_in(event.object);
                move_to(at, stub)?;
            }
            "DELETED" => {
                let stub = stub(event.object);
                self.take_out(&stub.metadata.namespace, &stub.metadata.name);
                move_to(at, stub)?;
            }
            "BOOKMARK" => return move_to(at, stub(event.object)),
            "ERROR" => {
                let status: Status = serde_json::from_str(event.object.get()).unwrap_or_default();
                return Err(match status.code {
                    410 => End::Expired,
                    code => End::Failed(format!("watch: {code} {}", status.message)),
                });
            }
            // A type of a later API version: nothing that a store has to know.
            _ => return Ok(()),
        }
        self.changed();
        Ok(())
    }

    /// Puts an object in the store. Returns its key, also when it cannot be decoded: it is there.
    fn take_in(&mut self, raw: &RawValue) -> Option<(CompactString, CompactString)> {
        let mut object: K = match serde_json::from_str(raw.get()) {
            Ok(object) => object,
            Err(error) => return self.bad(raw, &error),
        };
        object.slim();
        if let Some(modify) = &self.modify {
            modify(&mut object);
        }
        let key = super::key(&object);
        if !self.known_bad.is_empty() {
            self.known_bad.remove(&key);
        }
        // A list repeats what is known; only what differs is an event.
        let version = object.version();
        if version.is_some() && self.store.get(&key.0, &key.1).is_some_and(|held| held.version() == version) {
            return Some(key);
        }
        let (before, now) = self.store.insert(object);
        if let Some(listener) = &self.listener {
            listener(StoreEvent::Applied { before: before.as_ref(), now: &now });
        }
        Some(key)
    }

    /// Notes an object that cannot be decoded.
    fn bad(&mut self, raw: &RawValue, error: &serde_json::Error) -> Option<(CompactString, CompactString)> {
        self.count(&self.metrics.store_bad_objects);
        let StubMeta { name, namespace, resource_version } = stub(raw).metadata;
        let key = (namespace, name);
        if self.known_bad.get(&key) != Some(&resource_version) {
            tracing::warn!(
                store = self.store.name(),
                namespace = %key.0,
                name = %key.1,
                resource_version,
                %error,
                "object cannot be decoded and is left out; correct it and it will be taken in"
            );
            if self.known_bad.len() >= KNOWN_BAD_MAX {
                self.known_bad.clear();
            }
            self.known_bad.insert(key.clone(), resource_version);
        }
        (!key.1.is_empty()).then_some(key)
    }

    fn take_out(&mut self, namespace: &str, name: &str) {
        if let Some(object) = self.store.remove(namespace, name) {
            self.tell(StoreEvent::Deleted(&object));
        }
    }

    /// After a list: what it did not show is gone.
    fn drop_absent(&mut self, present: &HashSet<(CompactString, CompactString)>) {
        let gone: Vec<(CompactString, CompactString)> = self
            .store
            .0
            .objects
            .read()
            .iter()
            .flat_map(|(namespace, names)| names.keys().map(move |name| (namespace.clone(), name.clone())))
            .filter(|key| !present.contains(key))
            .collect();
        for (namespace, name) in gone {
            self.take_out(&namespace, &name);
        }
        self.known_bad.retain(|key, _| present.contains(key));
        self.changed();
    }

    fn tell(&self, event: StoreEvent<'_, K>) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    fn changed(&self) {
        let count = i64::try_from(self.store.len()).unwrap_or(i64::MAX);
        self.metrics.store_objects.with_label_values(&[self.store.name()]).set(count);
        self.store.touch();
    }

    fn count(&self, counters: &prometheus::IntCounterVec) {
        counters.with_label_values(&[self.store.name()]).inc();
    }

    /// Notes a failure; the same one again is not logged again.
    fn failed(&self, reason: String) {
        self.count(&self.metrics.store_errors);
        let mut trouble = self.store.0.trouble.write();
        if trouble.as_deref() != Some(reason.as_str()) {
            tracing::warn!(
                store = self.store.name(),
                reason,
                "cannot follow the cluster's state; trying again"
            );
            *trouble = Some(reason);
        }
    }

    fn recovered(&self) {
        if self.store.0.trouble.write().take().is_some() {
            tracing::info!(store = self.store.name(), "following the cluster's state again");
        }
    }
}

fn move_to(at: &mut String, stub: Stub) -> Result<(), End> {
    let version = stub.metadata.resource_version;
    if version.is_empty() {
        // Without its version the watch has no place to go on from.
        return Err(End::Expired);
    }
    *at = version;
    Ok(())
}

/// Waits between tries: doubling, with up to a fifth on top so that the stores of many replicas do not come back in step.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let wait = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        wait + crate::executor::jitter(wait / 5)
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}
