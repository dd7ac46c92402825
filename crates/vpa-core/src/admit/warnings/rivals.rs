//! Others that change the same pods: a second VPA, a horizontal autoscaler.

use std::sync::Arc;

use vpa_api::VerticalPodAutoscaler;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::vpa::{ContainerResourcePolicy, ContainerScalingMode, WILDCARD_CONTAINER};

use super::{Subject, Warnings};
use crate::admit::surroundings::{Autoscaler, ScaledOn};
use crate::policy::{Mode, container_policy, has_startup_boost, mode};
use crate::target::{ControllerKey, Lookup, stronger};

/// Other VPAs that a warning names; more are counted.
const NAMED_MAX: usize = 3;

/// Warns of rivals.
pub(super) fn advise(subject: &Subject<'_>, warnings: &mut Warnings) {
    let Some(target) = subject.target() else { return };
    other_vpas(subject, &target, warnings);
    // In mode Off nothing is changed that the other could answer to.
    if mode(&subject.vpa) != Mode::Off {
        autoscalers(subject, &target, warnings);
    }
}

fn other_vpas(subject: &Subject<'_>, target: &ControllerKey, warnings: &mut Warnings) {
    let own = &subject.vpa;
    let mut others = subject.snapshot.vpas.targeting(&target.namespace, &target.kind, &target.name);
    others.retain(|other| other.metadata.name != own.metadata.name);
    if others.is_empty() {
        return;
    }
    warnings.push("spec.targetRef", || {
        let names: Vec<String> =
            others.iter().take(NAMED_MAX).map(|other| format!("{:?}", name(other))).collect();
        let more = match others.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (vpas, names_it) = if others.len() == 1 { ("VPA", "names") } else { ("VPAs", "name") };
        let names = names.join(", ");
        let result = followed(subject, &others);
        format!("{vpas} {names}{more} {names_it} the same target; {result}")
    });
}

/// Whose recommendation pods get: that of the first that [`stronger`] has among those that change pods at all.
fn followed(subject: &Subject<'_>, others: &[Arc<VerticalPodAutoscaler>]) -> String {
    let boosts = subject.snapshot.config.gates.cpu_startup_boost;
    let acts = |vpa: &VerticalPodAutoscaler| mode(vpa) != Mode::Off || (boosts && has_startup_boost(vpa));
    let own = &subject.vpa;
    // A new one without a time will be the youngest.
    let youngest = subject.created && own.metadata.creation_timestamp.is_none();
    let winner = others.iter().find(|other| acts(other));
    let own_wins = acts(own) && winner.is_none_or(|winner| !youngest && stronger(own, winner).is_lt());
    match winner {
        _ if own_wins => "pods follow the oldest that is not Off, which is this one".to_owned(),
        Some(winner) => format!("pods follow the oldest that is not Off, which is {:?}", name(winner)),
        None => "all are in mode Off, so pods follow none".to_owned(),
    }
}

fn name(vpa: &VerticalPodAutoscaler) -> &str {
    vpa.metadata.name.as_deref().unwrap_or_default()
}

fn autoscalers(subject: &Subject<'_>, target: &ControllerKey, warnings: &mut Warnings) {
    let found = subject.surroundings.autoscalers(&target.namespace, &target.kind, &target.name);
    if found.is_empty() {
        return;
    }
    let containers = match subject.snapshot.controllers.get(target) {
        Lookup::Found(controller) => controller.containers.clone(),
        _ => None,
    };
    for autoscaler in found {
        let clash = |resource: &str| {
            let mut metrics = autoscaler.scaled_on.iter().filter(|metric| metric.resource == resource);
            metrics.any(|metric| changes(&subject.vpa, metric, containers.as_deref()))
        };
        let clashes: Vec<&str> = [CPU, MEMORY].into_iter().filter(|resource| clash(resource)).collect();
        if !clashes.is_empty() {
            warnings.push("spec.targetRef", || clash_text(&autoscaler, &clashes.join(" and ")));
        }
    }
}

fn clash_text(autoscaler: &Autoscaler, resources: &str) -> String {
    let hpa = autoscaler.name.as_str();
    let who = match &autoscaler.scaled_object {
        Some(scaled_object) => format!("KEDA ScaledObject {scaled_object:?} (HPA {hpa:?})"),
        None => format!("HPA {hpa:?}"),
    };
    format!(
        "{who} scales this target on {resources}, which this VPA changes too, so each reacts to the other; take it out of \
         controlledResources, or scale on another metric"
    )
}

/// Whether the VPA changes what a metric of an autoscaler counts. `containers` are those of the target, where they are
/// known.
fn changes(vpa: &VerticalPodAutoscaler, metric: &ScaledOn, containers: Option<&[String]>) -> bool {
    let policy = vpa.spec.resource_policy.as_ref();
    let of = |container: &str| container_policy(container, policy);
    let controlled = |container: &str| of(container).is_none_or(|policy| controls(policy, metric.resource));
    match (&metric.container, containers) {
        (Some(container), _) => controlled(container),
        (None, Some(containers)) => containers.iter().any(|container| controlled(container)),
        // Containers without a policy of their own, and those that have one.
        (None, None) => {
            let policies = policy.and_then(|policy| policy.container_policies.as_deref()).unwrap_or_default();
            controlled(WILDCARD_CONTAINER) || policies.iter().any(|policy| controls(policy, metric.resource))
        }
    }
}

/// Whether containers with this policy get a recommendation for a resource.
pub(super) fn controls(policy: &ContainerResourcePolicy, resource: &str) -> bool {
    policy.mode != Some(ContainerScalingMode::Off)
        && policy
            .controlled_resources
            .as_ref()
            .is_none_or(|controlled| controlled.iter().any(|controlled| controlled == resource))
}
