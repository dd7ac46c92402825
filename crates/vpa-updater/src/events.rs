//! Events about pods and VPAs.
//!
//! They are written in the background and never hold up a pass. An event that is there already is counted up instead of
//! written anew.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::{Event as KubeEvent, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vpa_core::update::{Event, EventTarget, ObjectRef};
use vpa_runtime::client::{chain, repeat, server_failed};
use vpa_runtime::clock;

use crate::writes::FAILED_SERVER_WAITS;

/// Events that may wait to be written. A pass that disrupts more pods than this at once loses some of their events, which
/// is logged; the log and the metrics have them all.
const QUEUE_MAX: usize = 4096;
/// Events that are remembered in order to count them up.
const KNOWN_MAX: usize = 4096;
/// Name under which events are written.
const COMPONENT: &str = "vpa-updater";

/// Takes events and writes them in the background.
#[derive(Clone, Debug)]
pub struct EventWriter(mpsc::Sender<Event>);

/// The background task of an [`EventWriter`].
pub struct EventTask {
    client: Client,
    queue: mpsc::Receiver<Event>,
    known: HashMap<u64, Known>,
    order: VecDeque<u64>,
    trouble: bool,
}

/// An event that was written. It is found by a hash of what it is about and says: there are too many to keep the texts.
struct Known {
    namespace: String,
    name: String,
    count: i32,
}

impl EventWriter {
    /// A writer and its task.
    pub fn new(client: Client) -> (Self, EventTask) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let task = EventTask { client, queue, known: HashMap::new(), order: VecDeque::new(), trouble: false };
        (Self(sender), task)
    }

    /// Takes an event; loses it when the queue is full.
    pub fn write(&self, event: Event) {
        if let Err(error) = self.0.try_send(event) {
            tracing::debug!(%error, "an event is lost");
        }
    }
}

impl EventTask {
    /// Writes events until all writers are gone, or until `stop` and the queue is empty.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let event = tokio::select! {
                biased;
                event = self.queue.recv() => event,
                () = stop.cancelled() => self.queue.try_recv().ok(),
            };
            let Some(event) = event else { return };
            match self.write(&event).await {
                Ok(()) => self.trouble = false,
                Err(error) if !self.trouble => {
                    self.trouble = true;
                    tracing::warn!(error = chain(&error), "events cannot be written; going on without");
                }
                Err(_) => {}
            }
        }
    }

    async fn write(&mut self, event: &Event) -> Result<(), kube::Error> {
        let (kind, api_version, object) = match &event.on {
            EventTarget::Pod(object) => ("Pod", "v1", object),
            EventTarget::Vpa(object) => ("VerticalPodAutoscaler", "autoscaling.k8s.io/v1", object),
        };
        let key = self.known.hasher().hash_one((&object.uid, event.reason, &event.message));
        let now = Time(clock::wall());
        if let Some(known) = self.known.get_mut(&key) {
            let api: Api<KubeEvent> = Api::namespaced(self.client.clone(), &known.namespace);
            let patch = json!({ "count": known.count.saturating_add(1), "lastTimestamp": now });
            match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => {
                    known.count = known.count.saturating_add(1);
                    return Ok(());
                }
                // Events do not live long; a new one begins.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let made = make(event, kind, api_version, object, now);
        let (namespace, name) = (object.namespace.clone(), made.metadata.name.clone().unwrap_or_default());
        let api: Api<KubeEvent> = Api::namespaced(self.client.clone(), &namespace);
        create(&api, &made).await?;
        if !event.is_final() {
            self.remember(key, Known { namespace, name, count: 1 });
        }
        Ok(())
    }

    fn remember(&mut self, key: u64, known: Known) {
        if self.known.insert(key, known).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > KNOWN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

/// Creates an event, again where the server failed: its name is its own, so it is never there twice.
async fn create(api: &Api<KubeEvent>, made: &KubeEvent) -> Result<(), kube::Error> {
    let (params, mut sent) = (PostParams::default(), 0);
    let created = repeat(&FAILED_SERVER_WAITS, server_failed, || {
        sent += 1;
        api.create(&params, made)
    });
    match created.await {
        // An attempt before was carried out after all.
        Err(kube::Error::Api(status)) if status.code == 409 && sent > 1 => Ok(()),
        result => result.map(drop),
    }
}

fn make(event: &Event, kind: &str, api_version: &str, object: &ObjectRef, now: Time) -> KubeEvent {
    KubeEvent {
        metadata: ObjectMeta {
            namespace: Some(object.namespace.clone()),
            // As client-go names them: unique, and sorted by time within an object.
            name: Some(format!("{}.{:x}", object.name, now.0.as_nanosecond())),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            kind: Some(kind.to_owned()),
            api_version: Some(api_version.to_owned()),
            namespace: Some(object.namespace.clone()),
            name: Some(object.name.clone()),
            uid: Some(object.uid.clone()).filter(|uid| !uid.is_empty()),
            resource_version: Some(object.resource_version.clone()).filter(|version| !version.is_empty()),
            ..ObjectReference::default()
        },
        reason: Some(event.reason.to_owned()),
        message: Some(event.message.clone()),
        type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        ..KubeEvent::default()
    }
}
