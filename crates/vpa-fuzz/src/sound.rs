//! What a patch may do to a pod.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use vpa_api::names::annotation;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::vpa::ContainerControlledValues;
use vpa_api::{Quantity, ResourceList, VerticalPodAutoscaler};
use vpa_core::policy::{LimitRanges, controlled_values};

use crate::quantity::Extent;
use crate::{Problem, ensure};

const SIDES: [&str; 2] = ["requests", "limits"];

/// What is known of the rules that a pod was patched by. They may themselves make no sense, in which case there is less to
/// ask of the result.
pub(crate) struct Facts<'a> {
    vpa: Option<&'a VerticalPodAutoscaler>,
    default: Option<&'a ResourceList>,
    most_boost: Option<&'a Quantity>,
    extent: Extent,
}

impl<'a> Facts<'a> {
    /// Of a cluster whose VPAs and limits are sane, without saying which are meant.
    pub(crate) fn none() -> Self {
        Self { vpa: None, default: None, most_boost: None, extent: Extent::default() }
    }

    pub(crate) fn new(
        vpa: &'a VerticalPodAutoscaler,
        limits: &'a LimitRanges,
        most_boost: Option<&'a Quantity>,
    ) -> Self {
        let mut extent = Extent::of(&serde_json::to_value(vpa).unwrap_or_default());
        let bounds = [&limits.container, &limits.pod].into_iter().flatten();
        let lists = bounds.flat_map(|bounds| [&bounds.min, &bounds.max, &bounds.default]).flatten();
        for amount in lists.flat_map(|list| list.into_iter().map(|(_, amount)| amount)).chain(most_boost) {
            extent.add(amount);
        }
        let default = limits.container.as_ref().and_then(|bounds| bounds.default.as_ref());
        Self { vpa: Some(vpa), default, most_boost, extent }
    }
}

/// Holds a patched pod against the pod that was sent.
pub(crate) fn pod(
    before: &Value,
    after: &Value,
    operations: &[Value],
    facts: &Facts<'_>,
) -> Result<(), Problem> {
    for operation in operations {
        let path = operation["path"].as_str().unwrap_or_default();
        let known = path.starts_with("/metadata/annotations") || path.starts_with("/spec/containers/");
        ensure(operation["op"] == "add" && known, || format!("an operation of no pod patch: {operation}"))?;
    }
    ensure(rest(before) == rest(after), || {
        format!("more than resources and annotations changed: {operations:?}")
    })?;
    annotations_kept(before, after)?;
    let mut extent = Extent::of(&before["spec"]["containers"]);
    extent.join(facts.extent);
    let none = Vec::new();
    let containers = |pod: &'_ Value| pod["spec"]["containers"].as_array().unwrap_or(&none).clone();
    let (before_containers, after_containers) = (containers(before), containers(after));
    let names: BTreeSet<&str> =
        before_containers.iter().map(|container| container["name"].as_str().unwrap_or_default()).collect();
    // A pod with two containers of one name, or with resources in its status, is none that is being created: there, signs
    // are all that is asked for.
    let plain = names.len() == before_containers.len() && !has_status(before);
    for (old, new) in before_containers.iter().zip(&after_containers) {
        let container = Container::new(old, new, after)?;
        container.signs(&extent)?;
        if plain {
            container.kept()?;
            container.boost(facts)?;
            container.positive(&extent, facts)?;
        }
        if plain && !extent.negative && !extent.huge {
            container.still_valid(facts)?;
        }
    }
    Ok(())
}

/// The pod without what a patch may change.
fn rest(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("annotations");
    }
    let containers = pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) {
            resources.retain(|key, value| !SIDES.contains(&key.as_str()) && !value.is_null());
        }
        let empty =
            |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        if container.get("resources").is_some_and(empty) {
            container.remove("resources");
        }
    }
    pod
}

fn annotations_kept(before: &Value, after: &Value) -> Result<(), Problem> {
    let own = |key: &str| {
        [annotation::UPDATES, annotation::OBSERVED_CONTAINERS].contains(&key)
            || key.starts_with(annotation::CPU_STARTUP_BOOST_PREFIX)
    };
    for (key, value) in before["metadata"]["annotations"].as_object().into_iter().flatten() {
        let now = &after["metadata"]["annotations"][key];
        ensure(own(key) || now == value, || format!("annotation {key:?} was {value} and is {now}"))?;
    }
    let new = after["metadata"]["annotations"].as_object().into_iter().flatten();
    match new.filter(|(key, _)| own(key)).find(|(_, value)| !value.is_string()) {
        Some((key, value)) => Err(format!("annotation {key:?} is {value}")),
        None => Ok(()),
    }
}

fn has_status(pod: &Value) -> bool {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    statuses.into_iter().any(|status| !status["resources"].is_null())
}

/// A container before and after.
struct Container<'a> {
    name: &'a str,
    before: [ResourceList; 2],
    after: [ResourceList; 2],
    /// What it had before its boost, where it got one.
    original: Option<Value>,
}

fn lists(container: &Value) -> Result<[ResourceList; 2], Problem> {
    let list = |side: &str| {
        Option::<ResourceList>::deserialize(&container["resources"][side])
            .map(Option::unwrap_or_default)
            .map_err(|error| format!("{side} of container {}: {error}", container["name"]))
    };
    Ok([list(SIDES[0])?, list(SIDES[1])?])
}

impl<'a> Container<'a> {
    fn new(old: &'a Value, new: &Value, after: &Value) -> Result<Self, Problem> {
        let name = old["name"].as_str().unwrap_or_default();
        let key = format!("{}{name}", annotation::CPU_STARTUP_BOOST_PREFIX);
        let original = after["metadata"]["annotations"][key].as_str();
        let original = original.and_then(|text| serde_json::from_str(text).ok());
        Ok(Self { name, before: lists(old)?, after: lists(new)?, original })
    }

    /// Amounts that the patch set: requests or limits, resource, amount.
    fn set(&self) -> impl Iterator<Item = (&'static str, &str, &Quantity)> {
        SIDES.into_iter().zip(self.before.iter().zip(&self.after)).flat_map(|(side, (before, after))| {
            let set = after.into_iter().filter(|(resource, new)| before.get(*resource) != Some(new));
            set.map(move |(resource, new)| (side, resource.as_str(), new))
        })
    }

    fn problem(&self, text: std::fmt::Arguments<'_>) -> Problem {
        format!("container {}: {text}", self.name)
    }

    /// Amounts are not negative, and belong to a resource: the API server refuses one without a name.
    fn signs(&self, extent: &Extent) -> Result<(), Problem> {
        let wrong = |resource: &str, amount: &Quantity| {
            resource.is_empty() || (amount.signum() < 0 && !extent.negative)
        };
        match self.set().find(|(_, resource, amount)| wrong(resource, amount)) {
            Some((side, resource, amount)) => {
                Err(self.problem(format_args!("{resource:?} in {side} became {amount}")))
            }
            None => Ok(()),
        }
    }

    /// Nothing is taken away.
    fn kept(&self) -> Result<(), Problem> {
        for (side, (before, after)) in SIDES.iter().zip(self.before.iter().zip(&self.after)) {
            if let Some((resource, old)) =
                before.into_iter().find(|(resource, _)| after.get(*resource).is_none())
            {
                return Err(self.problem(format_args!("{side} had {resource} {old}, which is gone")));
            }
        }
        Ok(())
    }

    /// Nothing becomes zero. Limits of a pod that breaks them may.
    fn positive(&self, extent: &Extent, facts: &Facts<'_>) -> Result<(), Problem> {
        if extent.negative || extent.zero {
            return Ok(());
        }
        let may_be_zero = |side: &str, resource: &str| {
            self.has_no_base(resource) || (side == SIDES[1] && !self.was_valid(resource, facts))
        };
        match self.set().find(|(side, resource, amount)| amount.is_zero() && !may_be_zero(side, resource)) {
            Some((side, resource, _)) => Err(self.problem(format_args!("{resource} in {side} became 0"))),
            None => Ok(()),
        }
    }

    /// Whether zero is all that can come out: a factor on the cpu of a container that asks for none.
    fn has_no_base(&self, resource: &str) -> bool {
        self.original.is_some() && resource == CPU && self.before[0].get(CPU).is_none()
    }

    /// A boost keeps to its bound.
    fn boost(&self, facts: &Facts<'_>) -> Result<(), Problem> {
        let most = facts.most_boost.filter(|most| self.original.is_some() && most.signum() > 0);
        let Some(most) = most else { return Ok(()) };
        let request = self.set().find(|(side, resource, _)| *side == SIDES[0] && *resource == CPU);
        match request.filter(|(_, _, request)| *request > most) {
            Some((_, _, request)) => Err(self.problem(format_args!("boosted to {request}, above {most}"))),
            None => Ok(()),
        }
    }

    /// Whether there is a limit, and the request was within it.
    ///
    /// A limit of zero counts as none, as it does for container runtimes, though not for the API server. A default limit is
    /// in the pod already, unless it is newer than that.
    fn was_valid(&self, resource: &str, facts: &Facts<'_>) -> bool {
        let [request, limit] = self.before.each_ref().map(|list| list.get(resource));
        let boosted = self.original.is_some() && resource == CPU;
        let default = facts.default.and_then(|list| list.get(resource)).filter(|_| !boosted);
        let in_force = limit.filter(|limit| !limit.is_zero()).or(default.filter(|_| limit.is_none()));
        in_force.is_some_and(|limit| request.is_none_or(|request| milli(request) <= milli(limit)))
    }

    /// Requests that were within limits are so still: else the API server would refuse a pod that it takes without us.
    fn still_valid(&self, facts: &Facts<'_>) -> Result<(), Problem> {
        let policy = facts.vpa.and_then(|vpa| vpa.spec.resource_policy.as_ref());
        if matches!(controlled_values(self.name, policy), ContainerControlledValues::Unknown(_)) {
            return Ok(());
        }
        for resource in [CPU, MEMORY].into_iter().filter(|resource| self.was_valid(resource, facts)) {
            let [request, limit] = self.after.each_ref().map(|list| list.get(resource));
            let (Some(request), Some(limit)) = (request, limit) else { continue };
            if milli(request) > milli(limit) {
                return Err(self.problem(format_args!("{resource} request {request} is above limit {limit}")));
            }
        }
        Ok(())
    }
}

/// As the API server reads it: nothing is finer than a thousandth.
fn milli(amount: &Quantity) -> Quantity {
    let mut rounded = amount.clone();
    rounded.round_up(-3);
    rounded
}
