//! The LimitRanges of a namespace, merged.

use std::sync::Arc;

use vpa_api::limit_range::LimitRange;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::{Quantity, ResourceList};

/// What several LimitRange items of one type mean together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// The highest of the least amounts.
    pub min: Option<ResourceList>,
    /// The lowest of the highest amounts.
    pub max: Option<ResourceList>,
    /// Default limits: those of the last item that has any, as a whole.
    pub default: Option<ResourceList>,
}

/// What all LimitRanges of a namespace mean together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitRanges {
    /// For each container; `None` where there is no such item.
    pub container: Option<Bounds>,
    /// For the sum over a pod's containers.
    pub pod: Option<Bounds>,
}

/// Where the limits of a namespace are found.
pub trait LimitRangeSource {
    /// The merged limits of a namespace.
    fn limit_ranges(&self, namespace: &str) -> Arc<LimitRanges>;
}

impl LimitRanges {
    /// Merges the LimitRanges of one namespace, in the order of their names.
    pub fn merge<'a>(objects: impl IntoIterator<Item = &'a LimitRange>) -> Self {
        let mut objects: Vec<&LimitRange> = objects.into_iter().collect();
        objects.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Self { container: merge_type(&objects, "Container"), pod: merge_type(&objects, "Pod") }
    }
}

fn merge_type(objects: &[&LimitRange], type_: &str) -> Option<Bounds> {
    let mut merged: Option<Bounds> = None;
    for item in objects.iter().flat_map(|object| &object.spec.limits) {
        if item.type_ != type_ || (item.min.is_none() && item.max.is_none() && item.default.is_none()) {
            continue;
        }
        let bounds = merged.get_or_insert_default();
        if item.default.is_some() {
            bounds.default.clone_from(&item.default);
        }
        merge_list(&mut bounds.max, item.max.as_ref(), |old, new| new <= old);
        merge_list(&mut bounds.min, item.min.as_ref(), |old, new| new >= old);
    }
    merged
}

/// Takes the first list whole, and from later ones cpu and memory where `replaces` says so.
fn merge_list(
    merged: &mut Option<ResourceList>,
    list: Option<&ResourceList>,
    replaces: impl Fn(&Quantity, &Quantity) -> bool,
) {
    let Some(list) = list else { return };
    let Some(merged) = merged else {
        *merged = Some(list.clone());
        return;
    };
    for resource in [CPU, MEMORY] {
        if let Some(new) = list.get(resource)
            && merged.get(resource).is_none_or(|old| replaces(old, new))
        {
            merged.insert(resource.into(), new.clone());
        }
    }
}
