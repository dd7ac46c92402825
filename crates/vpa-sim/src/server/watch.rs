//! Watch: a stream of changes, read from the history of the kind's table.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::header;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::error::{ApiError, ApiResult};
use super::read::{present, selector};
use super::selector::Selector;
use super::state::{Call, State};
use super::store::{Change, Event, Since};

/// A watch ends after this long if it names no timeout; a real API server picks 30 to 60 minutes.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1800);
/// A quiet watch that allows bookmarks gets one this often, as in a real API server.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

struct Watch {
    state: Arc<State>,
    call: Call,
    table: String,
    selector: Selector,
    /// Last version seen.
    version: u64,
    changed: watch::Receiver<u64>,
    pending: VecDeque<Bytes>,
    bookmarks: bool,
    bookmark_at: Instant,
    end: Instant,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Opens a watch.
pub(crate) fn open(state: &Arc<State>, call: Call) -> ApiResult<Response> {
    let selector = selector(&call)?;
    let permit = Arc::clone(&state.watches)
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many_requests("too many watches are open, try again later", 1))?;
    let table = call.kind.table();
    let timeout = call.query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let timeout = timeout.map_or(TIMEOUT_DEFAULT, Duration::from_secs);
    // Subscribed before anything is read, so that no change falls between.
    let changed = state.store.subscribe(&table);
    let asked = call.query.number("resourceVersion")?.unwrap_or(0);
    let initial = match call.query.get("sendInitialEvents") {
        "" => asked == 0,
        flag => flag == "true",
    };
    let mut watch = Watch {
        state: Arc::clone(state),
        table,
        selector,
        version: asked,
        changed,
        pending: VecDeque::new(),
        bookmarks: call.query.flag("allowWatchBookmarks"),
        bookmark_at: Instant::now() + BOOKMARK_INTERVAL,
        end: Instant::now() + timeout,
        ended: false,
        call,
        _permit: permit,
    };
    if initial {
        watch.send_initial();
    } else if asked == 0 {
        watch.version = state.store.version();
    }
    let body = Body::from_stream(stream::unfold(watch, |mut watch| async move {
        let frame = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), watch))
    }));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn frame(kind: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    Bytes::from(line)
}

impl Watch {
    fn send_initial(&mut self) {
        let namespace = &self.call.path.namespace;
        let page = self
            .state
            .store
            .list(&self.table, namespace, None, usize::MAX, |object| self.selector.matches(object));
        self.version = page.version;
        for object in page.objects {
            self.pending.push_back(frame("ADDED", &present(&self.call, &object)));
        }
        if self.call.query.get("sendInitialEvents") == "true" {
            let mut mark = self.bookmark();
            mark["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            self.pending.push_back(frame("BOOKMARK", &mark));
        }
    }

    fn bookmark(&self) -> Value {
        json!({
            "apiVersion": self.call.kind.api_version(&self.call.path.version), "kind": self.call.kind.kind,
            "metadata": {"resourceVersion": self.version.to_string(), "creationTimestamp": null},
        })
    }

    /// The next line; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            self.changed.mark_unchanged();
            self.collect();
            if !self.pending.is_empty() {
                continue;
            }
            let wake = self.bookmark_at.min(self.end);
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return None },
                () = self.state.shutdown.cancelled() => return None,
                () = tokio::time::sleep_until(wake) => self.on_time(),
            }
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if now >= self.bookmark_at {
            self.bookmark_at = now + BOOKMARK_INTERVAL;
            if self.bookmarks {
                self.pending.push_back(frame("BOOKMARK", &self.bookmark()));
            }
        }
        self.ended = now >= self.end;
    }

    fn collect(&mut self) {
        match self.state.store.since(&self.table, self.version) {
            Since::Events(events) => {
                for event in events {
                    self.version = event.version;
                    if let Some(frame) = self.translate(&event) {
                        self.pending.push_back(frame);
                    }
                }
            }
            Since::Expired(oldest) => {
                let message = format!("too old resource version: {} ({oldest})", self.version);
                self.pending.push_back(frame("ERROR", &ApiError::expired(message).status()));
                self.ended = true;
            }
        }
    }

    /// What this watch sees of a change: an object that comes to match is added, one that no longer does is deleted.
    fn translate(&self, event: &Event) -> Option<Bytes> {
        let namespace = &self.call.path.namespace;
        if !namespace.is_empty() && super::value::meta(&event.object, "namespace") != namespace {
            return None;
        }
        let before = event.previous.as_ref().is_some_and(|object| self.selector.matches(object));
        let after = event.change != Change::Deleted && self.selector.matches(&event.object);
        let kind = match (before, after) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        if event.change == Change::Modified && kind == "DELETED" {
            // The last state that matched, at the version of the change.
            let mut last = event.previous.as_deref()?.clone();
            last["metadata"]["resourceVersion"] = json!(event.version.to_string());
            return Some(frame(kind, &present(&self.call, &last)));
        }
        Some(frame(kind, &present(&self.call, &event.object)))
    }
}
