//! Errors of fields, in the words that Kubernetes uses for them.

use std::fmt;

/// Kind of an error, as the `reason` of a status cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The value is missing.
    Required,
    /// The value is wrong.
    Invalid,
    /// The value is none of those that there are.
    NotSupported,
    /// The value must not be set.
    Forbidden,
    /// There are too many values.
    TooMany,
    /// The object cannot be read.
    Internal,
}

impl Reason {
    /// As it is written in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field from the root of the object; `.` for the object itself.
    pub field: String,
    /// Kind of the error.
    pub reason: Reason,
    /// What is wrong, without the field.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A value as messages show it: texts quoted as JSON is in answers, numbers plain.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for str {
    fn shown(&self) -> String {
        let quoted = serde_json::Value::from(self).to_string();
        quoted.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    }
}

macro_rules! shown_number {
    ($($number:ty),+) => { $(impl Shown for $number {
        fn shown(&self) -> String { self.to_string() }
    })+ };
}
shown_number!(i32, i64, f64);

impl FieldError {
    fn new(field: &str, reason: Reason, message: String) -> Self {
        Self { field: field.to_owned(), reason, message }
    }

    pub(super) fn required(field: &str, detail: &str) -> Self {
        let message = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        Self::new(field, Reason::Required, format!("Required value{message}"))
    }

    pub(super) fn invalid<V: Shown + ?Sized>(field: &str, value: &V, detail: &str) -> Self {
        Self::new(field, Reason::Invalid, format!("Invalid value: {}: {detail}", value.shown()))
    }

    pub(super) fn not_supported(field: &str, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|text| text.shown()).collect();
        let message =
            format!("Unsupported value: {}: supported values: {}", value.shown(), supported.join(", "));
        Self::new(field, Reason::NotSupported, message)
    }

    pub(super) fn forbidden(field: &str, detail: &str) -> Self {
        Self::new(field, Reason::Forbidden, format!("Forbidden: {detail}"))
    }

    pub(super) fn too_many(field: &str, found: usize, most: usize) -> Self {
        let items = if most == 1 { "item" } else { "items" };
        Self::new(field, Reason::TooMany, format!("Too many: {found}: must have at most {most} {items}"))
    }

    pub(super) fn internal(field: &str, detail: &str) -> Self {
        Self::new(field, Reason::Internal, format!("Internal error: {detail}"))
    }
}
