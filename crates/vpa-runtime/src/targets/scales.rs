//! Scale subresources of kinds that are not watched, in a cache that is filled in the background.
//!
//! A question is answered from the cache at once; the first about an object gets `Pending`. An answer that has grown old
//! is still given while it is looked up again, and a known controller is kept when that fails, so that a moment's
//! trouble never makes a target vanish. "Not there" (404) and "not allowed" (403) are answers of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::autoscaling::v1::Scale;
use kube::Client;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use vpa_core::target::{Controller, ControllerKey, Lookup, Selector, controller_owner};

use crate::client::Failure;
use crate::executor::jitter;

/// How long a controller's answer is fresh; up to as much again on top, so that the cache does not come due all at once.
const FRESH: Duration = Duration::from_secs(600);
/// How long "not there" and "not allowed" are fresh: an operator who mends it does not want to wait.
const FRESH_REFUSED: Duration = Duration::from_secs(60);
/// How long a failure is left alone.
const FRESH_FAILED: Duration = Duration::from_secs(10);
/// How long a question may go unasked before its answer is forgotten.
const UNUSED_MAX: Duration = Duration::from_secs(3600);
/// Answers that are kept, about 1 kB each. A cluster has few scalable custom resources; beyond this the ones unused for
/// longest go.
const ENTRIES_MAX: usize = 10_000;
/// Look-ups that may wait their turn; those beyond are asked again by their next question.
const QUEUE_MAX: usize = 1024;
/// Look-ups at once.
const LOOKUPS_AT_ONCE: usize = 8;

/// What is asked: namespace, group, kind and name. The version of a reference may be an old one, so it does not count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    namespace: String,
    group: String,
    kind: String,
    name: String,
}

#[derive(Debug)]
struct Entry {
    answer: Lookup,
    /// When to look again; `None` while a look-up is under way.
    due: Option<Instant>,
    used: Instant,
}

/// Where a kind is served.
#[derive(Clone, Debug)]
enum Mapping {
    Served { version: String, plural: String },
    Unknown,
}

/// The cache. Cheap to clone.
#[derive(Clone)]
pub struct Scales(Arc<Inner>);

struct Inner {
    client: Client,
    entries: Mutex<HashMap<Question, Entry>>,
    /// By group and kind, with the time at which to look again.
    mappings: Mutex<HashMap<(String, String), (Mapping, Instant)>>,
    questions: mpsc::Sender<Question>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<Question>>,
}

impl std::fmt::Debug for Scales {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scales").field("entries", &self.0.entries.lock().len()).finish_non_exhaustive()
    }
}

impl Scales {
    /// An empty cache.
    pub fn new(client: Client) -> Self {
        let (questions, receiver) = mpsc::channel(QUEUE_MAX);
        Self(Arc::new(Inner {
            client,
            entries: Mutex::default(),
            mappings: Mutex::default(),
            questions,
            receiver: tokio::sync::Mutex::new(receiver),
        }))
    }

    /// What is known of a controller.
    pub fn get(&self, key: &ControllerKey) -> Lookup {
        let Some(group) = key.group() else {
            return Lookup::Failed(format!("{:?} is not an API version", key.api_version));
        };
        let question = Question {
            namespace: key.namespace.clone(),
            group: group.to_owned(),
            kind: key.kind.clone(),
            name: key.name.clone(),
        };
        let now = Instant::now();
        let mut entries = self.0.entries.lock();
        if !entries.contains_key(&question) {
            make_room(&mut entries, now);
        }
        let entry = entries.entry(question.clone()).or_insert(Entry {
            answer: Lookup::Pending,
            due: Some(now),
            used: now,
        });
        entry.used = now;
        // When the queue is full the entry stays due, and the next question tries again.
        if entry.due.is_some_and(|due| due <= now) && self.0.questions.try_send(question).is_ok() {
            entry.due = None;
        }
        entry.answer.clone()
    }

    /// Forgets all answers.
    pub fn forget(&self) {
        self.0.entries.lock().clear();
        self.0.mappings.lock().clear();
    }

    /// Looks up what is asked, for ever.
    pub async fn run(self) {
        let mut receiver = self.0.receiver.lock().await;
        futures::stream::poll_fn(|cx| receiver.poll_recv(cx))
            .for_each_concurrent(LOOKUPS_AT_ONCE, |question| async {
                let found = self.look_up(&question).await;
                self.settle(question, found);
            })
            .await;
    }

    fn settle(&self, question: Question, found: Lookup) {
        let fresh = match &found {
            Lookup::Found(_) => FRESH + jitter(FRESH),
            Lookup::NotFound | Lookup::UnknownKind | Lookup::Forbidden => {
                FRESH_REFUSED + jitter(FRESH_REFUSED)
            }
            Lookup::Pending | Lookup::Failed(_) => FRESH_FAILED + jitter(FRESH_FAILED),
        };
        let now = Instant::now();
        let mut entries = self.0.entries.lock();
        let entry =
            entries.entry(question).or_insert(Entry { answer: Lookup::Pending, due: None, used: now });
        entry.due = Some(now + fresh);
        let keep = matches!((&entry.answer, &found), (Lookup::Found(_), Lookup::Failed(_)));
        if !keep {
            entry.answer = found;
        }
    }

    async fn look_up(&self, question: &Question) -> Lookup {
        let mapping = match self.mapping(&question.group, &question.kind).await {
            Ok(mapping) => mapping,
            Err(failure) => return refused(failure),
        };
        let Mapping::Served { version, plural } = mapping else { return Lookup::UnknownKind };
        let Question { namespace, group, kind, name } = question;
        let root = api_root(group, &version);
        let path = format!("{root}/namespaces/{}/{plural}/{}/scale", segment(namespace), segment(name));
        match self.read::<Scale>(&path).await {
            Ok(scale) => Lookup::Found(Arc::new(controller(scale, question, &version))),
            Err(failure) => {
                tracing::debug!(kind, namespace, name, ?failure, "no scale subresource");
                refused(failure)
            }
        }
    }

    /// Where a kind is served, from the cache or by discovery.
    async fn mapping(&self, group: &str, kind: &str) -> Result<Mapping, Failure> {
        let id = (group.to_owned(), kind.to_owned());
        if let Some((mapping, until)) = self.0.mappings.lock().get(&id)
            && Instant::now() < *until
        {
            return Ok(mapping.clone());
        }
        let mapping = match self.discover(group, kind).await {
            Err(Failure::NotFound) => Mapping::Unknown,
            other => other?,
        };
        let fresh = if matches!(mapping, Mapping::Unknown) { FRESH_REFUSED } else { FRESH };
        let mut mappings = self.0.mappings.lock();
        if mappings.len() >= ENTRIES_MAX {
            mappings.clear();
        }
        mappings.insert(id, (mapping.clone(), Instant::now() + fresh));
        Ok(mapping)
    }

    async fn discover(&self, group: &str, kind: &str) -> Result<Mapping, Failure> {
        let versions = if group.is_empty() {
            vec!["v1".to_owned()]
        } else {
            let found: ApiGroup = self.read(&format!("/apis/{}", segment(group))).await?;
            let preferred = found.preferred_version.map(|version| version.version);
            let others = found.versions.into_iter().map(|version| version.version);
            let others: Vec<String> = others.filter(|version| Some(version) != preferred.as_ref()).collect();
            preferred.into_iter().chain(others).collect()
        };
        for version in versions {
            let served: ApiResources = self.read(&api_root(group, &version)).await?;
            let plural = served
                .resources
                .into_iter()
                .find(|resource| resource.kind == kind && !resource.name.contains('/'))
                .map(|resource| resource.name);
            if let Some(plural) = plural {
                return Ok(Mapping::Served { version, plural });
            }
        }
        Ok(Mapping::Unknown)
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|e| Failure::Invalid(format!("{path}: {e}")))?;
        self.0.client.request(request).await.map_err(|error| Failure::of(&error))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiGroup {
    #[serde(default)]
    versions: Vec<ApiVersion>,
    preferred_version: Option<ApiVersion>,
}

#[derive(Deserialize)]
struct ApiVersion {
    version: String,
}

#[derive(Deserialize)]
struct ApiResources {
    #[serde(default)]
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    kind: String,
}

fn api_root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{}", segment(version))
    } else {
        format!("/apis/{}/{}", segment(group), segment(version))
    }
}

/// A text as one segment of a path. Owner references and target references are written by users.
fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    // Dots alone would be taken as steps in the path.
    match segment.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => segment,
    }
}

fn refused(failure: Failure) -> Lookup {
    match failure {
        Failure::NotFound => Lookup::NotFound,
        Failure::Forbidden(_) => Lookup::Forbidden,
        Failure::Conflict => Lookup::Failed("conflict".to_owned()),
        Failure::TooMany(text) | Failure::Invalid(text) | Failure::Unavailable(text) => Lookup::Failed(text),
    }
}

fn controller(scale: Scale, question: &Question, version: &str) -> Controller {
    let Question { namespace, group, kind, name } = question;
    let owners = scale.metadata.owner_references.unwrap_or_default();
    let selector = scale.status.and_then(|status| status.selector).unwrap_or_default();
    Controller {
        key: ControllerKey {
            namespace: namespace.clone(),
            api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
            kind: kind.clone(),
            name: name.clone(),
        },
        uid: scale.metadata.uid,
        owner: controller_owner(&owners).map(|owner| ControllerKey::of_owner(namespace, owner)),
        selector: Selector::parse(&selector),
        replicas: scale.spec.and_then(|spec| spec.replicas),
        containers: None,
    }
}

/// Drops what has not been asked for in a long time and, if that is not enough, what was asked for longest ago.
fn make_room(entries: &mut HashMap<Question, Entry>, now: Instant) {
    if entries.len() < ENTRIES_MAX {
        return;
    }
    entries.retain(|_, entry| now.duration_since(entry.used) < UNUSED_MAX);
    if entries.len() < ENTRIES_MAX {
        return;
    }
    // A tenth at once, so that a full cache does not sort itself for every new question.
    let mut used: Vec<Instant> = entries.values().map(|entry| entry.used).collect();
    used.sort_unstable();
    if let Some(limit) = used.get(ENTRIES_MAX / 10).copied() {
        entries.retain(|_, entry| entry.used > limit);
    }
}

#[cfg(test)]
mod tests;
