//! What a VPA may say.

use std::collections::BTreeSet;

use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::vpa::{
    ContainerControlledValues, ContainerResourcePolicy, ContainerScalingMode, StartupBoost, StartupBoostType,
};
use vpa_api::{Quantity, ResourceList};

use super::vpas::{ResourcePolicyInput, SpecInput, UpdatePolicyInput};
use super::{FieldError, Gates};

/// Update modes that messages offer: without the deprecated `Auto`, and without the second name of `InPlace`.
const OFFERED_MODES: [&str; 5] = ["InPlace", "InPlaceOrRecreate", "Initial", "Off", "Recreate"];
/// Update modes that are taken beyond those.
const OTHER_MODES: [&str; 2] = ["Auto", "InPlaceOnly"];

/// What may be used, beyond what is always allowed.
///
/// What an object already has it may keep, else it could no longer be changed once a gate is turned off.
pub(super) struct Allowed {
    boost: bool,
    per_vpa_config: bool,
    in_place: bool,
    controlled_resources: BTreeSet<String>,
}

impl Allowed {
    pub(super) fn new(old: &SpecInput, gates: &Gates) -> Self {
        let policies = || old.resource_policy.iter().flat_map(|policy| &policy.container_policies);
        let update = old.update_policy.as_ref();
        let boosted = old.startup_boost.as_ref().is_some_and(|boost| boost.cpu.is_some())
            || policies().any(|policy| policy.startup_boost.is_some());
        let configured = update.is_some_and(|policy| policy.evict_after_oom_seconds.is_some())
            || policies().any(|policy| {
                policy.oom_bump_up_ratio.is_some()
                    || policy.oom_min_bump_up.is_some()
                    || policy.memory_aggregation_interval_count.is_some()
                    || policy.memory_aggregation_interval_seconds.is_some()
            });
        let in_place = update.and_then(|policy| policy.update_mode.as_deref()).is_some_and(is_in_place);
        Self {
            boost: gates.cpu_startup_boost || boosted,
            per_vpa_config: gates.per_vpa_config || configured,
            in_place: gates.in_place || in_place,
            controlled_resources: policies()
                .flat_map(|policy| policy.controlled_resources.iter().flatten().cloned())
                .collect(),
        }
    }
}

fn is_in_place(mode: &str) -> bool {
    matches!(mode, "InPlace" | "InPlaceOnly")
}

/// What was found in a VPA, in the order of its fields.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) errors: Vec<FieldError>,
    pub(super) warnings: Vec<String>,
}

/// Checks a spec.
pub(super) fn validate(spec: &SpecInput, allowed: &Allowed) -> Checked {
    let mut checked = Checked::default();
    if let Some(policy) = &spec.update_policy {
        checked.update_policy(policy, "spec.updatePolicy", allowed);
    }
    if let Some(policy) = &spec.resource_policy {
        checked.resource_policy(policy, "spec.resourcePolicy", allowed);
    }
    if let Some(boost) = &spec.startup_boost {
        checked.startup_boost(boost, "spec.startupBoost", allowed);
    }
    if spec.recommenders.len() > 1 {
        checked.errors.push(FieldError::too_many("spec.recommenders", spec.recommenders.len(), 1));
    }
    checked
}

impl Checked {
    fn update_policy(&mut self, policy: &UpdatePolicyInput, path: &str, allowed: &Allowed) {
        let mode_path = format!("{path}.updateMode");
        match policy.update_mode.as_deref() {
            None => {
                self.errors.push(FieldError::required(&mode_path, "updateMode is required if UpdatePolicy is used"));
            }
            Some(mode) if !OFFERED_MODES.contains(&mode) && !OTHER_MODES.contains(&mode) => {
                self.errors.push(FieldError::not_supported(&mode_path, mode, &OFFERED_MODES));
            }
            Some("Auto") => self.warnings.push(format!(
                "{path}: \"Auto\" mode is deprecated and will be removed in a future API version. Use explicit update \
                 modes like: [{}]. See https://github.com/kubernetes/autoscaler/issues/8424 for more details.",
                OFFERED_MODES.join(" ")
            )),
            Some(mode) if is_in_place(mode) && !allowed.in_place => self.errors.push(FieldError::forbidden(
                &mode_path,
                &format!(
                    "in order to use UpdateMode {mode}, you must enable feature gate InPlace in the \
                     admission-controller args"
                ),
            )),
            Some(_) => {}
        }
        if let Some(replicas) = policy.min_replicas.filter(|replicas| *replicas <= 0) {
            let path = format!("{path}.minReplicas");
            self.errors.push(FieldError::invalid(&path, &replicas, "minReplicas has to be positive"));
        }
        self.at_least_one(
            policy.evict_after_oom_seconds.map(i64::from),
            &format!("{path}.evictAfterOOMSeconds"),
            allowed,
        );
    }

    /// A number that belongs to the per-VPA configuration.
    fn at_least_one(&mut self, number: Option<i64>, path: &str, allowed: &Allowed) {
        let Some(number) = number else { return };
        if !allowed.per_vpa_config {
            self.needs_per_vpa_config(path);
        } else if number < 1 {
            self.errors.push(FieldError::invalid(path, &number, "must be greater than or equal to 1"));
        }
    }

    fn needs_per_vpa_config(&mut self, path: &str) {
        self.errors
            .push(FieldError::forbidden(path, "not supported when feature flag PerVPAConfig is disabled"));
    }

    fn resource_policy(&mut self, policy: &ResourcePolicyInput, path: &str, allowed: &Allowed) {
        for (i, container) in policy.container_policies.iter().enumerate() {
            self.container_policy(container, &format!("{path}.containerPolicies[{i}]"), allowed);
        }
    }

    fn container_policy(&mut self, policy: &ContainerResourcePolicy, path: &str, allowed: &Allowed) {
        if policy.container_name.as_deref().unwrap_or_default().is_empty() {
            self.errors.push(FieldError::required(&format!("{path}.containerName"), ""));
        }
        if let Some(ContainerScalingMode::Unknown(mode)) = &policy.mode {
            let known = ContainerScalingMode::KNOWN;
            self.errors.push(FieldError::not_supported(&format!("{path}.mode"), mode, known));
        }
        self.bounds(policy.min_allowed.as_ref(), policy.max_allowed.as_ref(), path);
        if policy.mode == Some(ContainerScalingMode::Off)
            && policy.controlled_values == Some(ContainerControlledValues::RequestsAndLimits)
        {
            let detail = "controlledValues shouldn't be specified if container scaling mode is off";
            self.errors.push(FieldError::forbidden(&format!("{path}.controlledValues"), detail));
        }
        self.controlled_resources(policy.controlled_resources.as_deref().unwrap_or_default(), path, allowed);
        self.oom_and_memory(policy, path, allowed);
        if let Some(boost) = &policy.startup_boost {
            self.startup_boost(boost, &format!("{path}.startupBoost"), allowed);
        }
    }

    fn bounds(&mut self, min: Option<&ResourceList>, max: Option<&ResourceList>, path: &str) {
        for (resource, least) in min.into_iter().flatten() {
            self.resolution(resource, least, &format!("{path}.minAllowed[{resource}]"));
            if let Some(most) = max.and_then(|max| max.get(resource)).filter(|most| *most < least) {
                let detail = format!("max resource for {resource} is lower than min of \"{least}\"");
                let path = format!("{path}.maxAllowed[{resource}]");
                self.errors.push(FieldError::invalid(&path, most.to_string().as_str(), &detail));
            }
        }
        for (resource, most) in max.into_iter().flatten() {
            self.resolution(resource, most, &format!("{path}.maxAllowed[{resource}]"));
        }
    }

    /// CPU in whole thousandths of a core, memory in whole bytes; other resources as they are.
    fn resolution(&mut self, resource: &str, amount: &Quantity, path: &str) {
        let (power_of_ten, detail) = match resource {
            CPU => (-3, "must be a whole number of milli CPUs"),
            MEMORY => (0, "must be a whole number of bytes"),
            _ => return,
        };
        let mut rounded = amount.clone();
        rounded.round_up(power_of_ten);
        if rounded != *amount {
            self.errors.push(FieldError::invalid(path, amount.to_string().as_str(), detail));
        }
    }

    fn controlled_resources(&mut self, resources: &[String], path: &str, allowed: &Allowed) {
        for (i, resource) in resources.iter().enumerate() {
            if resource == CPU || resource == MEMORY {
                continue;
            }
            let path = format!("{path}.controlledResources[{i}]");
            if allowed.controlled_resources.contains(resource) {
                self.warnings.push(format!(
                    "{path}: unsupported value {resource:?} is allowed only because it is present in the existing \
                     VPA object; supported values: {CPU:?}, {MEMORY:?}"
                ));
            } else {
                self.errors.push(FieldError::not_supported(&path, resource, &[CPU, MEMORY]));
            }
        }
    }

    fn oom_and_memory(&mut self, policy: &ContainerResourcePolicy, path: &str, allowed: &Allowed) {
        if let Some(ratio) = &policy.oom_bump_up_ratio {
            let path = format!("{path}.oomBumpUpRatio");
            // Thousandths are exact in a double up to 2^53; beyond it only the size matters.
            #[allow(clippy::cast_precision_loss)]
            let ratio = ratio.milli_value_saturating() as f64 / 1000.0;
            if !allowed.per_vpa_config {
                self.needs_per_vpa_config(&path);
            } else if ratio < 1.0 {
                self.errors.push(FieldError::invalid(&path, &ratio, "must be greater than or equal to 1.0"));
            }
        }
        if let Some(least) = &policy.oom_min_bump_up {
            let path = format!("{path}.oomMinBumpUp");
            let least = least.value_saturating();
            if !allowed.per_vpa_config {
                self.needs_per_vpa_config(&path);
            } else if least < 0 {
                self.errors.push(FieldError::invalid(&path, &least, "must be greater than or equal to 0"));
            }
        }
        self.at_least_one(
            policy.memory_aggregation_interval_seconds.map(i64::from),
            &format!("{path}.memoryAggregationIntervalSeconds"),
            allowed,
        );
        self.at_least_one(
            policy.memory_aggregation_interval_count,
            &format!("{path}.memoryAggregationIntervalCount"),
            allowed,
        );
    }

    fn startup_boost(&mut self, boost: &StartupBoost, path: &str, allowed: &Allowed) {
        if !allowed.boost {
            let detail = "in order to use startupBoost, you must enable feature gate CPUStartupBoost in the admission-controller args";
            self.errors.push(FieldError::forbidden(path, detail));
            return;
        }
        let Some(cpu) = &boost.cpu else { return };
        let path = format!("{path}.cpu");
        match (&cpu.kind, cpu.factor, &cpu.quantity) {
            (StartupBoostType::Unknown(kind), ..) if kind.is_empty() => {
                let detail = "must be either Factor or Quantity";
                self.errors.push(FieldError::required(&format!("{path}.type"), detail));
            }
            (StartupBoostType::Unknown(kind), ..) => {
                let known = StartupBoostType::KNOWN;
                self.errors.push(FieldError::not_supported(&format!("{path}.type"), kind, known));
            }
            (StartupBoostType::Factor, None, _) => {
                let detail = "required when type is Factor";
                self.errors.push(FieldError::required(&format!("{path}.factor"), detail));
            }
            (StartupBoostType::Factor, Some(factor), _) if factor < 1 => {
                let detail = "must be >= 1 for type Factor";
                self.errors.push(FieldError::invalid(&format!("{path}.factor"), &factor, detail));
            }
            (StartupBoostType::Factor, ..) => {}
            (StartupBoostType::Quantity, _, None) => {
                let detail = "required when type is Quantity";
                self.errors.push(FieldError::required(&format!("{path}.quantity"), detail));
            }
            (StartupBoostType::Quantity, _, Some(quantity)) => {
                self.resolution(CPU, quantity, &format!("{path}.quantity"));
            }
        }
    }
}
