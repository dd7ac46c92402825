//! Get and list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::convert::{partial, to_version};
use super::error::{ApiError, ApiResult};
use super::selector::Selector;
use super::state::{Call, Form, State};
use super::store::Key;

/// An object in the form that the call asked for.
pub(crate) fn present(call: &Call, object: &Value) -> Value {
    match call.form {
        Form::Full => to_version(&call.kind, &call.path.version, object).into_owned(),
        Form::Metadata => partial(object),
    }
}

pub(crate) fn get(state: &State, call: &Call) -> ApiResult<Value> {
    let object = state.store.get(&call.kind.table(), &call.key()).ok_or_else(|| call.not_found())?;
    Ok(present(call, &object))
}

/// The selector of a list or watch; a name in the path (legacy watches) is not supported.
pub(crate) fn selector(call: &Call) -> ApiResult<Selector> {
    Selector::parse(
        &call.kind.group,
        &call.kind.plural,
        call.query.get("labelSelector"),
        call.query.get("fieldSelector"),
    )
}

/// Where a list goes on: the version of its first page and the last key that was sent.
fn decode_continue(token: &str) -> ApiResult<(u64, Key)> {
    let bad = || ApiError::bad_request("continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let part = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(bad);
    let version = value["rv"].as_u64().ok_or_else(bad)?;
    Ok((version, Key { namespace: part("ns")?, name: part("name")? }))
}

fn encode_continue(version: u64, last: &Key) -> String {
    URL_SAFE_NO_PAD.encode(json!({"rv": version, "ns": last.namespace, "name": last.name}).to_string())
}

pub(crate) fn list(state: &State, call: &Call) -> ApiResult<Value> {
    let selector = selector(call)?;
    let table = call.kind.table();
    let limit = match call.query.number("limit")? {
        None | Some(0) => usize::MAX,
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let token = call.query.get("continue");
    let from = if token.is_empty() { None } else { Some(decode_continue(token)?) };
    if let Some((version, _)) = &from
        && !state.store.reaches(&table, *version)
    {
        let message = "The provided continue parameter is too old to display a consistent list result. \
                       You must start a new list without the continue parameter.";
        return Err(ApiError::expired(message));
    }
    let asked = call.query.number("resourceVersion")?.unwrap_or(0);
    if asked > state.store.version() {
        let mut error = ApiError::new(
            504,
            "Timeout",
            format!("Too large resource version: {asked}, current: {}", state.store.version()),
        );
        error.details = Some(json!({"retryAfterSeconds": 1, "causes": [
            {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}));
        return Err(error);
    }
    let after = from.as_ref().map(|(_, key)| key);
    let page =
        state.store.list(&table, &call.path.namespace, after, limit, |object| selector.matches(object));
    let version = from.as_ref().map_or(page.version, |(version, _)| *version);
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some((last, left)) = &page.next {
        metadata["continue"] = json!(encode_continue(version, last));
        if selector.is_empty() {
            metadata["remainingItemCount"] = json!(left);
        }
    }
    let objects: Vec<Value> = page.objects.iter().map(|object| present(call, object)).collect();
    let (api_version, kind) = match call.form {
        Form::Full => (call.kind.api_version(&call.path.version), call.kind.list_kind.clone()),
        Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
    };
    Ok(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": objects}))
}
