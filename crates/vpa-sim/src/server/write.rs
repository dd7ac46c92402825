//! Create, update and patch, from the body to the store.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::convert::{to_storage, to_version};
use super::error::{ApiError, ApiResult, Cause};
use super::kinds::Kind;
use super::names;
use super::patch::{self, Format};
use super::pods;
use super::read::present;
use super::request::Verb;
use super::resize;
use super::state::{Call, State};
use super::store::{Key, Refused};
use super::value::{at_mut, copy_path, drop_nulls, items, map_mut, meta, now_text, text};
use super::webhook::{Operation, Review};
use super::{crd, defaults};

/// Attempts to apply a patch to an object that others change at the same time; as in the API server.
const ATTEMPTS_MAX: usize = 8;
/// Attempts to find a free generated name.
const NAME_ATTEMPTS_MAX: usize = 8;

/// Which part of an object a write may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
    Resize,
}

impl Part {
    pub(crate) fn of(subresource: &str) -> Option<Self> {
        match subresource {
            "" | "finalize" => Some(Self::Main),
            "status" => Some(Self::Status),
            "resize" => Some(Self::Resize),
            _ => None,
        }
    }

    fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Resize => "resize",
        }
    }
}

/// Creates the object in the body; answers with it.
pub(crate) async fn create(state: &State, call: &Call) -> ApiResult<Value> {
    let body = call.json()?;
    let object = create_object(state, call, body).await?;
    Ok(present(call, &object))
}

async fn create_object(state: &State, call: &Call, body: Value) -> ApiResult<Arc<Value>> {
    let mut object = check_body(call, body)?;
    start_metadata(state, call, &mut object)?;
    for attempt in 1.. {
        let generated = fill_name(call, &mut object)?;
        let prepared = prepare_new(state, call, object.clone()).await?;
        if call.query.dry_run()? {
            return Ok(Arc::new(prepared));
        }
        match state.store.create(&call.kind.table(), prepared) {
            Ok(stored) => {
                after_write(state, &call.kind, &stored);
                return Ok(stored);
            }
            Err(_) if generated && attempt < NAME_ATTEMPTS_MAX => {
                object["metadata"]["name"] = Value::Null;
            }
            Err(_) => {
                let name = meta(&object, "name");
                return Err(ApiError::already_exists(&call.kind.group, &call.kind.plural, name));
            }
        }
    }
    Err(ApiError::internal("no free name"))
}

/// Checks type and namespace of a body against the path.
fn check_body(call: &Call, mut body: Value) -> ApiResult<Value> {
    if !body.is_object() {
        return Err(ApiError::bad_request("the body is no object"));
    }
    let (wanted, kind) = (call.kind.api_version(&call.path.version), call.kind.kind.as_str());
    for (field, expected) in [("apiVersion", wanted.as_str()), ("kind", kind)] {
        let found = text(&body, &[field]);
        if !found.is_empty() && found != expected {
            let message =
                format!("the {field} in the data ({found}) does not match the expected {field} ({expected})");
            return Err(ApiError::bad_request(message));
        }
        body[field] = json!(expected);
    }
    map_mut(at_mut(&mut body, &["metadata"])).remove("managedFields");
    let found = meta(&body, "namespace").to_owned();
    if call.kind.namespaced {
        if !found.is_empty() && found != call.path.namespace {
            let message =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(message));
        }
        body["metadata"]["namespace"] = json!(call.path.namespace);
    } else if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    // Null can be a value of its own in a custom resource; its schema decides.
    if !call.kind.custom {
        drop_nulls(&mut body);
    }
    Ok(to_storage(&call.kind, body))
}

fn start_metadata(state: &State, call: &Call, object: &mut Value) -> ApiResult<()> {
    if !meta(object, "resourceVersion").is_empty() {
        // Odd, but so it is: without a reason, and as the server's own fault.
        return Err(ApiError::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    if call.kind.namespaced {
        let namespace = &call.path.namespace;
        let found = state.store.get("namespaces", &Key::new("", namespace.clone()));
        let found = found.ok_or_else(|| ApiError::not_found("", "namespaces", namespace))?;
        if !meta(&found, "deletionTimestamp").is_empty() {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let message = format!("namespace {namespace} is being terminated");
            return Err(ApiError::forbidden(&call.kind.group, &call.kind.plural, meta(object, "name"), &why)
                .with_field_cause("NamespaceTerminating", &message, "metadata.namespace"));
        }
    }
    let metadata = map_mut(&mut object["metadata"]);
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.remove(key);
    }
    metadata.insert("uid".to_owned(), json!(names::uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(now_text()));
    if call.kind.has_generation() {
        metadata.insert("generation".to_owned(), json!(1));
    }
    Ok(())
}

/// Makes up a name from `generateName` where there is none; whether it did.
fn fill_name(call: &Call, object: &mut Value) -> ApiResult<bool> {
    if !meta(object, "name").is_empty() {
        let name = meta(object, "name");
        // RBAC names may hold colons and more.
        let free = call.kind.group == "rbac.authorization.k8s.io";
        if !free && !names::is_dns_subdomain(name) {
            let detail = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                          and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                          validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
            let cause = Cause::invalid("metadata.name", &json!(name), detail);
            return Err(ApiError::invalid(&call.kind.group, &call.kind.kind, name, &[cause]));
        }
        return Ok(false);
    }
    let prefix = meta(object, "generateName").to_owned();
    if prefix.is_empty() {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(ApiError::invalid(&call.kind.group, &call.kind.kind, "", &[cause]));
    }
    // Room for the suffix within the 63 characters of a label.
    let kept: String = prefix.chars().take(58).collect();
    object["metadata"]["name"] = json!(format!("{kept}{}", names::suffix()));
    Ok(true)
}

async fn prepare_new(state: &State, call: &Call, mut object: Value) -> ApiResult<Value> {
    let kind = &call.kind;
    if kind.kind == "Pod" && kind.group.is_empty() {
        pods::reset_status(&mut object);
    } else if call.version()?.status && !matches!(kind.plural.as_str(), "nodes" | "namespaces" | "services") {
        map_mut(&mut object).remove("status");
        if let Some(status) = defaults::first_status(kind) {
            object["status"] = status;
        }
    }
    complete(call, &mut object)?;
    let review = Review { operation: Operation::Create, part: "", old: &Value::Null };
    let mut object = state.webhooks.mutate(state, call, &review, object).await?;
    complete(call, &mut object)?;
    if kind.kind == "Pod" && kind.group.is_empty() {
        pods::reset_status(&mut object);
    }
    validate(call, &object)?;
    Ok(object)
}

/// Prunes, fills in defaults and brings into canonical form.
fn complete(call: &Call, object: &mut Value) -> ApiResult<()> {
    let Some(schema) = &call.version()?.schema else {
        if !call.kind.custom {
            defaults::fill(&call.kind, object);
            if call.kind.plural == "customresourcedefinitions"
                && let Ok(kind) = crd::kind_of(object)
            {
                crd::accept(object, &kind);
            }
        }
        return Ok(());
    };
    let dropped = schema.prune_root(object);
    if !dropped.is_empty() && call.query.get("fieldValidation") == "Strict" {
        let texts: Vec<String> = dropped.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        let message = format!(
            "{0} in version \"{1}\" cannot be handled as a {0}: strict decoding error: {2}",
            call.kind.kind,
            call.path.version,
            texts.join(", ")
        );
        return Err(ApiError::bad_request(message));
    }
    schema.fill_defaults(object);
    Ok(())
}

fn validate(call: &Call, object: &Value) -> ApiResult<()> {
    let causes = match &call.version()?.schema {
        Some(schema) => schema.validate(object),
        None if call.kind.kind == "Pod" && call.kind.group.is_empty() => pods::validate(object),
        None if call.kind.plural == "customresourcedefinitions" => {
            crd::kind_of(object).err().into_iter().collect()
        }
        None => Vec::new(),
    };
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&call.kind.group, &call.kind.kind, meta(object, "name"), &causes))
}

/// Replaces the object by the body.
pub(crate) async fn put(state: &State, call: &Call, part: Part) -> ApiResult<(StatusCode, Value)> {
    let body = check_body(call, call.json()?)?;
    let found = meta(&body, "name").to_owned();
    if found != call.path.name {
        let message = format!(
            "the name of the object ({found}) does not match the name on the URL ({})",
            call.path.name
        );
        return Err(ApiError::bad_request(message));
    }
    let missing = state.store.get(&call.kind.table(), &call.key()).is_none();
    let creates = matches!(call.kind.plural.as_str(), "leases" | "endpoints" | "events");
    if missing && creates && part == Part::Main {
        let mut body = body;
        map_mut(&mut body["metadata"]).remove("resourceVersion");
        let version = to_version(&call.kind, &call.path.version, &body).into_owned();
        return Ok((StatusCode::CREATED, present(call, &*create_object(state, call, version).await?)));
    }
    if call.kind.custom && meta(&body, "resourceVersion").is_empty() {
        let cause = Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
        return Err(ApiError::invalid(&call.kind.group, &call.kind.plural, &found, &[cause]));
    }
    let stored = update(state, call, part, |_| Ok(body.clone())).await?;
    Ok((StatusCode::OK, present(call, &stored)))
}

/// Applies the patch in the body.
pub(crate) async fn patch(state: &State, call: &Call, part: Part) -> ApiResult<(StatusCode, Value)> {
    let format = Format::of(&call.content_type)?;
    if format == Format::Strategic && call.kind.custom {
        return Err(ApiError::unsupported_media(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        ));
    }
    let body = patch::decode(format, &call.body)?;
    let missing = state.store.get(&call.kind.table(), &call.key()).is_none();
    if format == Format::Apply && missing && part == Part::Main {
        let mut body = body;
        body["metadata"]["name"] = json!(call.path.name);
        return Ok((StatusCode::CREATED, present(call, &*create_object(state, call, body).await?)));
    }
    let stored = update(state, call, part, |current| {
        let current = to_version(&call.kind, &call.path.version, current);
        let patched = patch::apply(format, &current, &body)?;
        check_body(call, patched)
    })
    .await?;
    Ok((StatusCode::OK, present(call, &stored)))
}

/// Changes an object by `change`, which gets and gives the form that is kept. Tried again when someone else was
/// faster, unless the new object names the version it was made from.
pub(crate) async fn update(
    state: &State,
    call: &Call,
    part: Part,
    change: impl Fn(&Value) -> ApiResult<Value>,
) -> ApiResult<Arc<Value>> {
    let table = call.kind.table();
    for _ in 0..ATTEMPTS_MAX {
        let current = state.store.get(&table, &call.key()).ok_or_else(|| call.not_found())?;
        let wanted = change(&current)?;
        check_preconditions(call, &current, &wanted)?;
        let prepared = prepare_update(state, call, part, &current, wanted).await?;
        if call.query.dry_run()? || prepared == *current {
            return Ok(Arc::new(prepared));
        }
        let done = !meta(&prepared, "deletionTimestamp").is_empty()
            && items(&prepared["metadata"]["finalizers"]).is_empty()
            && prepared["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
            && call.kind.plural != "namespaces";
        match state.store.replace(&table, &current, prepared) {
            Ok(stored) if done => {
                // The last finalizer went: so does the object.
                let _gone = state.store.remove(&table, &stored);
                after_delete(state, &call.kind, &stored);
                return Ok(stored);
            }
            Ok(stored) => {
                after_write(state, &call.kind, &stored);
                return Ok(stored);
            }
            Err(Refused::NotFound) => return Err(call.not_found()),
            Err(Refused::Changed | Refused::Exists) => {}
        }
    }
    Err(call.modified())
}

fn check_preconditions(call: &Call, current: &Value, wanted: &Value) -> ApiResult<()> {
    let version = meta(wanted, "resourceVersion");
    if !version.is_empty() && version != "0" && version != meta(current, "resourceVersion") {
        return Err(call.modified());
    }
    let (uid, found) = (meta(wanted, "uid"), meta(current, "uid"));
    if !uid.is_empty() && uid != found {
        if call.verb == Verb::Patch {
            let cause = Cause::invalid("metadata.uid", &json!(uid), "field is immutable");
            return Err(ApiError::invalid(&call.kind.group, &call.kind.kind, &call.path.name, &[cause]));
        }
        let key = if call.kind.custom || !call.kind.group.is_empty() {
            format!("/registry/{}/{}", call.kind.group, call.kind.plural)
        } else {
            format!("/registry/{}", call.kind.plural)
        };
        let place = [key.as_str(), &call.path.namespace, &call.path.name].join("/").replace("//", "/");
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {place}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
        );
        return Err(ApiError::conflict(&call.kind.group, &call.kind.plural, &call.path.name, &why));
    }
    Ok(())
}

async fn prepare_update(
    state: &State,
    call: &Call,
    part: Part,
    current: &Value,
    wanted: Value,
) -> ApiResult<Value> {
    let mut object = restrict(call, part, current, wanted)?;
    complete(call, &mut object)?;
    let review = Review { operation: Operation::Update, part: part.subresource(), old: current };
    let object = state.webhooks.mutate(state, call, &review, object).await?;
    let mut object = restrict(call, part, current, object)?;
    complete(call, &mut object)?;
    let is_pod = call.kind.kind == "Pod" && call.kind.group.is_empty();
    match part {
        Part::Main if is_pod => {
            let mut causes = pods::validate(&object);
            causes.extend(pods::update_causes(current, &object));
            if !causes.is_empty() {
                return Err(ApiError::invalid("", "Pod", meta(&object, "name"), &causes));
            }
        }
        Part::Resize => resize::check(state, current, &object)?,
        _ => {}
    }
    // A status write is judged by the schema, too: it is one object.
    validate(call, &object)?;
    let own_status = !call.kind.custom || call.version()?.status;
    if part != Part::Status && call.kind.has_generation() && spec_changed(current, &object, own_status) {
        let generation = current["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation.saturating_add(1));
    }
    Ok(object)
}

/// Whether anything but metadata changed; a status with an endpoint of its own does not count.
fn spec_changed(old: &Value, new: &Value, own_status: bool) -> bool {
    let others = |object: &Value| {
        let mut object = object.clone();
        let map = map_mut(&mut object);
        for key in ["metadata", "apiVersion", "kind"] {
            map.remove(key);
        }
        if own_status {
            map.remove("status");
        }
        object
    };
    others(old) != others(new)
}

/// Keeps what this part of the API may not change.
fn restrict(call: &Call, part: Part, current: &Value, wanted: Value) -> ApiResult<Value> {
    let is_pod = call.kind.kind == "Pod" && call.kind.group.is_empty();
    let mut object = match part {
        Part::Main => {
            let mut object = wanted;
            if is_pod || call.version()?.status {
                copy_path(current, &mut object, &["status"]);
            }
            object
        }
        Part::Status => {
            let mut object = current.clone();
            copy_path(&wanted, &mut object, &["status"]);
            if is_pod {
                copy_path(&wanted, &mut object, &["metadata", "annotations"]);
                copy_path(&wanted, &mut object, &["metadata", "labels"]);
            }
            object
        }
        Part::Resize => resize::restrict(current, &wanted),
    };
    for key in [
        "uid",
        "name",
        "namespace",
        "generateName",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        copy_path(current, &mut object, &["metadata", key]);
    }
    Ok(object)
}

/// What follows from a write: kinds of definitions, the default service account of namespaces.
pub(crate) fn after_write(state: &State, kind: &Kind, object: &Value) {
    match kind.plural.as_str() {
        "customresourcedefinitions" => {
            if let Ok(custom) = crd::kind_of(object) {
                state.kinds.write().insert(custom);
            }
        }
        "namespaces" if meta(object, "deletionTimestamp").is_empty() => {
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {
                    "name": "default", "namespace": meta(object, "name"), "uid": names::uid(),
                    "creationTimestamp": now_text(),
                },
            });
            // It is there already after the first write.
            let _exists = state.store.create("serviceaccounts", account);
        }
        _ => {}
    }
}

/// What follows from a deletion.
pub(crate) fn after_delete(state: &State, kind: &Kind, object: &Value) {
    if kind.plural == "customresourcedefinitions" {
        let (group, plural) = (text(object, &["spec", "group"]), text(object, &["spec", "names", "plural"]));
        let table = super::error::group_resource(group, plural);
        for instance in state.store.list(&table, "", None, usize::MAX, |_| true).objects {
            let _gone = state.store.remove(&table, &instance);
        }
        state.kinds.write().remove_custom(group, plural);
    }
    state.deleted.notify_one();
}
