//! Amounts by resource name.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut, Index};

use compact_str::CompactString;
use litemap::LiteMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Quantity;

/// Name of a resource; the usual ones need no allocation.
pub type ResourceName = CompactString;

/// Amounts by resource name (`cpu`, `memory`, …), ordered by name as Kubernetes prints them.
///
/// Most have two, and there are several for each container in the cluster: a sorted vector takes a sixth of a tree's
/// memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceList(LiteMap<ResourceName, Quantity>);

impl ResourceList {
    /// An empty list.
    pub const fn new() -> Self {
        Self(LiteMap::new_vec())
    }

    /// Whether it names no resource.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for ResourceList {
    type Target = LiteMap<ResourceName, Quantity>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for ResourceList {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Index<&str> for ResourceList {
    type Output = Quantity;

    /// The amount of a resource.
    ///
    /// # Panics
    /// When there is none.
    fn index(&self, resource: &str) -> &Quantity {
        &self.0[&CompactString::from(resource)]
    }
}

impl<N: Into<ResourceName>> FromIterator<(N, Quantity)> for ResourceList {
    fn from_iter<I: IntoIterator<Item = (N, Quantity)>>(amounts: I) -> Self {
        Self(amounts.into_iter().map(|(name, amount)| (name.into(), amount)).collect())
    }
}

impl<N: Into<ResourceName>, const COUNT: usize> From<[(N, Quantity); COUNT]> for ResourceList {
    fn from(amounts: [(N, Quantity); COUNT]) -> Self {
        amounts.into_iter().collect()
    }
}

impl IntoIterator for ResourceList {
    type Item = (ResourceName, Quantity);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_tuple_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a ResourceList {
    type Item = (&'a ResourceName, &'a Quantity);
    type IntoIter = <&'a LiteMap<ResourceName, Quantity> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&self.0).into_iter()
    }
}

impl<'a> IntoIterator for &'a mut ResourceList {
    type Item = (&'a ResourceName, &'a mut Quantity);
    type IntoIter = <&'a mut LiteMap<ResourceName, Quantity> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&mut self.0).into_iter()
    }
}

impl Serialize for ResourceList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de> Deserialize<'de> for ResourceList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Amounts)
    }
}

struct Amounts;

impl<'de> Visitor<'de> for Amounts {
    type Value = ResourceList;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map of quantities by resource name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResourceList, A::Error> {
        let mut amounts = ResourceList::new();
        while let Some((name, amount)) = map.next_entry::<ResourceName, Quantity>()? {
            amounts.insert(name, amount);
        }
        // Lists stay for as long as their object: room for more would too.
        let mut exact = amounts.0.into_tuple_vec();
        exact.shrink_to_fit();
        Ok(ResourceList(LiteMap::from_sorted_store_unchecked(exact)))
    }
}

impl JsonSchema for ResourceList {
    fn schema_name() -> Cow<'static, str> {
        "ResourceList".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        std::collections::BTreeMap::<String, Quantity>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_map_in_order_of_names_also_when_it_is_empty() {
        for (text, want) in [
            ("{}", "{}"),
            (r#"{"memory":"1Gi","cpu":2}"#, r#"{"cpu":"2","memory":"1Gi"}"#),
            (r#"{"cpu":"1","cpu":"3"}"#, r#"{"cpu":"3"}"#),
        ] {
            let list: ResourceList = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&list).unwrap(), want);
        }
        for bad in ["[]", "null", r#"{"cpu":"x"}"#, "7"] {
            assert!(serde_json::from_str::<ResourceList>(bad).is_err(), "{bad}");
        }
    }
}
