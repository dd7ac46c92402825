//! Schemas of fields whose Rust type says too much or too little.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A time that may be `null`: checkpoints are written with unset times.
pub(crate) fn nullable_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "nullable": true })
}

/// An integer of no particular width.
pub(crate) fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer" })
}

/// A number of no particular width.
pub(crate) fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "number" })
}

/// An object that keeps whatever fields it has.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Names an object of any kind in the same namespace.
pub(crate) fn target_ref(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "required": ["kind", "name"],
        "properties": {
            "apiVersion": { "type": "string", "description": "API version of the controller, such as `apps/v1`." },
            "kind": { "type": "string", "description": "Kind of the controller, such as `Deployment`." },
            "name": { "type": "string", "description": "Name of the controller." }
        }
    })
}

/// What the API server accepts as a quantity before a program looks at it.
const QUANTITY_PATTERN: &str = concat!(
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))",
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
);

/// A quantity: a number or a text.
pub(crate) fn quantity() -> Schema {
    json_schema!({
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "pattern": QUANTITY_PATTERN,
        "x-kubernetes-int-or-string": true
    })
}
