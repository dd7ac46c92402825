mod rivals;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use vpa_api::limit_range::LimitRange;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_api::{Quantity, VerticalPodAutoscaler};

use super::{CHARS_MAX, WARNINGS_MAX};
use crate::admit::{
    Autoscaler, Config, Decision, Gates, Outcome, ScaledOn, Snapshot, Surroundings, decode, review,
};
use crate::policy::{LimitRangeSource, LimitRanges};
use crate::target::{Controller, ControllerKey, ControllerSource, Lookup, Selector, VpaIndex};

/// What one warning holds, or that there is none.
type Told<'a> = Option<&'a [&'a str]>;
/// Resources that an autoscaler scales on, with the container.
type On<'a> = &'a [(&'static str, Option<&'a str>)];
/// Cores and bytes of the largest node.
type Node = Option<[&'static str; 2]>;
/// A policy, the limits of its namespace, the largest node, and what the warning holds.
type Bounds<'a> = (&'a str, Value, &'a Value, Node, Option<&'a [String]>);

/// A cluster with the Deployment `web` of the containers `app` and `sidecar` in namespace `ns`, and nothing else.
#[derive(Default)]
struct World {
    controllers: BTreeMap<ControllerKey, Lookup>,
    vpas: Vec<Value>,
    autoscalers: Vec<Autoscaler>,
    /// Limits of a container in the namespace: `min` and `max`.
    limits: Value,
    largest: Node,
    /// Nothing is known of the namespace.
    outside: bool,
}

impl World {
    fn new() -> Self {
        let web = target("apps/v1", "Deployment", "web");
        let controller = Controller {
            key: web.clone(),
            uid: None,
            owner: None,
            selector: Ok(Selector::All([].into())),
            replicas: None,
            containers: Some(vec!["app".into(), "sidecar".into()]),
        };
        let found = Lookup::Found(Arc::new(controller));
        Self { controllers: [(web, found)].into(), ..Self::default() }
    }

    fn decide(&self, request: &Value) -> Decision {
        let decision = self.decide_any(request);
        assert!(decision.allowed(), "warnings never refuse: {decision:?}");
        decision
    }

    fn decide_any(&self, request: &Value) -> Decision {
        let body = json!({ "request": request }).to_string();
        let request = decode(body.as_bytes()).unwrap();
        let vpas =
            self.vpas.iter().map(|vpa| serde_json::from_value::<VerticalPodAutoscaler>(vpa.clone()).unwrap());
        let index = VpaIndex::new(vpas.map(Arc::new));
        let config = Config {
            gates: Gates { in_place: true, per_vpa_config: true, cpu_startup_boost: true },
            max_allowed_cpu_boost: None,
        };
        let snapshot = Snapshot {
            vpas: &index,
            controllers: self,
            limit_ranges: self,
            surroundings: Some(self),
            config: &config,
        };
        review(&request, &snapshot)
    }

    /// The warnings about a new VPA with this spec.
    fn warnings(&self, spec: &Value) -> Vec<String> {
        self.decide(&created(spec)).warnings
    }
}

impl ControllerSource for World {
    fn get(&self, key: &ControllerKey) -> Lookup {
        ControllerSource::get(&self.controllers, key)
    }
}

impl LimitRangeSource for World {
    fn limit_ranges(&self, namespace: &str) -> Arc<LimitRanges> {
        assert_eq!(namespace, "ns");
        if self.limits.is_null() {
            return Arc::default();
        }
        let mut item = self.limits.clone();
        item["type"] = "Container".into();
        let object = json!({ "metadata": { "name": "limits" }, "spec": { "limits": [item] } });
        let object: LimitRange = serde_json::from_value(object).unwrap();
        Arc::new(LimitRanges::merge([&object]))
    }
}

impl Surroundings for World {
    fn covers(&self, _: &str) -> bool {
        !self.outside
    }

    fn autoscalers(&self, namespace: &str, kind: &str, name: &str) -> Vec<Arc<Autoscaler>> {
        let here = (namespace, kind, name) == ("ns", "Deployment", "web");
        self.autoscalers.iter().filter(|_| here).cloned().map(Arc::new).collect()
    }

    fn largest_node(&self, resource: &str) -> Option<Quantity> {
        let place = [CPU, MEMORY].iter().position(|known| *known == resource)?;
        Some(Quantity::parse(self.largest?[place]).unwrap())
    }
}

fn target(api_version: &str, kind: &str, name: &str) -> ControllerKey {
    ControllerKey {
        namespace: "ns".into(),
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
    }
}

/// A spec for the Deployment `web` in `mode`, with policies.
fn spec(mode: &str, policies: Value) -> Value {
    json!({
        "targetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
        "updatePolicy": { "updateMode": mode },
        "resourcePolicy": { "containerPolicies": policies },
    })
}

fn created(spec: &Value) -> Value {
    json!({
        "uid": "u", "operation": "CREATE", "namespace": "ns", "name": "own",
        "resource": { "group": "autoscaling.k8s.io", "version": "v1", "resource": "verticalpodautoscalers" },
        "object": { "metadata": { "name": "own", "namespace": "ns" }, "spec": spec },
    })
}

fn updated(old: &Value, new: &Value) -> Value {
    let mut request = created(new);
    request["operation"] = "UPDATE".into();
    request["object"]["metadata"]["labels"] = json!({ "new": "one" });
    request["oldObject"] = json!({ "metadata": { "name": "own", "namespace": "ns" }, "spec": old });
    request
}

fn vpa(name: &str, mode: &str, minute: u32) -> Value {
    let created = format!("2026-01-01T00:{minute:02}:00Z");
    json!({
        "metadata": { "name": name, "namespace": "ns", "creationTimestamp": created },
        "spec": spec(mode, json!([])),
    })
}

fn hpa(metrics: On<'_>) -> Autoscaler {
    let of = |(resource, container): &(&'static str, Option<&str>)| ScaledOn {
        resource,
        container: container.map(Into::into),
    };
    Autoscaler { name: "hpa".into(), scaled_object: None, scaled_on: metrics.iter().map(of).collect() }
}

/// One warning that holds all of `parts`, or none at all.
#[track_caller]
fn expect(what: &str, warnings: &[String], parts: Told<'_>) {
    let Some(parts) = parts else {
        assert!(warnings.is_empty(), "{what}: {warnings:?}");
        return;
    };
    let [warning] = warnings else { panic!("{what}: not one warning: {warnings:?}") };
    for part in parts {
        assert!(warning.contains(part), "{what}: {warning:?} lacks {part:?}");
    }
}

#[test]
fn a_sound_vpa_gets_no_warning() {
    let mut world = World::new();
    world.largest = Some(["8", "32Gi"]);
    world.limits = json!({ "min": { "cpu": "50m" }, "max": { "cpu": "4", "memory": "8Gi" } });
    world.autoscalers = vec![hpa(&[])];
    let policies = json!([{ "containerName": "*", "minAllowed": { "cpu": "50m", "memory": "64Mi" },
        "maxAllowed": { "cpu": "4", "memory": "8Gi" } }]);
    let decision = world.decide(&created(&spec("Recreate", policies)));
    expect("sound", &decision.warnings, None);
    assert!(matches!(decision.report.outcome, Outcome::Skipped(_)));
}

#[test]
fn a_target_that_is_not_there() {
    let rollout = || target("argoproj.io/v1alpha1", "Rollout", "web");
    let deployment = || target("apps/v1", "Deployment", "gone");
    let two = target("a/b/c", "Foo", "web");
    let there = ["takes effect once"];
    let gone = ["spec.targetRef: there is no Deployment \"gone\" in namespace \"ns\"", there[0]];
    let no_scale = ["no Rollout \"web\" with a scale subresource", there[0]];
    let unknown = ["API group \"argoproj.io\" has no kind \"Rollout\"", there[0]];
    let odd = ["spec.targetRef.apiVersion: \"a/b/c\""];
    // What is asked for, what the source says, the warning, and whether to ask again.
    let cases: [(&str, ControllerKey, Lookup, Told<'_>, bool); 7] = [
        ("a missing Deployment", deployment(), Lookup::NotFound, Some(&gone), true),
        ("a missing custom object", rollout(), Lookup::NotFound, Some(&no_scale), true),
        ("an unknown kind", rollout(), Lookup::UnknownKind, Some(&unknown), false),
        ("a look-up under way", rollout(), Lookup::Pending, None, true),
        ("one that may not be read", rollout(), Lookup::Forbidden, None, false),
        ("a failed look-up", rollout(), Lookup::Failed("no answer".into()), None, false),
        ("an API version that is none", two, Lookup::Failed("no version".into()), Some(&odd), false),
    ];
    for (what, key, lookup, expected, again) in cases {
        let mut spec = spec("Off", json!([]));
        spec["targetRef"] = json!({ "apiVersion": key.api_version, "kind": key.kind, "name": key.name });
        let mut world = World::new();
        world.controllers.insert(key.clone(), lookup);
        let decision = world.decide(&created(&spec));
        expect(what, &decision.warnings, expected);
        let awaits = matches!(&decision.report.outcome, Outcome::Pending(pending) if *pending == key);
        assert_eq!(awaits, again, "{what}: {:?}", decision.report);
        let settled = decision.clone().settled();
        assert!(matches!(settled.report.outcome, Outcome::Skipped(_)), "{what}: {:?}", settled.report);
        assert_eq!(settled.warnings, decision.warnings);
    }
}

#[test]
fn no_target_at_all() {
    let world = World::new();
    for reference in [Value::Null, json!({}), json!({ "kind": "Deployment", "name": "" })] {
        let mut spec = spec("Off", json!([]));
        spec["targetRef"] = reference;
        expect("no target", &world.warnings(&spec), Some(&["spec.targetRef: names no object"]));
    }
}

#[test]
fn a_vpa_that_awaits_its_target_is_completed_all_the_same() {
    let world = World::new();
    let spec = json!({ "targetRef": { "kind": "Deployment", "name": "gone" } });
    let decision = world.decide(&created(&spec));
    assert!(matches!(decision.report.outcome, Outcome::Pending(_)));
    assert_eq!(decision.patches[0].path, "/spec/updatePolicy");
    assert_eq!(decision.settled().report.outcome, Outcome::Applied);
    // What is changed later has had time to appear.
    let old = json!({ "targetRef": { "kind": "Deployment", "name": "web" } });
    assert!(!matches!(world.decide(&updated(&old, &spec)).report.outcome, Outcome::Pending(_)));
}

#[test]
fn bounds_beyond_the_limit_range_or_the_nodes() {
    let at = |bound: &str| format!("spec.resourcePolicy.containerPolicies[0].{bound}");
    let (min_cpu, max_cpu, min_memory) =
        (at("minAllowed[cpu]: "), at("maxAllowed[cpu]: "), at("minAllowed[memory]: "));
    let above = [&min_cpu, "4", "most that a LimitRange of namespace \"ns\" allows a container, 2"]
        .map(str::to_owned);
    let below = [&max_cpu, "50m", "least that a LimitRange of namespace \"ns\" allows a container, 100m"]
        .map(str::to_owned);
    let pending = [&min_memory, "64Gi", "any node can give to pods, 32Gi", "stay Pending"].map(str::to_owned);
    let too_high =
        [&max_cpu, "8500m", "any node can give to pods, 8", "would leave pods Pending"].map(str::to_owned);
    let limits = json!({ "min": { "cpu": "100m" }, "max": { "cpu": "2" } });
    let none = Value::Null;
    let nodes = Some(["8", "32Gi"]);
    let cases: [Bounds<'_>; 14] = [
        ("a minimum above the range", json!({ "minAllowed": { "cpu": "4" } }), &limits, None, Some(&above)),
        ("a minimum at its end", json!({ "minAllowed": { "cpu": "2" } }), &limits, None, None),
        (
            "a maximum above it, to which it is cut",
            json!({ "maxAllowed": { "cpu": "4" } }),
            &limits,
            None,
            None,
        ),
        ("a maximum below it", json!({ "maxAllowed": { "cpu": "50m" } }), &limits, None, Some(&below)),
        ("a maximum at its start", json!({ "maxAllowed": { "cpu": "0.1" } }), &limits, None, None),
        ("a maximum of zero is none", json!({ "maxAllowed": { "cpu": "0" } }), &limits, None, None),
        ("a resource without range", json!({ "minAllowed": { "memory": "1Ti" } }), &limits, None, None),
        ("no range, no nodes", json!({ "minAllowed": { "cpu": "4", "memory": "1Ti" } }), &none, None, None),
        (
            "a container that is off",
            json!({ "mode": "Off", "minAllowed": { "cpu": "40" } }),
            &limits,
            nodes,
            None,
        ),
        (
            "a resource that is not controlled",
            json!({ "controlledResources": ["memory"], "minAllowed": { "cpu": "40" } }),
            &limits,
            nodes,
            None,
        ),
        (
            "a minimum beyond each node",
            json!({ "minAllowed": { "memory": "64Gi" } }),
            &none,
            nodes,
            Some(&pending),
        ),
        (
            "its maximum is so too, and is told once",
            json!({ "minAllowed": { "memory": "64Gi" }, "maxAllowed": { "memory": "128Gi" } }),
            &none,
            nodes,
            Some(&pending),
        ),
        (
            "a maximum beyond each node",
            json!({ "minAllowed": { "cpu": "1" }, "maxAllowed": { "cpu": "8500m" } }),
            &none,
            nodes,
            Some(&too_high),
        ),
        (
            "what the largest node can hold",
            json!({ "maxAllowed": { "cpu": "8000m", "memory": "32Gi" } }),
            &none,
            nodes,
            None,
        ),
    ];
    for (what, mut policy, limits, largest, expected) in cases {
        policy["containerName"] = "*".into();
        let mut world = World::new();
        (world.limits, world.largest) = (limits.clone(), largest);
        let expected: Option<Vec<&str>> = expected.map(|parts| parts.iter().map(String::as_str).collect());
        expect(what, &world.warnings(&spec("Recreate", json!([policy]))), expected.as_deref());
    }
}

#[test]
fn an_update_is_told_of_when_its_spec_changes() {
    let mut world = World::new();
    world.vpas = vec![vpa("old", "Recreate", 1)];
    let (recreate, initial) = (spec("Recreate", json!([])), spec("Initial", json!([])));
    expect("the same spec", &world.decide(&updated(&recreate, &recreate)).warnings, None);
    let parts: &[&str] = &["names the same target"];
    expect("another mode", &world.decide(&updated(&recreate, &initial)).warnings, Some(parts));
    let auto = spec("Auto", json!([]));
    let deprecated: &[&str] = &["\"Auto\" mode is deprecated"];
    expect(
        "what the Go suite says it always says",
        &world.decide(&updated(&auto, &auto)).warnings,
        Some(deprecated),
    );
}

#[test]
fn of_a_namespace_that_is_not_watched_nothing_is_said() {
    let mut world = World { outside: true, ..World::new() };
    world.controllers.clear();
    let decision = world.decide(&created(&spec("Recreate", json!([]))));
    expect("outside", &decision.warnings, None);
    assert!(matches!(decision.report.outcome, Outcome::Skipped(_)));
}

#[test]
fn warnings_are_few_and_short() {
    let mut world = World::new();
    world.largest = Some(["1", "1Gi"]);
    let policies: Vec<Value> = (0..50)
        .map(|i| json!({ "containerName": format!("c{i}"), "minAllowed": { "cpu": "2", "memory": "2Gi" } }))
        .collect();
    let warnings = world.warnings(&spec("Recreate", policies.into()));
    assert_eq!(warnings.len(), WARNINGS_MAX);
    assert_eq!(warnings.last().unwrap(), "spec: 91 more warnings are left out");

    let mut spec = spec("Recreate", json!([]));
    spec["targetRef"]["name"] = "ä\n".repeat(300).into();
    let warnings = world.warnings(&spec);
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!(warning.chars().count(), CHARS_MAX);
    // A header cannot hold them.
    assert!(!warning.contains('\n') && warning.ends_with('…'));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_vpa_makes_advice_panic_or_refuse(
        part in crate::admit::tests::any_json(),
        place in proptest::sample::select(&[
            "", "/targetRef", "/targetRef/kind", "/updatePolicy", "/resourcePolicy", "/resourcePolicy/containerPolicies",
            "/resourcePolicy/containerPolicies/0", "/resourcePolicy/containerPolicies/0/minAllowed",
            "/resourcePolicy/containerPolicies/0/maxAllowed/cpu",
        ][..]),
    ) {
        let mut world = World::new();
        (world.limits, world.largest) = (json!({ "max": { "cpu": "2" } }), Some(["8", "32Gi"]));
        world.vpas = vec![vpa("old", "Recreate", 1)];
        world.autoscalers = vec![hpa(&[(CPU, None), (MEMORY, Some("app"))])];
        let bounds = json!({ "cpu": "100", "memory": "1Gi" });
        let policy = json!({ "containerName": "*", "minAllowed": bounds, "maxAllowed": bounds });
        let mut spec = spec("Recreate", json!([policy]));
        if let Some(field) = spec.pointer_mut(place) {
            *field = part;
        }
        let advised = world.decide_any(&created(&spec));
        // What warnings may look at decides about nothing else.
        let plain = World { outside: true, ..world }.decide_any(&created(&spec));
        prop_assert_eq!((&advised.denial, &advised.patches), (&plain.denial, &plain.patches));
        prop_assert_eq!(advised.warnings.get(..plain.warnings.len()), Some(&plain.warnings[..]));
        prop_assert!(advised.warnings.iter().all(|text| !text.chars().any(char::is_control)), "{:?}", advised.warnings);
        prop_assert!(advised.warnings.len() <= plain.warnings.len() + WARNINGS_MAX);
    }
}
