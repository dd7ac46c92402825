//! Reading of reviews.

use serde_json::{Map, Value};

/// What is being done to the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is created.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// Something else, or nothing that is said.
    Other(String),
}

/// A resource of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupVersionResource {
    /// API group, empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Resource in plural.
    pub resource: String,
}

/// The request of a review. What is missing or null in the JSON is empty here.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Ties the answer to the question.
    pub uid: String,
    /// Resource of the object.
    pub resource: GroupVersionResource,
    /// Subresource; empty for the object itself.
    pub sub_resource: String,
    /// Kind that the caller used (may differ from the object's where the API server converts).
    pub request_kind: String,
    /// Name of the object; empty where the API server will make one.
    pub name: String,
    /// Namespace of the object.
    pub namespace: String,
    /// What is being done.
    pub operation: Operation,
    /// The object; null on deletion.
    pub object: Value,
    /// The object as it was; null on creation.
    pub old_object: Value,
}

/// Why a body is no review.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// There is no request in it.
    #[error("the review has no request")]
    NoRequest,
    /// A field has the wrong type.
    #[error("{path}: expected {expected}, found {found}")]
    Type {
        /// Path of the field.
        path: String,
        /// Type it should have.
        expected: &'static str,
        /// Type it has.
        found: &'static str,
    },
}

/// Reads a review. Field names are taken in any case, unknown fields are passed over.
///
/// # Errors
/// When the body is not JSON, has no request, or a field of the review has the wrong type.
pub fn decode(body: &[u8]) -> Result<Request, DecodeError> {
    let mut review = match serde_json::from_slice(body)? {
        Value::Object(review) => review,
        Value::Null => return Err(DecodeError::NoRequest),
        other => return Err(wrong("the review", "object", &other)),
    };
    string(&review, "", "kind")?;
    string(&review, "", "apiVersion")?;
    let mut request = match take(&mut review, "request") {
        Value::Object(request) => request,
        Value::Null => return Err(DecodeError::NoRequest),
        other => return Err(wrong("request", "object", &other)),
    };
    check_unused(&request)?;
    let resource = object(&request, "request", "resource")?;
    let text =
        |name| resource.map_or(Ok(String::new()), |resource| string(resource, "request.resource.", name));
    let resource = GroupVersionResource {
        group: text("group")?,
        version: text("version")?,
        resource: text("resource")?,
    };
    let kind_of = |field: &str| match object(&request, "request", field)? {
        Some(kind) => string(kind, "request.requestKind.", "kind").map(Some),
        None => Ok(None),
    };
    // API servers before 1.15 do not send `requestKind`; there it is the object's own.
    let request_kind = match kind_of("requestKind")? {
        Some(kind) => kind,
        None => kind_of("kind")?.unwrap_or_default(),
    };
    Ok(Request {
        uid: string(&request, "request.", "uid")?,
        resource,
        sub_resource: string(&request, "request.", "subResource")?,
        request_kind,
        name: string(&request, "request.", "name")?,
        namespace: string(&request, "request.", "namespace")?,
        operation: match string(&request, "request.", "operation")?.as_str() {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            other => Operation::Other(other.to_owned()),
        },
        object: take(&mut request, "object"),
        old_object: take(&mut request, "oldObject"),
    })
}

/// Types of fields that are not used here: a review that has one of them wrong is damaged, and is not acted on.
fn check_unused(request: &Map<String, Value>) -> Result<(), DecodeError> {
    for field in ["kind", "requestKind", "requestResource"] {
        if let Some(kind) = object(request, "request", field)? {
            for name in ["group", "version", "kind", "resource"] {
                string(kind, &format!("request.{field}."), name)?;
            }
        }
    }
    if let Some(user) = object(request, "request", "userInfo")? {
        string(user, "request.userInfo.", "username")?;
        string(user, "request.userInfo.", "uid")?;
    }
    string(request, "request.", "requestSubResource")?;
    match get(request, "dryRun") {
        None | Some(Value::Null | Value::Bool(_)) => Ok(()),
        Some(other) => Err(wrong("request.dryRun", "boolean", other)),
    }
}

/// The member of this name; one in other case where there is none in this.
fn key<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a String> {
    map.get_key_value(name)
        .map(|(key, _)| key)
        .or_else(|| map.keys().find(|key| key.eq_ignore_ascii_case(name)))
}

fn get<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    key(map, name).and_then(|key| map.get(key))
}

fn take(map: &mut Map<String, Value>, name: &str) -> Value {
    let key = key(map, name).cloned();
    key.and_then(|key| map.get_mut(&key)).map(Value::take).unwrap_or_default()
}

fn string(map: &Map<String, Value>, path: &str, name: &str) -> Result<String, DecodeError> {
    match get(map, name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(wrong(&format!("{path}{name}"), "string", other)),
    }
}

fn object<'a>(
    map: &'a Map<String, Value>,
    path: &str,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, DecodeError> {
    match get(map, name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(wrong(&format!("{path}.{name}"), "object", other)),
    }
}

fn wrong(path: &str, expected: &'static str, found: &Value) -> DecodeError {
    DecodeError::Type { path: path.to_owned(), expected, found: type_name(found) }
}

/// Name of a JSON type.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
