//! Failures as the API server words them: `Status` objects with reason, code, details and causes.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// One field of an object that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub(crate) reason: &'static str,
    /// Path of the field, empty for the object as a whole.
    pub(crate) field: String,
    /// What is wrong, without the field.
    pub(crate) message: String,
}

impl Cause {
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let shown = serde_json::to_string(value).unwrap_or_default();
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {shown}: {detail}"),
        }
    }

    pub(crate) fn wrong_type(field: &str, found: &str, expected: &str) -> Self {
        Self {
            reason: "FieldValueTypeInvalid",
            field: field.to_owned(),
            message: format!(
                "Invalid value: \"{found}\": {field} in body must be of type {expected}: \"{found}\""
            ),
        }
    }

    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        let message =
            if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    pub(crate) fn not_supported(field: impl Into<String>, value: &Value, allowed: &[String]) -> Self {
        let shown = serde_json::to_string(value).unwrap_or_default();
        let allowed: Vec<String> = allowed.iter().map(|one| format!("\"{one}\"")).collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {shown}: supported values: {}", allowed.join(", ")),
        }
    }

    fn text(&self) -> String {
        if self.field.is_empty() { self.message.clone() } else { format!("{}: {}", self.field, self.message) }
    }
}

/// A failed request.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    /// HTTP status.
    pub(crate) code: u16,
    /// Reason for machines, as in `metav1.StatusReason`.
    pub(crate) reason: String,
    /// Text for people.
    pub(crate) message: String,
    /// `details` of the `Status`.
    pub(crate) details: Option<Value>,
}

/// Result of handling a request.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// `pods`, or `deployments.apps` where the group has a name.
pub(crate) fn group_resource(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl ApiError {
    pub(crate) fn new(code: u16, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let mut details = json!({});
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details[key] = json!(value);
            }
        }
        self.details = Some(details);
        self
    }

    pub(crate) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", group_resource(group, resource));
        Self::new(404, "NotFound", message).about(group, resource, name)
    }

    /// A path outside everything that is served; answered as text, as by the API server.
    pub(crate) fn page_not_found() -> Self {
        Self::new(404, "", "404 page not found")
    }

    pub(crate) fn unknown_path() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(json!({}));
        error
    }

    pub(crate) fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", group_resource(group, resource));
        Self::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    pub(crate) fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", group_resource(group, resource));
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    pub(crate) fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    pub(crate) fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", group_resource(group, resource))
        } else {
            format!("{} \"{name}\" is forbidden: {why}", group_resource(group, resource))
        };
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 422 with one cause a field; the message joins them as the API server does.
    pub(crate) fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let texts: Vec<String> = causes.iter().map(Cause::text).collect();
        let joined =
            if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
        let kind_name = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let message = format!("{kind_name} \"{name}\" is invalid: {joined}");
        let mut error = Self::new(422, "Invalid", message).about(group, kind, name);
        let causes: Vec<Value> = causes
            .iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        error.add_detail("causes", json!(causes));
        error
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut error = Self::new(405, "MethodNotAllowed", message);
        error.details = Some(json!({}));
        error
    }

    pub(crate) fn unsupported_media(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        let mut error = Self::new(500, "InternalError", format!("Internal error occurred: {message}"));
        error.details = Some(json!({"causes": [{"message": message.to_string()}]}));
        error
    }

    /// 429; `retry_after` in seconds also becomes the header, 0 leaves it out.
    pub(crate) fn too_many_requests(message: impl Into<String>, retry_after: u64) -> Self {
        let mut error = Self::new(429, "TooManyRequests", message);
        error.details = Some(json!({}));
        if retry_after > 0 {
            error.add_detail("retryAfterSeconds", json!(retry_after));
        }
        error
    }

    /// The failed precondition of a deletion or an eviction.
    pub(crate) fn precondition(
        group: &str,
        kind: &str,
        name: &str,
        what: &str,
        wanted: &str,
        found: &str,
    ) -> Self {
        let end = if what == "UID" { "deleted and then recreated" } else { "modified" };
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {end}"
        );
        Self::conflict(group, kind, name, &why)
    }

    /// Adds a cause without a field, as the disruption budget and the node capacity do.
    pub(crate) fn with_cause(self, reason: &str, message: &str) -> Self {
        self.with_field_cause(reason, message, "")
    }

    /// Adds a cause; empty parts are left out.
    pub(crate) fn with_field_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let mut cause = json!({"reason": reason});
        for (key, value) in [("message", message), ("field", field)] {
            if !value.is_empty() {
                cause[key] = json!(value);
            }
        }
        self.add_detail("causes", json!([cause]));
        self
    }

    fn add_detail(&mut self, key: &str, value: Value) {
        self.details.get_or_insert_with(|| json!({}))[key] = value;
    }

    /// The `Status` object.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if self.code == 404 && self.reason.is_empty() {
            return (code, format!("{}\n", self.message)).into_response();
        }
        let mut response = (code, axum::Json(self.status())).into_response();
        let seconds = self.details.as_ref().and_then(|details| details["retryAfterSeconds"].as_u64());
        if let Some(seconds) = seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
