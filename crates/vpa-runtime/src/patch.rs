//! Patches, with their preconditions.

use kube::api::{PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Asks for an object's metadata in place of the object.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// A merge patch that applies only while the object is at `resource_version`: the API server answers 409 otherwise.
/// Without a version it applies in any case.
pub fn guarded(body: Value, resource_version: Option<&str>) -> Value {
    let mut body = body;
    if let (Some(version), Value::Object(fields)) = (resource_version, &mut body) {
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Value::Object(metadata) = metadata {
            metadata.insert("resourceVersion".to_owned(), Value::String(version.to_owned()));
        }
    }
    body
}

/// Replaces parts of the status of an object by a merge patch: `status` holds the fields that change, with `null` for
/// those to remove. Of the answer only the metadata is asked for.
///
/// # Errors
/// The API server's answer; 409 where the object is no longer at `resource_version`.
pub async fn merge_status<K>(
    api: &Api<K>,
    name: &str,
    status: Value,
    resource_version: Option<&str>,
) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = Patch::Merge(guarded(json!({ "status": status }), resource_version));
    let request = kube::core::Request::new(api.resource_url())
        .patch_subresource("status", name, &PatchParams::default(), &patch)
        .map_err(kube::Error::BuildRequest)?;
    briefly::<K>(api, request).await
}

/// A JSON patch of an object. Of the answer only the metadata is asked for.
///
/// # Errors
/// The API server's answer.
pub async fn operations<K>(api: &Api<K>, name: &str, patch: json_patch::Patch) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    api.patch_metadata(name, &PatchParams::default(), &Patch::<()>::Json(patch)).await.map(drop)
}

/// Creates an object. Of the answer only the metadata is asked for.
///
/// # Errors
/// The API server's answer; 409 where it exists.
pub async fn create<K>(api: &Api<K>, object: &K) -> Result<(), kube::Error>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let request = kube::core::Request::new(api.resource_url())
        .create(&PostParams::default(), body)
        .map_err(kube::Error::BuildRequest)?;
    briefly::<K>(api, request).await
}

/// Sends a request of whose answer nothing but the metadata is read. Sending back whole objects would cost both sides
/// more than the request itself.
async fn briefly<K>(api: &Api<K>, mut request: http::Request<Vec<u8>>) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA_ONLY));
    let client = api.clone().into_client();
    client.request::<PartialObjectMeta<K>>(request).await.map(drop)
}

/// A merge patch of an object.
///
/// # Errors
/// The API server's answer; 409 where the object is no longer at `resource_version`.
pub async fn merge<K, P>(
    api: &Api<K>,
    name: &str,
    body: P,
    resource_version: Option<&str>,
) -> Result<K, kube::Error>
where
    K: Resource + DeserializeOwned + std::fmt::Debug + Clone,
    P: Into<Value>,
{
    let body = guarded(body.into(), resource_version);
    api.patch(name, &PatchParams::default(), &Patch::Merge(body)).await
}

/// A strategic merge patch of a subresource, such as a pod's `resize`. `metadata.uid` or `metadata.resourceVersion`
/// in the body make it conditional. The answer is read as `K`.
///
/// # Errors
/// The API server's answer.
pub async fn strategic_subresource<K, P>(
    api: &Api<K>,
    subresource: &str,
    name: &str,
    body: &P,
) -> Result<K, kube::Error>
where
    K: DeserializeOwned + Resource + Clone + std::fmt::Debug,
    P: Serialize + std::fmt::Debug,
{
    api.patch_subresource(subresource, name, &PatchParams::default(), &Patch::Strategic(body)).await
}

/// The merge patch (RFC 7386) that turns `from` into `to`; `None` where they are equal.
pub fn diff(from: &Value, to: &Value) -> Option<Value> {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            let removed =
                from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let changed = to.iter().filter_map(|(key, value)| {
                // A null in the target cannot be told from a removal; the API server drops both.
                let change = match from.get(key) {
                    Some(old) => diff(old, value),
                    None => (!value.is_null()).then(|| value.clone()),
                };
                Some((key.clone(), change?))
            });
            let patch: serde_json::Map<String, Value> = removed.chain(changed).collect();
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ if from == to => None,
        _ => Some(to.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_joins_the_metadata() {
        assert_eq!(
            guarded(json!({"status": {}}), Some("7")),
            json!({"status": {}, "metadata": {"resourceVersion": "7"}})
        );
        let labelled = guarded(json!({"metadata": {"labels": {"a": "b"}}}), Some("7"));
        assert_eq!(labelled, json!({"metadata": {"labels": {"a": "b"}, "resourceVersion": "7"}}));
        assert_eq!(guarded(json!({"status": 1}), None), json!({"status": 1}));
    }

    #[test]
    fn a_difference_turns_one_into_the_other() {
        let cases = [
            (json!({}), json!({}), None),
            (json!({"a": 1}), json!({"a": 1}), None),
            (json!({"a": 1}), json!({"a": 2}), Some(json!({"a": 2}))),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null}))),
            (json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 1}}), Some(json!({"a": {"y": null}}))),
            (json!({"a": [1, 2]}), json!({"a": [1]}), Some(json!({"a": [1]}))),
            (json!({}), json!({"a": {"b": 1}}), Some(json!({"a": {"b": 1}}))),
            (json!({}), json!({"a": null}), None),
        ];
        for (from, to, patch) in cases {
            assert_eq!(diff(&from, &to), patch, "{from} -> {to}");
            if let Some(patch) = patch {
                let mut merged = from.clone();
                json_patch::merge(&mut merged, &patch);
                assert_eq!(merged, to);
            }
        }
    }
}
