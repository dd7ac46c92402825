//! Deletion: preconditions, grace, finalizers, and what depends on the deleted object.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::kinds::Kind;
use super::read::{present, selector};
use super::state::{Call, State};
use super::store::{Key, Refused};
use super::value::{items, meta, text, time_text};
use super::write::after_delete;

/// Attempts to delete an object that others change at the same time.
const ATTEMPTS_MAX: usize = 8;

/// Options of a deletion.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) orphan: bool,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Reads a `DeleteOptions` object.
    pub(crate) fn read(options: &Value) -> Self {
        Self {
            grace_seconds: options["gracePeriodSeconds"].as_i64(),
            uid: text(options, &["preconditions", "uid"]).to_owned(),
            resource_version: text(options, &["preconditions", "resourceVersion"]).to_owned(),
            orphan: text(options, &["propagationPolicy"]) == "Orphan" || options["orphanDependents"] == true,
            dry_run: items(&options["dryRun"]).iter().any(|value| value == "All"),
        }
    }

    fn of(call: &Call) -> ApiResult<Self> {
        let mut options = Self::read(&call.json()?);
        if let Some(seconds) = call.query.number("gracePeriodSeconds")? {
            options.grace_seconds = i64::try_from(seconds).ok();
        }
        options.orphan |= call.query.get("propagationPolicy") == "Orphan";
        options.dry_run |= call.query.dry_run()?;
        Ok(options)
    }
}

/// How a deletion ended.
pub(crate) enum Deleted {
    /// The object is gone; its last state.
    Gone(Arc<Value>),
    /// It is marked and goes when its grace time, finalizers or contents are over.
    Marked(Arc<Value>),
}

/// Deletes the object of the call.
pub(crate) fn delete(state: &State, call: &Call) -> ApiResult<Value> {
    let options = DeleteOptions::of(call)?;
    match delete_object(state, &call.kind, &call.key(), &options)? {
        Deleted::Marked(object) => Ok(present(call, &object)),
        Deleted::Gone(object)
            if matches!(call.kind.plural.as_str(), "pods" | "services" | "serviceaccounts") =>
        {
            Ok(present(call, &object))
        }
        Deleted::Gone(object) => Ok(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {
                "name": call.path.name, "group": call.kind.group, "kind": call.kind.plural,
                "uid": meta(&object, "uid"),
            },
        })),
    }
}

/// Deletes every object that the call selects.
pub(crate) fn delete_collection(state: &State, call: &Call) -> ApiResult<Value> {
    let options = DeleteOptions::of(call)?;
    let selector = selector(call)?;
    let page = state
        .store
        .list(&call.kind.table(), &call.path.namespace, None, usize::MAX, |object| selector.matches(object));
    let mut deleted = Vec::new();
    for object in &page.objects {
        match delete_object(state, &call.kind, &Key::of(object), &options) {
            Ok(Deleted::Gone(object) | Deleted::Marked(object)) => deleted.push(present(call, &object)),
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(json!({
        "apiVersion": call.kind.api_version(&call.path.version), "kind": call.kind.list_kind,
        "metadata": {"resourceVersion": page.version.to_string()}, "items": deleted,
    }))
}

/// Deletes one object by the rules of its kind.
pub(crate) fn delete_object(
    state: &State,
    kind: &Kind,
    key: &Key,
    options: &DeleteOptions,
) -> ApiResult<Deleted> {
    let table = kind.table();
    let not_found = || ApiError::not_found(&kind.group, &kind.plural, &key.name);
    for _ in 0..ATTEMPTS_MAX {
        let current = state.store.get(&table, key).ok_or_else(not_found)?;
        check_preconditions(kind, &current, options)?;
        if options.dry_run {
            return Ok(Deleted::Gone(current));
        }
        let written = match marked(kind, &current, options) {
            Some(marked) if marked == *current => return Ok(Deleted::Marked(current)),
            Some(marked) => state.store.replace(&table, &current, marked).map(Deleted::Marked),
            None => state.store.remove(&table, &current).map(Deleted::Gone),
        };
        match written {
            Ok(done) => {
                if options.orphan {
                    release_dependents(state, meta(&current, "uid"));
                }
                if let Deleted::Gone(object) = &done {
                    after_delete(state, kind, object);
                } else {
                    state.deleted.notify_one();
                }
                return Ok(done);
            }
            Err(Refused::NotFound) => return Err(not_found()),
            Err(Refused::Changed | Refused::Exists) => {}
        }
    }
    Err(ApiError::modified(&kind.group, &kind.plural, &key.name))
}

fn check_preconditions(kind: &Kind, current: &Value, options: &DeleteOptions) -> ApiResult<()> {
    for (what, wanted, found) in [
        ("UID", &options.uid, meta(current, "uid")),
        ("ResourceVersion", &options.resource_version, meta(current, "resourceVersion")),
    ] {
        if !wanted.is_empty() && wanted != found {
            let name = meta(current, "name");
            return Err(ApiError::precondition(&kind.group, &kind.kind, name, what, wanted, found));
        }
    }
    Ok(())
}

/// The object with its mark of deletion where it does not go at once.
fn marked(kind: &Kind, current: &Value, options: &DeleteOptions) -> Option<Value> {
    let grace = if kind.plural == "pods" { pod_grace(current, options) } else { 0 };
    let waits =
        grace > 0 || !items(&current["metadata"]["finalizers"]).is_empty() || kind.plural == "namespaces";
    if !waits {
        return None;
    }
    let mut object = current.clone();
    let before = current["metadata"]["deletionGracePeriodSeconds"].as_i64();
    // A later deletion can only shorten the time.
    if meta(current, "deletionTimestamp").is_empty() || before.is_some_and(|before| grace < before) {
        let at = jiff::Timestamp::now() + SignedDuration::from_secs(grace);
        object["metadata"]["deletionTimestamp"] = json!(time_text(at));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        if kind.has_generation() {
            let generation = current["metadata"]["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation.saturating_add(1));
        }
    }
    if kind.plural == "namespaces" {
        object["status"]["phase"] = json!("Terminating");
    }
    Some(object)
}

/// A pod that no kubelet runs goes at once.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let unassigned = text(pod, &["spec", "nodeName"]).is_empty();
    if unassigned || matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
        return 0;
    }
    options
        .grace_seconds
        .unwrap_or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30))
        .max(0)
}

/// Takes the owner out of its dependents, so that they stay.
fn release_dependents(state: &State, uid: &str) {
    for (table, key) in state.store.dependents(uid) {
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = state.store.get(&table, &key) else { break };
            let mut object = (*current).clone();
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|owner| text(owner, &["uid"]) != uid);
            }
            if state.store.replace(&table, &current, object).is_ok() {
                break;
            }
        }
    }
}

/// How often the collector looks even if nothing seems to have been deleted: catches objects created under an owner
/// that was gone already.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Deletes what lost its owner, and the contents of namespaces that are going. Runs until shutdown.
pub(crate) async fn collect_garbage(state: Arc<State>) {
    loop {
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = state.deleted.notified() => {}
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
        }
        for (table, key) in state.store.orphans() {
            delete_by_table(&state, &table, &key);
        }
        empty_namespaces(&state);
    }
}

fn delete_by_table(state: &State, table: &str, key: &Key) {
    let kind = state.kinds.read().all().find(|kind| kind.table() == table).cloned();
    let Some(kind) = kind else { return };
    if let Err(error) = delete_object(state, &kind, key, &DeleteOptions::default())
        && error.code != 404
    {
        tracing::warn!(%table, namespace = %key.namespace, name = %key.name, error = %error.message, "not collected");
    }
}

fn empty_namespaces(state: &State) {
    let going = state.store.list("namespaces", "", None, usize::MAX, |namespace| {
        !meta(namespace, "deletionTimestamp").is_empty()
    });
    for namespace in going.objects {
        let name = meta(&namespace, "name");
        for (table, key) in state.store.in_namespace(name) {
            // Nobody waits for the kubelet of a namespace that goes.
            let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
            let kind = state.kinds.read().all().find(|kind| kind.table() == table).cloned();
            if let Some(kind) = kind {
                // What has finalizers stays until they are gone; their removal wakes the collector again.
                let _waits = delete_object(state, &kind, &key, &options);
            }
        }
        if state.store.in_namespace(name).is_empty() {
            let _gone = state.store.remove("namespaces", &namespace);
        }
    }
}
