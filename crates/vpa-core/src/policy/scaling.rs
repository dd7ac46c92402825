//! Scaling of quantities in proportion: limits that follow requests, and bounds on limits turned into bounds on
//! requests.
//!
//! CPU is counted in thousandths of a core and memory in bytes, each input first rounded away from zero. An amount
//! beyond what 64 bits hold counts as the largest, and a result that rests on such an amount carries a note.

use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::quantity::Format;
use vpa_api::{Quantity, ResourceList};

/// Which way a quotient is rounded to a whole unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    Down,
    Up,
}

/// A scaled amount, and whether something on the way was beyond 64 bits.
pub(super) struct Scaled {
    pub(super) amount: Quantity,
    pub(super) capped: bool,
}

/// The amount in units of `resource` within 64 bits, and whether it is beyond them.
fn units(resource: &str, amount: &Quantity) -> (i128, bool) {
    let units = if resource == CPU { amount.milli_value_saturating() } else { amount.value_saturating() };
    let beyond = |edge| units == edge && *amount != from_units(resource, edge, Format::DecimalSi);
    (i128::from(units), beyond(i64::MAX) || beyond(i64::MIN))
}

/// `amount * numerator / denominator`, in the format of `amount`. A denominator of zero leaves `amount` as it is.
pub(super) fn scale(
    resource: &str,
    amount: &Quantity,
    numerator: &Quantity,
    denominator: &Quantity,
    rounding: Rounding,
) -> Scaled {
    let (value, value_capped) = units(resource, amount);
    let (numerator, numerator_capped) = units(resource, numerator);
    let (denominator, denominator_capped) = units(resource, denominator);
    if denominator == 0 {
        return Scaled { amount: amount.clone(), capped: false };
    }
    // Each factor fits 64 bits, so the product fits 128.
    let product = value * numerator;
    let mut quotient = product.div_euclid(denominator);
    if rounding == Rounding::Up && product.rem_euclid(denominator) != 0 {
        quotient += 1;
    }
    let inexact = value_capped || numerator_capped || denominator_capped;
    if inexact && quotient == 0 && product > 0 {
        quotient = 1;
    }
    let result = i64::try_from(quotient).unwrap_or(i64::MAX);
    let amount = from_units(resource, result, amount.format());
    Scaled { amount, capped: inexact || i128::from(result) != quotient }
}

pub(super) fn from_units(resource: &str, units: i64, format: Format) -> Quantity {
    if resource == CPU { Quantity::from_milli(units, format) } else { Quantity::from_units(units, format) }
}

/// The limit in the same proportion to `recommended` as `limit` has to `request`.
///
/// Without a limit, `default` (of the LimitRange) is taken for it; without that there is no limit. Without a request,
/// or where request and limit are equal, the limit is what is recommended. The note says why there is no limit, or that
/// the proportion could not be kept.
pub fn proportional_limit(
    resource: &str,
    limit: Option<&Quantity>,
    request: Option<&Quantity>,
    recommended: Option<&Quantity>,
    default: Option<&Quantity>,
) -> (Option<Quantity>, Option<String>) {
    let Some(limit) = set(limit).or_else(|| set(default)) else {
        return (None, Some(format!("{resource}: limit NOT set since originalLimit is nil or 0")));
    };
    let Some(recommended) = set(recommended) else {
        return (None, Some(format!("{resource}: limit NOT set since recommendedRequest is nil or 0")));
    };
    let Some(request) = set(request) else { return (Some(recommended.clone()), None) };
    // Compared in thousandths for memory too, unless both are too large for that.
    let milli = |amount: &Quantity| amount.milli_value_saturating();
    if limit == request || (milli(limit) == milli(request) && milli(limit) != i64::MAX) {
        return (Some(recommended.clone()), None);
    }
    let scaled = scale(resource, limit, recommended, request, Rounding::Down);
    let note = scaled
        .capped
        .then(|| format!("{resource}: failed to keep limit to request ratio; capping limit to int64"));
    (Some(scaled.amount), note)
}

fn set(amount: Option<&Quantity>) -> Option<&Quantity> {
    amount.filter(|amount| !amount.is_zero())
}

/// Limits with the notes on how they came about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// The limits; `None` where neither cpu nor memory gets one.
    pub limits: Option<ResourceList>,
    /// Notes, cpu before memory; empty where there are no limits.
    pub notes: Vec<String>,
}

/// [`proportional_limit`] for cpu and memory of a container.
pub fn proportional_limits(
    limits: &ResourceList,
    requests: &ResourceList,
    recommended: &ResourceList,
    defaults: &ResourceList,
) -> Limits {
    let mut result = ResourceList::new();
    let mut notes = Vec::new();
    for resource in [CPU, MEMORY] {
        let (limit, note) = proportional_limit(
            resource,
            limits.get(resource),
            requests.get(resource),
            recommended.get(resource),
            defaults.get(resource),
        );
        notes.extend(note);
        if let Some(limit) = limit {
            result.insert(resource.into(), limit);
        }
    }
    if result.is_empty() { Limits::default() } else { Limits { limits: Some(result), notes } }
}

/// The request at which the proportional limit meets `bound`; zero where there is no limit and so no bound.
pub fn boundary_request(
    resource: &str,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
    bound: Option<&Quantity>,
    default: Option<&Quantity>,
) -> Quantity {
    let format = if resource == CPU { Format::DecimalSi } else { Format::BinarySi };
    let Some(limit) = set(limit).or_else(|| set(default)) else { return Quantity::zero(Format::DecimalSi) };
    let Some(bound) = bound else { return Quantity::zero(format) };
    match set(request) {
        None => bound.clone(),
        Some(request) => scale(resource, request, bound, limit, Rounding::Down).amount,
    }
}
