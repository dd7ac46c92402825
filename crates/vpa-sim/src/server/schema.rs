//! Structural schemas of CustomResourceDefinitions: pruning, defaulting and validation.
//!
//! Of `x-kubernetes-validations` the rules are evaluated that [`super::cel`] understands.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use super::cel::Rule;
use super::error::Cause;
use super::value::{items, text};

/// Deepest nesting that a schema is read to; real ones stay far below.
const DEPTH_MAX: usize = 64;

/// One node of a schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    kind: String,
    nullable: bool,
    int_or_string: bool,
    preserve_unknown: bool,
    properties: BTreeMap<String, Schema>,
    additional: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
    required: BTreeSet<String>,
    allowed: Vec<Value>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    pattern: Option<Regex>,
    default: Option<Value>,
    /// Rules in CEL with what to say where they do not hold.
    rules: Vec<(Rule, String)>,
    /// Whether this node or one below has any rule, understood or not.
    has_rules: bool,
}

impl Schema {
    /// Reads an `openAPIV3Schema`; a pattern that is no regular expression is left out.
    pub(crate) fn parse(source: &Value) -> Self {
        Self::parse_at(source, 0)
    }

    fn parse_at(source: &Value, depth: usize) -> Self {
        if depth > DEPTH_MAX {
            return Self { preserve_unknown: true, ..Self::default() };
        }
        let nested = |key: &str| source.get(key).filter(|value| value.is_object());
        let boxed = |key: &str| nested(key).map(|value| Box::new(Self::parse_at(value, depth + 1)));
        let properties = source["properties"].as_object().into_iter().flatten();
        let additional = match &source["additionalProperties"] {
            Value::Bool(true) => Some(Box::new(Self { preserve_unknown: true, ..Self::default() })),
            _ => boxed("additionalProperties"),
        };
        let rules = items(&source["x-kubernetes-validations"]);
        let mut schema = Self {
            kind: text(source, &["type"]).to_owned(),
            nullable: source["nullable"] == true,
            int_or_string: source["x-kubernetes-int-or-string"] == true,
            preserve_unknown: source["x-kubernetes-preserve-unknown-fields"] == true,
            properties: properties
                .map(|(name, value)| (name.clone(), Self::parse_at(value, depth + 1)))
                .collect(),
            additional,
            items: boxed("items"),
            required: items(&source["required"])
                .iter()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            allowed: items(&source["enum"]).to_vec(),
            minimum: source["minimum"].as_f64(),
            maximum: source["maximum"].as_f64(),
            min_length: source["minLength"].as_u64(),
            max_length: source["maxLength"].as_u64(),
            min_items: source["minItems"].as_u64(),
            max_items: source["maxItems"].as_u64(),
            pattern: source["pattern"].as_str().and_then(|pattern| Regex::new(pattern).ok()),
            default: source.get("default").cloned(),
            rules: rules.iter().filter_map(rule).collect(),
            has_rules: !rules.is_empty(),
        };
        let has_rules = schema.children().any(|child| child.has_rules);
        schema.has_rules |= has_rules;
        schema
    }

    fn children(&self) -> impl Iterator<Item = &Self> {
        self.properties.values().chain(self.additional.as_deref()).chain(self.items.as_deref())
    }

    /// Removes what the schema of an object's root does not know; returns the paths.
    pub(crate) fn prune_root(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        let Some(map) = object.as_object_mut() else { return dropped };
        let kept: Vec<(String, Value)> = ["apiVersion", "kind", "metadata"]
            .iter()
            .filter_map(|key| map.remove(*key).map(|value| ((*key).to_owned(), value)))
            .collect();
        self.prune(object, "", &mut dropped);
        if let Some(map) = object.as_object_mut() {
            map.extend(kept);
        }
        dropped
    }

    fn prune(&self, value: &mut Value, path: &str, dropped: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let known = |name: &String| {
                    self.preserve_unknown || self.additional.is_some() || self.properties.contains_key(name)
                };
                dropped.extend(map.keys().filter(|name| !known(name)).map(|name| join(path, name)));
                map.retain(|name, _| known(name));
                for (name, child) in map.iter_mut() {
                    let schema = self.properties.get(name).or(self.additional.as_deref());
                    if let Some(schema) = schema {
                        schema.prune(child, &join(path, name), dropped);
                    }
                }
            }
            Value::Array(list) => {
                let Some(schema) = &self.items else { return };
                for (index, child) in list.iter_mut().enumerate() {
                    schema.prune(child, &format!("{path}[{index}]"), dropped);
                }
            }
            _ => {}
        }
    }

    /// Fills in defaults, also for null where null is not allowed.
    pub(crate) fn fill_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (name, schema) in &self.properties {
                    let Some(default) = &schema.default else { continue };
                    let missing = map.get(name).is_none_or(|found| found.is_null() && !schema.nullable);
                    if missing {
                        map.insert(name.clone(), default.clone());
                    }
                }
                // Null stands for "not given" where the schema does not name it a value.
                map.retain(|name, child| {
                    !child.is_null() || self.properties.get(name).is_none_or(|schema| schema.nullable)
                });
                for (name, child) in map.iter_mut() {
                    if let Some(schema) = self.properties.get(name).or(self.additional.as_deref()) {
                        schema.fill_defaults(child);
                    }
                }
            }
            Value::Array(list) => {
                if let Some(schema) = &self.items {
                    list.iter_mut().for_each(|child| schema.fill_defaults(child));
                }
            }
            _ => {}
        }
    }

    /// Everything that is wrong with an object.
    pub(crate) fn validate(&self, object: &Value) -> Vec<Cause> {
        let mut causes = Vec::new();
        self.validate_at(object, "", &mut causes);
        if !self.has_rules {
            return causes;
        }
        if causes.iter().any(|cause| cause.reason != "FieldValueInvalid") {
            causes.push(Cause::invalid(
                "<nil>",
                &Value::Null,
                "some validation rules were not checked because the object was invalid; correct the existing errors \
                 to complete validation",
            ));
        } else {
            self.check_rules(object, "", &mut causes);
        }
        causes
    }

    /// Applies the rules of this node and of those below.
    fn check_rules(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        if !self.has_rules || value.is_null() {
            return;
        }
        for (rule, message) in &self.rules {
            let message = match rule.holds(value) {
                Ok(true) => continue,
                Ok(false) => message.clone(),
                Err(error) => format!("rule evaluation error: {error}"),
            };
            causes.push(Cause {
                reason: "FieldValueInvalid",
                field: path.to_owned(),
                message: format!("Invalid value: {message}"),
            });
        }
        match value {
            Value::Object(map) => {
                for (name, child) in map {
                    if let Some(schema) = self.properties.get(name).or(self.additional.as_deref()) {
                        schema.check_rules(child, &join(path, name), causes);
                    }
                }
            }
            Value::Array(list) => {
                for (index, child) in list.iter().enumerate() {
                    if let Some(schema) = &self.items {
                        schema.check_rules(child, &format!("{path}[{index}]"), causes);
                    }
                }
            }
            _ => {}
        }
    }

    fn validate_at(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        if value.is_null() && (self.nullable || path.is_empty()) {
            return;
        }
        if !self.type_fits(value) {
            causes.push(Cause::wrong_type(path, type_of(value), self.type_name()));
            return;
        }
        if !self.allowed.is_empty() && !self.allowed.contains(value) {
            let allowed: Vec<String> = self
                .allowed
                .iter()
                .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
                .collect();
            causes.push(Cause::not_supported(path, value, &allowed));
        }
        match value {
            Value::Object(map) => self.validate_members(map, path, causes),
            Value::Array(list) => self.validate_items(list, path, causes),
            Value::String(found) => self.validate_text(found, path, causes),
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                if let Some(minimum) = self.minimum.filter(|minimum| number < *minimum) {
                    let detail = format!("{path} in body should be greater than or equal to {minimum}");
                    causes.push(Cause::invalid(path, value, &detail));
                }
                if let Some(maximum) = self.maximum.filter(|maximum| number > *maximum) {
                    let detail = format!("{path} in body should be less than or equal to {maximum}");
                    causes.push(Cause::invalid(path, value, &detail));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn validate_members(&self, map: &serde_json::Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
        for name in self.required.iter().filter(|name| !map.contains_key(*name)) {
            causes.push(Cause::required(join(path, name), ""));
        }
        for (name, child) in map {
            // The API server checks these by its own rules, not by the schema.
            if path.is_empty() && matches!(name.as_str(), "metadata" | "apiVersion" | "kind") {
                continue;
            }
            if let Some(schema) = self.properties.get(name).or(self.additional.as_deref()) {
                schema.validate_at(child, &join(path, name), causes);
            }
        }
    }

    fn validate_items(&self, list: &[Value], path: &str, causes: &mut Vec<Cause>) {
        let count = list.len() as u64;
        if let Some(max) = self.max_items.filter(|max| count > *max) {
            let detail = format!("must have at most {max} items");
            causes.push(Cause {
                reason: "FieldValueTooMany",
                field: path.to_owned(),
                message: format!("Too many: {count}: {detail}"),
            });
        }
        if let Some(min) = self.min_items.filter(|min| count < *min) {
            let detail = format!("{path} in body should have at least {min} items");
            causes.push(Cause::invalid(path, &Value::from(count), &detail));
        }
        for (index, child) in list.iter().enumerate() {
            if let Some(schema) = &self.items {
                schema.validate_at(child, &format!("{path}[{index}]"), causes);
            }
        }
    }

    fn validate_text(&self, found: &str, path: &str, causes: &mut Vec<Cause>) {
        let value = Value::from(found);
        let length = found.chars().count() as u64;
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(found)) {
            let detail = format!("{path} in body should match '{pattern}'");
            causes.push(Cause::invalid(path, &value, &detail));
        }
        if let Some(min) = self.min_length.filter(|min| length < *min) {
            let detail = format!("{path} in body should be at least {min} chars long");
            causes.push(Cause::invalid(path, &value, &detail));
        }
        if let Some(max) = self.max_length.filter(|max| length > *max) {
            causes.push(Cause {
                reason: "FieldValueTooLong",
                field: path.to_owned(),
                message: format!("Too long: may not be more than {max} bytes"),
            });
        }
    }

    fn type_fits(&self, value: &Value) -> bool {
        if self.int_or_string {
            return value.is_string() || value.is_i64() || value.is_u64();
        }
        match self.kind.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|found| found.fract() == 0.0)
            }
            "number" => value.is_number(),
            _ => true,
        }
    }

    fn type_name(&self) -> &str {
        if self.int_or_string { "integer,string" } else { &self.kind }
    }
}

/// A rule with its message; a rule that is not understood is told in the log.
fn rule(validation: &Value) -> Option<(Rule, String)> {
    let source = text(validation, &["rule"]);
    let parsed = Rule::parse(source);
    if parsed.is_none() {
        tracing::warn!(rule = %source, "this validation rule is not evaluated");
    }
    let message = match text(validation, &["message"]) {
        "" => format!("failed rule: {source}"),
        message => message.to_owned(),
    };
    parsed.map(|rule| (rule, message))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::parse(&json!({"type": "object", "required": ["spec"], "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": {"type": "object", "required": ["ref"], "properties": {
                "ref": {"type": "object", "properties": {"name": {"type": "string"}}},
                "mode": {"type": "string", "enum": ["Off", "On"], "default": "On"},
                "min": {"type": "integer", "minimum": 1},
                "amounts": {"type": "object", "additionalProperties": {
                    "x-kubernetes-int-or-string": true, "pattern": "^[0-9]+m?$"}}}}}}))
    }

    #[test]
    fn faults_are_named_by_field() {
        let table = [
            (json!({"spec": {"ref": {}}}), vec![]),
            (json!({}), vec!["spec"]),
            (json!({"spec": {}}), vec!["spec.ref"]),
            (json!({"spec": {"ref": {}, "mode": "Maybe", "min": 0}}), vec!["spec.min", "spec.mode"]),
            (json!({"spec": {"ref": {}, "min": "1"}}), vec!["spec.min"]),
            (json!({"spec": {"ref": {}, "amounts": {"cpu": "1x", "memory": 5}}}), vec!["spec.amounts.cpu"]),
            (json!({"spec": {"ref": {}, "amounts": {"cpu": true}}}), vec!["spec.amounts.cpu"]),
        ];
        for (object, expected) in table {
            let found: Vec<String> =
                schema().validate(&object).into_iter().map(|cause| cause.field).collect();
            assert_eq!(found, expected, "{object}");
        }
    }

    #[test]
    fn unknown_fields_go_and_defaults_come() {
        let mut object = json!({"metadata": {"name": "x"}, "spec": {"ref": {"name": "a", "extra": 1}, "min": null}, "more": 1});
        let mut dropped = schema().prune_root(&mut object);
        dropped.sort();
        assert_eq!(dropped, ["more", "spec.ref.extra"]);
        schema().fill_defaults(&mut object);
        assert_eq!(object, json!({"metadata": {"name": "x"}, "spec": {"ref": {"name": "a"}, "mode": "On"}}));
    }
}
