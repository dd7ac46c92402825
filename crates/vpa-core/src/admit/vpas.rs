//! Reviews of VPAs.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use vpa_api::vpa::{ContainerResourcePolicy, EvictionChangeRequirement, StartupBoost};

use super::shallow::type_name;
use super::validation::{self, Allowed};
use super::{
    Decision, Denial, FieldError, Gates, Operation, Outcome, Patch, Report, Request, Reviewed, Snapshot,
    warnings,
};

/// A VPA as a user may send it: webhooks see it before the API server holds it against the CRD, so anything may be
/// missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VpaInput {
    #[serde(deserialize_with = "null_as_default")]
    pub(super) spec: SpecInput,
    pub(super) metadata: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SpecInput {
    pub(super) target_ref: Option<k8s_openapi::api::autoscaling::v1::CrossVersionObjectReference>,
    pub(super) update_policy: Option<UpdatePolicyInput>,
    pub(super) resource_policy: Option<ResourcePolicyInput>,
    #[serde(deserialize_with = "nulls_as_defaults")]
    pub(super) recommenders: Vec<RecommenderInput>,
    pub(super) startup_boost: Option<StartupBoost>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct UpdatePolicyInput {
    pub(super) update_mode: Option<String>,
    pub(super) min_replicas: Option<i32>,
    #[serde(rename = "evictionRequirements", deserialize_with = "nulls_as_defaults")]
    _eviction_requirements: Vec<EvictionRequirementInput>,
    #[serde(rename = "evictAfterOOMSeconds")]
    pub(super) evict_after_oom_seconds: Option<i32>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EvictionRequirementInput {
    #[serde(rename = "resources", deserialize_with = "null_as_default")]
    _resources: Vec<String>,
    #[serde(rename = "changeRequirement")]
    _change_requirement: Option<EvictionChangeRequirement>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ResourcePolicyInput {
    #[serde(deserialize_with = "nulls_as_defaults")]
    pub(super) container_policies: Vec<ContainerResourcePolicy>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct RecommenderInput {
    #[serde(rename = "name")]
    _name: Option<String>,
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A list in which null stands for an empty entry, as it does for the list itself.
fn nulls_as_defaults<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let entries: Vec<Option<T>> = null_as_default(deserializer)?;
    Ok(entries.into_iter().map(Option::unwrap_or_default).collect())
}

/// Decides the review of a VPA.
///
/// The outcome is [`Outcome::Pending`] where another look at the target may change a warning. The decision is whole all the
/// same: one who waits no longer takes it [settled](Decision::settled).
pub(super) fn review(request: &Request<'_>, snapshot: &Snapshot<'_>) -> Decision {
    if request.operation == Operation::Delete {
        return Decision::admit(Reviewed::Vpa, Outcome::Skipped("deletions are not reviewed".to_owned()));
    }
    match validated(request, &snapshot.config.gates) {
        Ok(Valid { vpa, old, mut warnings }) => {
            let patches = completed(&vpa);
            let advice = warnings::advise(request, &vpa, old.as_ref(), snapshot);
            warnings.extend(advice.warnings);
            let outcome = advice.awaits.map_or_else(|| outcome(&patches), Outcome::Pending);
            let report = Report { reviewed: Reviewed::Vpa, outcome, vpa: None };
            Decision { denial: None, patches, warnings, report }
        }
        Err((causes, warnings)) => {
            let denial = Denial {
                group: request.resource.group.clone(),
                kind: request.request_kind.clone(),
                name: request.name.clone(),
                causes,
            };
            let report = Report { reviewed: Reviewed::Vpa, outcome: Outcome::Denied, vpa: None };
            Decision { denial: Some(denial), patches: Vec::new(), warnings, report }
        }
    }
}

impl Decision {
    /// The decision of one who waits no longer. That the target of a VPA is not known is no failure of the review.
    pub fn settled(mut self) -> Self {
        if self.report.reviewed == Reviewed::Vpa && matches!(self.report.outcome, Outcome::Pending(_)) {
            self.report.outcome = outcome(&self.patches);
        }
        self
    }
}

fn outcome(patches: &[Patch]) -> Outcome {
    if patches.is_empty() { Outcome::Skipped("the VPA is complete".to_owned()) } else { Outcome::Applied }
}

type Warnings = Vec<String>;

/// A VPA that may be as it is.
struct Valid {
    vpa: VpaInput,
    /// What it was, on an update.
    old: Option<VpaInput>,
    warnings: Warnings,
}

fn validated(request: &Request<'_>, gates: &Gates) -> Result<Valid, (Vec<FieldError>, Warnings)> {
    let unreadable = |error: FieldError| (vec![error], Warnings::new());
    let vpa = decode("object", request.object).map_err(unreadable)?;
    let old = if request.operation == Operation::Update {
        Some(decode("oldObject", request.old_object).map_err(unreadable)?)
    } else {
        None
    };
    let kept = SpecInput::default();
    let kept = old.as_ref().map_or(&kept, |old| &old.spec);
    let checked = validation::validate(&vpa.spec, &Allowed::new(kept, gates));
    if !checked.errors.is_empty() {
        return Err((checked.errors, checked.warnings));
    }
    Ok(Valid { vpa, old, warnings: checked.warnings })
}

/// Patches that fill in what is missing.
fn completed(vpa: &VpaInput) -> Vec<Patch> {
    if vpa.spec.update_policy.is_some() {
        return Vec::new();
    }
    vec![Patch::add("/spec/updatePolicy".to_owned(), json!({ "updateMode": "Recreate" }))]
}

/// Reads a VPA. The error names the path of the field that is wrong.
fn decode(what: &str, raw: Option<&RawValue>) -> Result<VpaInput, FieldError> {
    let mut raw: Value = match raw.map(|raw| serde_json::from_str(raw.get())) {
        None => Value::Null,
        Some(Ok(value)) => value,
        Some(Err(error)) => return Err(FieldError::internal(".", &format!("{what}: {error}"))),
    };
    if !raw.is_object() {
        let found = type_name(&raw);
        return Err(FieldError::internal(
            ".",
            &format!("{what}: expected a VerticalPodAutoscaler, found {found}"),
        ));
    }
    canonical(&mut raw);
    check_lists("", &raw)
        .map_err(|path| FieldError::internal(".", &format!("{what}{path}: a list in the wrong place")))?;
    serde_path_to_error::deserialize(&raw).map_err(|error| {
        let path = error.path().to_string();
        FieldError::internal(".", &format!("{what}.{path}: {}", error.into_inner()))
    })
}

/// Fields of a VPA's spec. Names are taken in any case, as the Go suite does.
const FIELDS: [&str; 26] = [
    "spec",
    "targetRef",
    "apiVersion",
    "kind",
    "name",
    "updatePolicy",
    "updateMode",
    "minReplicas",
    "evictionRequirements",
    "resources",
    "changeRequirement",
    "evictAfterOOMSeconds",
    "resourcePolicy",
    "containerPolicies",
    "containerName",
    "mode",
    "controlledResources",
    "controlledValues",
    "oomBumpUpRatio",
    "oomMinBumpUp",
    "memoryAggregationIntervalSeconds",
    "memoryAggregationIntervalCount",
    "recommenders",
    "startupBoost",
    "quantity",
    "durationSeconds",
];

/// Fields of a boost, with names that occur elsewhere too.
const SCALARS: [&str; 3] = ["cpu", "type", "factor"];

/// Fields of a VPA's spec whose own members have free names or are none of ours.
const MAPS: [&str; 4] = ["minAllowed", "maxAllowed", "metadata", "status"];

/// Fields of a VPA's spec that are lists.
const LISTS: [&str; 5] =
    ["evictionRequirements", "resources", "containerPolicies", "controlledResources", "recommenders"];

/// Makes sure that lists stand where lists belong: the decoder would take one for an object with its fields in order.
/// The error is the path of one that does not.
fn check_lists(path: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Object(members) => {
            let known = |key: &str| FIELDS.contains(&key) || SCALARS.contains(&key);
            members.iter().filter(|(key, _)| known(key)).try_for_each(|(key, member)| {
                let path = format!("{path}.{key}");
                match member {
                    Value::Array(items) if LISTS.contains(&key.as_str()) => {
                        let mut items = items.iter().enumerate();
                        items.try_for_each(|(i, item)| check_lists(&format!("{path}[{i}]"), item))
                    }
                    other => check_lists(&path, other),
                }
            })
        }
        Value::Array(_) => Err(path.to_owned()),
        _ => Ok(()),
    }
}

/// Renames fields that are written in another case.
fn canonical(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(canonical),
        Value::Object(members) => {
            let known = || FIELDS.iter().chain(&MAPS).chain(&SCALARS);
            let wrong: Vec<(String, &str)> = members
                .keys()
                .filter_map(|key| {
                    let name = known().find(|name| name.eq_ignore_ascii_case(key))?;
                    (*name != key.as_str()).then(|| (key.clone(), *name))
                })
                .collect();
            for (key, name) in wrong {
                if !members.contains_key(name)
                    && let Some(member) = members.remove(&key)
                {
                    members.insert(name.to_owned(), member);
                }
            }
            for (key, member) in members {
                if !MAPS.contains(&key.as_str()) {
                    canonical(member);
                }
            }
        }
        _ => {}
    }
}
