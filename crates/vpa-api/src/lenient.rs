//! Reading and writing as Go's JSON package does: null and missing are the zero value, and zero values are left out.

use serde::{Deserialize, Deserializer};

/// Takes `null` for the default.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Takes `null` for an empty list, and no more room than the list needs: a list that grows has room for four, most have one
/// entry, and there is one for each of tens of thousands of objects.
pub(crate) fn exact_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    exact_list_or_none(deserializer).map(Option::unwrap_or_default)
}

/// As [`exact_list`], where `null` and missing differ from empty.
pub(crate) fn exact_list_or_none<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let mut list = Option::<Vec<T>>::deserialize(deserializer)?;
    list.iter_mut().for_each(Vec::shrink_to_fit);
    Ok(list)
}

/// Whether a list or map is missing or empty.
pub(crate) fn none_or_empty<T: Default + PartialEq>(value: &Option<T>) -> bool {
    value.as_ref().is_none_or(is_default)
}

/// Whether a value is the one that a missing field stands for.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
