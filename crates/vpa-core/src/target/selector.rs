//! Label selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::model::pod::Labels;

/// What a requirement asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The value is one of those given.
    In,
    /// The label is missing or its value is none of those given.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// Label key.
    pub key: CompactString,
    /// Kind of the condition.
    pub operator: Operator,
    /// Values for [`Operator::In`] and [`Operator::NotIn`], in order, else empty.
    pub values: Box<[CompactString]>,
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let is_given = |value: &str| self.values.iter().any(|given| given == value);
        match self.operator {
            Operator::In => value.is_some_and(is_given),
            Operator::NotIn => !value.is_some_and(is_given),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// Why a selector cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The scale subresource gives no selector.
    #[error("the scale subresource has an empty selector")]
    Empty,
    /// The text is no selector.
    #[error("selector {text:?}: {reason}")]
    Syntax {
        /// The selector as it was found.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An operator that label selectors do not have.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    /// `In` or `NotIn` without values, or `Exists` or `DoesNotExist` with some.
    #[error("label {key:?}: wrong number of values for operator {operator}")]
    Values {
        /// Label key.
        key: String,
        /// The operator.
        operator: String,
    },
    /// A key that no label can have.
    #[error("{0:?} is not a valid label key")]
    Key(String),
    /// A value that no label can have.
    #[error("{0:?} is not a valid label value")]
    Value(String),
}

/// A condition on a set of labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Matches no labels: what a missing selector means.
    Nothing,
    /// Matches labels that meet all requirements; all labels where there are none. Shared, since a workload and the VPA
    /// that targets it hold the same.
    All(Arc<[Requirement]>),
}

impl Selector {
    /// Whether the labels meet the selector.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.meets(|key| labels.get(key).map(String::as_str))
    }

    /// As [`matches`](Self::matches), for labels as the model has them.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.meets(|key| labels.get(key).map(CompactString::as_str))
    }

    /// Keys of the labels that it looks at.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let requirements = match self {
            Self::Nothing => &[][..],
            Self::All(requirements) => requirements,
        };
        requirements.iter().map(|requirement| requirement.key.as_str())
    }

    fn meets<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements.iter().all(|one| one.matches(value(&one.key))),
        }
    }

    /// The selector of a workload. A missing one matches nothing, an empty one everything.
    ///
    /// # Errors
    /// When a key, value or operator is not one that Kubernetes takes.
    pub fn from_label_selector(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else { return Ok(Self::Nothing) };
        let mut requirements = equalities(selector.match_labels.iter().flatten())?;
        for expression in selector.match_expressions.iter().flatten() {
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(requirement(&expression.key, &expression.operator, values)?);
        }
        Ok(Self::All(requirements.into()))
    }

    /// The selector of a map of labels (ReplicationController, template of a CronJob). A missing map matches nothing,
    /// an empty one everything.
    ///
    /// # Errors
    /// When a key or value is not one that Kubernetes takes.
    pub fn from_label_map(labels: Option<&BTreeMap<String, String>>) -> Result<Self, SelectorError> {
        labels.map_or(Ok(Self::Nothing), |labels| Ok(Self::All(equalities(labels)?.into())))
    }

    /// The selector of a scale subresource, as text: `a=b,c in (d,e),f,!g`. Equality and sets only: `!=`, `<` and
    /// `>` have no counterpart in a workload's selector and are refused.
    ///
    /// # Errors
    /// [`SelectorError::Empty`] for an empty text, else what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.is_empty() {
            return Err(SelectorError::Empty);
        }
        let mut parser = Parser { text, rest: text };
        let mut requirements = Vec::new();
        parser.skip_space();
        while !parser.rest.is_empty() {
            requirements.push(parser.requirement()?);
            parser.skip_space();
            if parser.rest.is_empty() {
                break;
            }
            parser.expect(",")?;
            parser.skip_space();
            if parser.rest.is_empty() {
                return Err(parser.error("ends after a comma"));
            }
        }
        Ok(Self::All(requirements.into()))
    }
}

impl fmt::Display for Selector {
    /// The text form that the API takes as `labelSelector`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::All(requirements) = self else { return Ok(()) };
        for (place, Requirement { key, operator, values }) in requirements.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            match (operator, &**values) {
                (Operator::In, [value]) => write!(f, "{key}={value}")?,
                (Operator::In, _) => write!(f, "{key} in ({})", values.join(","))?,
                (Operator::NotIn, _) => write!(f, "{key} notin ({})", values.join(","))?,
                (Operator::Exists, _) => write!(f, "{key}")?,
                (Operator::DoesNotExist, _) => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

fn equalities<'a>(
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<Requirement>, SelectorError> {
    labels.into_iter().map(|(key, value)| requirement(key, "In", vec![value.clone()])).collect()
}

fn requirement(key: &str, operator: &str, values: Vec<String>) -> Result<Requirement, SelectorError> {
    let parsed = match operator {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError::Operator(other.to_owned())),
    };
    let needs_values = matches!(parsed, Operator::In | Operator::NotIn);
    if needs_values == values.is_empty() {
        return Err(SelectorError::Values { key: key.to_owned(), operator: operator.to_owned() });
    }
    if !is_label_key(key) {
        return Err(SelectorError::Key(key.to_owned()));
    }
    if let Some(bad) = values.iter().find(|value| !is_label_value(value)) {
        return Err(SelectorError::Value(bad.clone()));
    }
    let values: BTreeSet<CompactString> = values.into_iter().map(Into::into).collect();
    Ok(Requirement { key: key.into(), operator: parsed, values: values.into_iter().collect() })
}

/// An optional DNS subdomain with a slash, then a name of at most 63 characters.
fn is_label_key(key: &str) -> bool {
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) if is_subdomain(prefix) => name,
        Some(_) => return false,
    };
    !name.is_empty() && is_label_value(name)
}

/// At most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends; or empty.
fn is_label_value(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            bytes.len() <= 63
                && first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes.iter().all(|b| inner(*b))
        }
        _ => true,
    }
}

fn is_subdomain(text: &str) -> bool {
    let label = |part: &str| {
        let bytes = part.as_bytes();
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    !text.is_empty() && text.len() <= 253 && text.split('.').all(label)
}

/// Reads the text form of a selector from left to right.
struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn error(&self, reason: &str) -> SelectorError {
        SelectorError::Syntax { text: self.text.to_owned(), reason: reason.to_owned() }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn take(&mut self, token: &str) -> bool {
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), SelectorError> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.error(&format!("expected {token:?} before {:?}", self.rest)))
        }
    }

    /// A run of characters that are neither space nor part of an operator; may be empty.
    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| c.is_ascii_whitespace() || "=!(),<>".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.take("!");
        self.skip_space();
        let key = self.word();
        if key.is_empty() {
            return Err(self.error("a label key is missing"));
        }
        self.skip_space();
        if absent {
            return requirement(key, "DoesNotExist", Vec::new());
        }
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return requirement(key, "Exists", Vec::new());
        }
        if self.take("==") || self.take("=") {
            self.skip_space();
            return requirement(key, "In", vec![self.word().to_owned()]);
        }
        match self.word() {
            "in" => self.values().and_then(|values| requirement(key, "In", values)),
            "notin" => self.values().and_then(|values| requirement(key, "NotIn", values)),
            _ => Err(self.error(&format!("label {key:?} is not followed by =, ==, in or notin"))),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        self.skip_space();
        self.expect("(")?;
        let mut values = Vec::new();
        loop {
            self.skip_space();
            values.push(self.word().to_owned());
            self.skip_space();
            if self.take(")") {
                return Ok(values);
            }
            self.expect(",")?;
        }
    }
}
