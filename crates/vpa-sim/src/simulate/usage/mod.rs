//! What containers use: the profile of each, by annotation or by rule, and its demand at a moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use parking_lot::RwLock;

pub use demand::{Moment, demand};
pub use profile::{Profile, ProfileError, Shape};

use super::amounts::{self, Amounts};

pub(crate) mod demand;
pub(crate) mod profile;

/// Annotation with a [`Profile`] in words; `sim.vpa/usage.<container>` is for one container.
pub const USAGE: &str = "sim.vpa/usage";
/// Annotation with a constant CPU use.
pub const CPU: &str = "sim.vpa/cpu";
/// Annotation with a constant memory use.
pub const MEMORY: &str = "sim.vpa/memory";

/// Used where nothing is said: an idle program.
const IDLE: (i64, i64) = (5, 20 * 1024 * 1024);

/// A use set from outside, for pods that exist and for pods to come; it wins over annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRule {
    /// Namespace of the pods.
    pub namespace: String,
    /// Labels that the pods carry.
    pub labels: BTreeMap<String, String>,
    /// Container, or all of them.
    pub container: Option<String>,
    /// CPU in thousandths of a core.
    pub cpu_millis: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
}

/// Clock of the usage generators: simulated seconds since `epoch` pass `scale` times as fast as real ones.
#[derive(Clone, Copy, Debug)]
pub struct UsageClock {
    /// Time zero of waves and bursts.
    pub epoch: Timestamp,
    /// Simulated seconds in one real second.
    pub scale: f64,
}

/// The use of every container; a handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Usage {
    clock: UsageClock,
    seed: u64,
    rules: Arc<RwLock<Vec<UsageRule>>>,
}

impl Usage {
    /// Usage by annotations alone; `seed` decides the jitter.
    pub fn new(clock: UsageClock, seed: u64) -> Self {
        Self { clock, seed, rules: Arc::default() }
    }

    /// Sets a rule; it replaces the one for the same pods and container. Of several that fit a container the latest
    /// wins.
    pub fn set(&self, rule: UsageRule) {
        let mut rules = self.rules.write();
        let same = |known: &UsageRule| {
            (&known.namespace, &known.labels, &known.container)
                == (&rule.namespace, &rule.labels, &rule.container)
        };
        rules.retain(|known| !same(known));
        rules.push(rule);
    }

    /// Drops all rules.
    pub fn clear(&self) {
        self.rules.write().clear();
    }

    /// What a container that started at `started` would use now if nothing held it back. A profile that cannot be
    /// read counts as none; [`check`] tells why.
    pub fn demand(&self, pod: &Pod, container: &str, started: Timestamp, now: Timestamp) -> Amounts {
        let seconds = |from: Timestamp| now.duration_since(from).as_secs_f64() * self.clock.scale;
        let moment = Moment { now_seconds: seconds(self.clock.epoch), age_seconds: seconds(started) };
        let meta = &pod.metadata;
        let parts = [meta.namespace.as_deref(), meta.name.as_deref(), Some(container)];
        let identity = demand::mix(self.seed, demand::hash(&parts.map(Option::unwrap_or_default)));
        demand(&self.profile(pod, container), identity, moment)
    }

    fn profile(&self, pod: &Pod, container: &str) -> Profile {
        let rules = self.rules.read();
        let rule = rules.iter().rev().find(|rule| rule.applies(pod, container));
        match rule {
            Some(rule) => Profile::constant(rule.cpu_millis, rule.memory_bytes),
            None => annotated(pod, container).ok().flatten().unwrap_or(Profile::constant(IDLE.0, IDLE.1)),
        }
    }
}

impl UsageRule {
    fn applies(&self, pod: &Pod, container: &str) -> bool {
        let labels = pod.metadata.labels.as_ref();
        pod.metadata.namespace.as_ref() == Some(&self.namespace)
            && self.container.as_ref().is_none_or(|name| name == container)
            && self.labels.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    }
}

/// Reads the annotations of a pod.
///
/// # Errors
/// [`ProfileError`] of the first annotation that cannot be read.
pub fn check(pod: &Pod) -> Result<(), ProfileError> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.into_iter().try_for_each(|container| annotated(pod, &container.name).map(drop))
}

fn annotated(pod: &Pod, container: &str) -> Result<Option<Profile>, ProfileError> {
    let Some(annotations) = pod.metadata.annotations.as_ref() else { return Ok(None) };
    let own = annotations.get(&format!("{USAGE}.{container}"));
    if let Some(text) = own.or_else(|| annotations.get(USAGE)) {
        return Profile::parse(text).map(Some);
    }
    let (cpu, memory) = (annotations.get(CPU), annotations.get(MEMORY));
    if cpu.is_none() && memory.is_none() {
        return Ok(None);
    }
    let part =
        |name: &str, text: Option<&String>| text.map(|text| format!(" {name}={text}")).unwrap_or_default();
    Profile::parse(&format!("steady{}{} jitter=0", part("cpu", cpu), part("memory", memory))).map(Some)
}

/// What a container gets of its demand: never more than its limits.
pub fn bounded(demand: Amounts, resources: Option<&ResourceRequirements>) -> Amounts {
    let limits = amounts::of_list(resources.and_then(|resources| resources.limits.as_ref()));
    let within = |amount: i64, limit: i64| if limit > 0 { amount.min(limit) } else { amount };
    Amounts {
        cpu_millis: within(demand.cpu_millis, limits.cpu_millis),
        memory_bytes: within(demand.memory_bytes, limits.memory_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.name = Some("web-1".into());
        pod.metadata.labels = Some(BTreeMap::from([("app".into(), "web".into())]));
        pod.metadata.annotations =
            Some(annotations.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
        pod
    }

    fn usage() -> Usage {
        Usage::new(UsageClock { epoch: Timestamp::UNIX_EPOCH, scale: 60.0 }, 1)
    }

    fn cpu(usage: &Usage, pod: &Pod, container: &str) -> i64 {
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(30);
        usage.demand(pod, container, Timestamp::UNIX_EPOCH, now).cpu_millis
    }

    #[test]
    fn the_most_special_word_wins() {
        let usage = usage();
        assert_eq!(cpu(&usage, &pod(&[]), "app"), IDLE.0);
        assert_eq!(cpu(&usage, &pod(&[(CPU, "70m")]), "app"), 70);
        let both = pod(&[(CPU, "70m"), (USAGE, "steady cpu=80m jitter=0")]);
        assert_eq!(cpu(&usage, &both, "app"), 80);
        let one =
            pod(&[(USAGE, "steady cpu=80m jitter=0"), ("sim.vpa/usage.side", "steady cpu=9m jitter=0")]);
        assert_eq!((cpu(&usage, &one, "app"), cpu(&usage, &one, "side")), (80, 9));
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let rule = UsageRule { namespace: "ns".into(), labels, cpu_millis: 500, ..UsageRule::default() };
        usage.set(rule.clone());
        assert_eq!(cpu(&usage, &one, "app"), 500);
        usage.set(UsageRule { cpu_millis: 600, ..rule.clone() });
        assert_eq!(cpu(&usage, &one, "app"), 600);
        usage.set(UsageRule { namespace: "elsewhere".into(), cpu_millis: 1, ..rule });
        assert_eq!(cpu(&usage, &one, "app"), 600);
        usage.clear();
        assert_eq!(cpu(&usage, &one, "app"), 80);
    }

    #[test]
    fn time_passes_by_the_scale() {
        let pod = pod(&[(USAGE, "burst cpu=1m..2 period=1h busy=30m jitter=0")]);
        let cpu_at = |seconds| {
            let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds);
            usage().demand(&pod, "app", Timestamp::UNIX_EPOCH, now).cpu_millis
        };
        assert_eq!((cpu_at(29), cpu_at(31), cpu_at(61)), (2000, 1, 2000));
    }

    #[test]
    fn limits_hold_demand_back() {
        let limited = serde_json::from_value(serde_json::json!({"limits": {"cpu": "1"}})).unwrap();
        let demand = Amounts { cpu_millis: 3000, memory_bytes: 77 };
        assert_eq!(bounded(demand, Some(&limited)), Amounts { cpu_millis: 1000, memory_bytes: 77 });
        assert_eq!(bounded(demand, None), demand);
    }
}
