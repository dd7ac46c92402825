//! JSON that is read one level deep.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Members that a request of a review has: room for them is made at once.
const MEMBERS_USUAL: usize = 16;

/// Most members that are kept: far more than any review has, and little memory.
const MEMBERS_MAX: usize = 1000;

/// A value of which only an object is looked into.
#[derive(Debug)]
pub(super) enum Shallow<'a, V> {
    /// Null.
    Null,
    /// An object.
    Members(Members<'a, V>),
    /// Another type of value: its name.
    Other(&'static str),
}

impl<V> Shallow<'_, V> {
    /// Name of the JSON type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Members(_) => "object",
            Self::Other(name) => name,
        }
    }
}

/// Members of an object, in their order.
#[derive(Debug)]
pub(super) struct Members<'a, V>(Vec<(Cow<'a, str>, V)>);

impl<V> Members<'_, V> {
    /// The member of this name; one in other case where there is none in this. Of several the last one counts.
    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.position(name).map(|at| &self.0[at].1)
    }

    /// As [`get`](Self::get), and takes it out.
    pub(super) fn take(&mut self, name: &str) -> Option<V> {
        self.position(name).map(|at| self.0.swap_remove(at).1)
    }

    fn position(&self, name: &str) -> Option<usize> {
        let last = |is: &dyn Fn(&str) -> bool| self.0.iter().rposition(|(key, _)| is(key));
        last(&|key| key == name).or_else(|| last(&|key| key.eq_ignore_ascii_case(name)))
    }
}

/// A key, borrowed from the text where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Shallow<'a, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShallowVisitor(PhantomData))
    }
}

struct ShallowVisitor<'a, V>(PhantomData<(&'a str, V)>);

impl<'de: 'a, 'a, V: Deserialize<'de>> Visitor<'de> for ShallowVisitor<'a, V> {
    type Value = Shallow<'a, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Shallow::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Shallow::Other("boolean"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Shallow::Other("number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Shallow::Other("number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Shallow::Other("number"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Shallow::Other("string"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shallow::Other("array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(MEMBERS_USUAL);
        while let Some((Key(key), value)) = map.next_entry()? {
            if members.len() == MEMBERS_MAX {
                return Err(Error::custom(format_args!("more than {MEMBERS_MAX} members")));
            }
            members.push((key, value));
        }
        Ok(Shallow::Members(Members(members)))
    }
}

/// Name of the JSON type of a text.
pub(super) fn type_of(json: &RawValue) -> &'static str {
    match json.get().as_bytes().first() {
        Some(b'n') | None => "null",
        Some(b't' | b'f') => "boolean",
        Some(b'"') => "string",
        Some(b'[') => "array",
        Some(b'{') => "object",
        Some(_) => "number",
    }
}

/// Name of the JSON type of a value.
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
