//! Reading of reviews.
//!
//! A review is read no deeper than this needs: the object in it stays text, which the kind of review that it is decodes
//! into a type of its own. Most of a review is that object, and most of the object is of no interest here.

use serde_json::value::RawValue;

use super::shallow::{Members, Shallow, type_of};

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
#[derive(Clone, Debug)]
pub struct Request<'a> {
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
    /// The object, as JSON; none on deletion.
    pub object: Option<&'a RawValue>,
    /// The object as it was, as JSON; none on creation.
    pub old_object: Option<&'a RawValue>,
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
pub fn decode(body: &[u8]) -> Result<Request<'_>, DecodeError> {
    let review: Shallow<'_, Shallow<'_, &RawValue>> = serde_json::from_slice(body)?;
    let mut review = match review {
        Shallow::Members(review) => review,
        Shallow::Null => return Err(DecodeError::NoRequest),
        Shallow::Other(found) => return Err(wrong("the review", "object", found)),
    };
    for name in ["kind", "apiVersion"] {
        match review.get(name) {
            None | Some(Shallow::Null | Shallow::Other("string")) => {}
            Some(other) => return Err(wrong(name, "string", other.type_name())),
        }
    }
    let request = match review.take("request") {
        Some(Shallow::Members(request)) => request,
        None | Some(Shallow::Null) => return Err(DecodeError::NoRequest),
        Some(Shallow::Other(found)) => return Err(wrong("request", "object", found)),
    };
    check_unused(&request)?;
    let resource = object(&request, "request", "resource")?;
    let text = |name| {
        let path = "request.resource.";
        resource.as_ref().map_or(Ok(String::new()), |resource| string(resource, path, name))
    };
    let resource = GroupVersionResource {
        group: text("group")?,
        version: text("version")?,
        resource: text("resource")?,
    };
    let kind_of = |field: &str| match object(&request, "request", field)? {
        Some(kind) => string(&kind, "request.requestKind.", "kind").map(Some),
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
        object: present(&request, "object"),
        old_object: present(&request, "oldObject"),
    })
}

/// Types of fields that are not used here: a review that has one of them wrong is damaged, and is not acted on.
fn check_unused(request: &Fields<'_>) -> Result<(), DecodeError> {
    for field in ["kind", "requestKind", "requestResource"] {
        if let Some(kind) = object(request, "request", field)? {
            let path = format!("request.{field}.");
            for name in ["group", "version", "kind", "resource"] {
                string(&kind, &path, name)?;
            }
        }
    }
    if let Some(user) = object(request, "request", "userInfo")? {
        string(&user, "request.userInfo.", "username")?;
        string(&user, "request.userInfo.", "uid")?;
    }
    string(request, "request.", "requestSubResource")?;
    match present(request, "dryRun").map(type_of) {
        None | Some("boolean") => Ok(()),
        Some(found) => Err(wrong("request.dryRun", "boolean", found)),
    }
}

/// Members of an object, each as JSON.
type Fields<'a> = Members<'a, &'a RawValue>;

/// A member that is there and not null.
fn present<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.get(name).copied().filter(|value| type_of(value) != "null")
}

fn string(fields: &Fields<'_>, path: &str, name: &str) -> Result<String, DecodeError> {
    match present(fields, name) {
        None => Ok(String::new()),
        Some(text) if type_of(text) == "string" => Ok(serde_json::from_str(text.get())?),
        Some(other) => Err(wrong(&format!("{path}{name}"), "string", type_of(other))),
    }
}

fn object<'a>(fields: &Fields<'a>, path: &str, name: &str) -> Result<Option<Fields<'a>>, DecodeError> {
    let Some(value) = present(fields, name) else { return Ok(None) };
    match serde_json::from_str(value.get())? {
        Shallow::Members(members) => Ok(Some(members)),
        Shallow::Null => Ok(None),
        Shallow::Other(found) => Err(wrong(&format!("{path}.{name}"), "object", found)),
    }
}

fn wrong(path: &str, expected: &'static str, found: &'static str) -> DecodeError {
    DecodeError::Type { path: path.to_owned(), expected, found }
}
