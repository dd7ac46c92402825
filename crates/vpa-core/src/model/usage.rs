//! Usage as the metrics API reports it.

use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::{Quantity, ResourceList};

use crate::recommend::Amounts;

/// The usage of a container in millicores and bytes, rounded up. A resource that is not reported is none, which is
/// not the same as 0.
pub fn amounts(usage: &ResourceList) -> Amounts {
    Amounts {
        cpu_millicores: usage.get(CPU).map(Quantity::milli_value_saturating),
        memory_bytes: usage.get(MEMORY).map(Quantity::value_saturating),
    }
}
