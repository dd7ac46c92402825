use serde_json::{Value, json};
use vpa_api::names::resource::{CPU, MEMORY};

use super::{On, Told, World, created, expect, hpa, spec, target, vpa};
use crate::admit::Autoscaler;
use crate::target::Lookup;

#[test]
fn a_second_vpa_on_the_same_target() {
    let one = ["VPA \"old\" names the same target"];
    let of_old = [one[0], "which is \"old\""];
    let own = [one[0], "which is this one"];
    let off = [one[0], "all are in mode Off"];
    let many = ["VPAs \"a\", \"b\", \"c\" and 2 more name the same target", "which is \"a\""];
    let old = |mode| vec![vpa("old", mode, 1)];
    let five: Vec<Value> = ["a", "b", "c", "d", "e"].iter().map(|name| vpa(name, "Initial", 1)).collect();
    let cases: [(&str, Vec<Value>, &str, Told<'_>); 8] = [
        ("none but itself", vec![vpa("own", "Recreate", 1)], "Recreate", None),
        ("an older one", old("Recreate"), "Recreate", Some(&of_old)),
        ("an older one, this one off", old("Recreate"), "Off", Some(&of_old)),
        ("an older one that is off", old("Off"), "Recreate", Some(&own)),
        ("both off", old("Off"), "Off", Some(&off)),
        (
            "itself and an older one",
            vec![vpa("own", "Off", 0), vpa("old", "Auto", 1)],
            "Initial",
            Some(&of_old),
        ),
        ("many", five, "Recreate", Some(&many)),
        ("a boost counts as on", vec![boosted(vpa("old", "Off", 1))], "Recreate", Some(&of_old)),
    ];
    for (what, vpas, mode, expected) in cases {
        let mut world = World::new();
        world.vpas = vpas;
        expect(what, &world.warnings(&spec(mode, json!([]))), expected);
    }
}

fn boosted(mut vpa: Value) -> Value {
    vpa["spec"]["startupBoost"] = json!({ "cpu": { "type": "Factor", "factor": 2 } });
    vpa
}

#[test]
fn of_two_vpas_the_older_wins_whichever_is_looked_at() {
    let mut world = World::new();
    world.vpas = vec![vpa("other", "Recreate", 5)];
    for (time, winner) in [
        ("2026-01-01T00:04:00Z", "this one"),
        ("2026-01-01T00:06:00Z", "\"other\""),
        // As old: by name.
        ("2026-01-01T00:05:00Z", "\"other\""),
    ] {
        let mut request = created(&spec("Recreate", json!([])));
        request["object"]["metadata"]["creationTimestamp"] = time.into();
        expect(time, &world.decide(&request).warnings, Some(&[winner]));
    }
}

#[test]
fn an_autoscaler_on_the_same_resource() {
    let policy = |name: &str, more: Value| {
        let mut policy = json!({ "containerName": name });
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        policy
    };
    let off = |name: &str| policy(name, json!({ "mode": "Off" }));
    let only = |name: &str, resource: &str| policy(name, json!({ "controlledResources": [resource] }));
    let none = json!([]);
    let cpu = ["spec.targetRef: HPA \"hpa\" scales this target on cpu,"];
    let memory = ["on memory,"];
    let both = ["on cpu and memory,"];
    let of_app = [(CPU, Some("app"))];
    let of_pod = [(CPU, None)];
    let cases: [(&str, On<'_>, &str, Value, Told<'_>); 17] = [
        ("cpu", &of_pod, "Recreate", none.clone(), Some(&cpu)),
        ("memory", &[(MEMORY, None)], "InPlace", none.clone(), Some(&memory)),
        ("both", &[(MEMORY, None), (CPU, Some("app"))], "Initial", none.clone(), Some(&both)),
        ("other metrics alone", &[], "Recreate", none.clone(), None),
        ("mode Off only recommends", &of_pod, "Off", none, None),
        ("another resource", &of_pod, "Recreate", json!([only("*", MEMORY)]), None),
        ("the same resource", &of_pod, "Recreate", json!([only("*", CPU)]), Some(&cpu)),
        ("every container off", &of_pod, "Recreate", json!([off("*")]), None),
        ("each container off", &of_pod, "Recreate", json!([off("app"), off("sidecar")]), None),
        ("one container off", &of_pod, "Recreate", json!([off("app")]), Some(&cpu)),
        ("all off but one", &of_pod, "Recreate", json!([off("*"), policy("app", json!({}))]), Some(&cpu)),
        ("all off but one that is not there", &of_pod, "Recreate", json!([off("*"), only("x", CPU)]), None),
        ("the container's own metric", &of_app, "Recreate", json!([off("sidecar")]), Some(&cpu)),
        ("the metric of one that is off", &of_app, "Recreate", json!([off("app")]), None),
        ("off by the wildcard", &of_app, "Recreate", json!([off("*")]), None),
        ("on against the wildcard", &of_app, "Recreate", json!([off("*"), only("app", CPU)]), Some(&cpu)),
        ("its resource left out", &of_app, "Recreate", json!([only("app", MEMORY)]), None),
    ];
    for (what, metrics, mode, policies, expected) in cases {
        let mut world = World::new();
        world.autoscalers = vec![hpa(metrics)];
        expect(what, &world.warnings(&spec(mode, policies)), expected);
    }
}

#[test]
fn without_the_targets_containers_any_policy_may_count() {
    let mut world = World::new();
    let key = target("apps/v1", "Deployment", "web");
    world.controllers.insert(key, Lookup::Failed("no answer".into()));
    world.autoscalers = vec![hpa(&[(CPU, None)])];
    let off = json!({ "containerName": "*", "mode": "Off" });
    expect("all off", &world.warnings(&spec("Recreate", json!([off]))), None);
    let spec = spec("Recreate", json!([off, { "containerName": "x" }]));
    expect("one may be there", &world.warnings(&spec), Some(&["scales this target on cpu"]));
}

#[test]
fn an_autoscaler_of_keda_is_told_by_its_scaled_object() {
    let mut world = World::new();
    world.autoscalers = vec![Autoscaler { scaled_object: Some("queue".into()), ..hpa(&[(CPU, None)]) }];
    let parts = ["KEDA ScaledObject \"queue\" (HPA \"hpa\") scales this target on cpu"];
    expect("KEDA", &world.warnings(&spec("Recreate", json!([]))), Some(&parts));
}
