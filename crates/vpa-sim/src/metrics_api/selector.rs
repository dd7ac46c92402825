//! Label selectors in a query.

use std::collections::BTreeMap;

/// The requirements of a label selector.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Labels(Vec<Requirement>);

#[derive(Debug, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Labels {
    /// Reads `labelSelector` of a query string; without one everything matches.
    pub(super) fn from_query(query: Option<&str>) -> Result<Self, String> {
        let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        match pairs.rfind(|(key, _)| *key == "labelSelector") {
            Some((_, text)) => Self::parse(&decode(text)),
            None => Ok(Self::default()),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let terms = split_terms(text).into_iter().filter(|_| !text.trim().is_empty());
        terms.map(|term| requirement(&term)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => !labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

/// Splits at commas outside of parentheses.
fn split_terms(text: &str) -> Vec<String> {
    let mut depth = 0_i32;
    let mut terms = vec![String::new()];
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth <= 0 => {
                terms.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(term) = terms.last_mut() {
            term.push(letter);
        }
    }
    terms
}

fn requirement(term: &str) -> Result<Requirement, String> {
    let term = term.trim();
    let bad = || format!("unable to parse requirement: {term:?}");
    let key = |text: &str| match text.trim() {
        key if key.is_empty() || key.contains(char::is_whitespace) => Err(bad()),
        key => Ok(key.to_owned()),
    };
    let one = |text: &str| vec![text.trim().to_owned()];
    if let Some((left, right)) = term.split_once("!=") {
        return Ok(Requirement::NotIn(key(left)?, one(right)));
    }
    if let Some((left, right)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Requirement::In(key(left)?, one(right)));
    }
    if let Some(list) = term.strip_suffix(')') {
        let (left, values) = list.split_once('(').ok_or_else(bad)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match left.trim().rsplit_once(char::is_whitespace) {
            Some((left, "in")) => Ok(Requirement::In(key(left)?, values)),
            Some((left, "notin")) => Ok(Requirement::NotIn(key(left)?, values)),
            _ => Err(bad()),
        };
    }
    match term.strip_prefix('!') {
        Some(absent) => key(absent).map(Requirement::Absent),
        None => key(term).map(Requirement::Exists),
    }
}

/// Undoes percent-encoding; what is none stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 3;
            }
            (b'+', _) => {
                decoded.push(b' ');
                at += 1;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
