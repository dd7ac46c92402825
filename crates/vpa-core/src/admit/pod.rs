//! A pod as a review sends it: what the decision reads of it, and where its resources stand in the JSON, since patches
//! have to fit what was sent.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use vpa_api::ResourceList;
use vpa_api::pod::{Container, Pod, PodSpec, PodStatus, ResourceRequirements};

/// A pod that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// What the decision reads of it.
    pub(super) pod: Pod,
    /// Where the resources of its containers stand, in their order.
    pub(super) places: Vec<Place>,
}

/// The `resources` of a container in the JSON.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// It is there.
    pub(super) present: bool,
    /// It holds more than requests and limits, such as claims.
    pub(super) others: bool,
}

/// Reads a pod.
///
/// # Errors
/// The path of the field that is wrong, and what is wrong with it.
pub(super) fn decode(json: Option<&RawValue>) -> Result<Sent, String> {
    let json = json.map_or("null", RawValue::get);
    match serde_json::from_str(json) {
        Ok(Strict(PodInput { metadata, spec: Strict(spec), status })) => {
            Ok(sent(metadata.unwrap_or_default(), spec, status.unwrap_or_default()))
        }
        // Keeping track of paths costs as much as reading, so it is done for the text of the error only.
        Err(error) => Err(path_of(json).unwrap_or_else(|| error.to_string())),
    }
}

fn path_of(json: &str) -> Option<String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read: Result<Strict<PodInput>, _> = serde_path_to_error::deserialize(&mut deserializer);
    read.err().map(|error| error.to_string())
}

fn sent(metadata: MetaInput, spec: SpecInput, status: PodStatus) -> Sent {
    let MetaInput { name, namespace, labels, annotations, owner_references } = metadata;
    let metadata =
        ObjectMeta { name, namespace, labels, annotations, owner_references, ..ObjectMeta::default() };
    let containers = spec.containers.unwrap_or_default();
    let place = |container: &ContainerInput| {
        let resources = container.resources.as_ref();
        Place { present: resources.is_some(), others: resources.is_some_and(|resources| resources.others) }
    };
    let places = containers.iter().map(|Strict(container)| place(container)).collect();
    let container = |Strict(ContainerInput { name, resources }): Strict<ContainerInput>| {
        let ResourcesInput { requests, limits, others: _ } = resources.unwrap_or_default();
        Container { name, resources: ResourceRequirements { requests, limits }, ..Container::default() }
    };
    let containers = containers.into_iter().map(container).collect();
    Sent { pod: Pod { metadata, spec: PodSpec { containers, ..PodSpec::default() }, status }, places }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodInput {
    metadata: Option<MetaInput>,
    spec: Strict<SpecInput>,
    status: Option<PodStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MetaInput {
    name: Option<String>,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SpecInput {
    containers: Option<Vec<Strict<ContainerInput>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerInput {
    name: String,
    resources: Option<ResourcesInput>,
}

/// An object that is an object in the JSON too: the decoder would take a list for one with its fields in order, which
/// patches could not reach into.
#[derive(Debug, Default)]
struct Strict<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(MapOnly(deserializer)).map(Self)
    }
}

/// Reads structs from objects alone.
struct MapOnly<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for MapOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[derive(Default)]
struct ResourcesInput {
    requests: Option<ResourceList>,
    limits: Option<ResourceList>,
    others: bool,
}

impl<'de> Deserialize<'de> for ResourcesInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = ResourcesInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with requests and limits")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut read = ResourcesInput::default();
                while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
                    match key.as_ref() {
                        "requests" => read.requests = map.next_value()?,
                        "limits" => read.limits = map.next_value()?,
                        _ => read.others |= map.next_value::<Option<IgnoredAny>>()?.is_some(),
                    }
                }
                Ok(read)
            }
        }

        deserializer.deserialize_map(Members)
    }
}
