//! The generated definitions: fresh on disk, and saying what the Go suite's say.

use std::collections::BTreeSet;

use serde_json::Value;
use xtask::crds;

/// The one difference: the name that AEP-4016 first gave to the mode `InPlace` is accepted too.
const MODES: (&str, &str) = (
    r#"verticalpodautoscalers v1:spec.updatePolicy.updateMode enum ["Auto","InPlace","InPlaceOrRecreate","Initial","Off","Recreate"]"#,
    r#"verticalpodautoscalers v1:spec.updatePolicy.updateMode enum ["Auto","InPlace","InPlaceOnly","InPlaceOrRecreate","Initial","Off","Recreate"]"#,
);

/// Words for people, ours.
const TEXTS: [&str; 2] = ["description", "deprecationWarning"];

#[test]
fn files_are_fresh() {
    crds::run(true).unwrap();
}

#[test]
fn definitions_say_what_the_go_suite_says() {
    let mut want: BTreeSet<&str> =
        include_str!("crd-facts.txt").lines().filter(|line| !line.starts_with('#')).collect();
    assert!(want.remove(MODES.0), "the fact about update modes is gone");
    want.insert(MODES.1);
    let mut got = BTreeSet::new();
    for definition in [crds::vpa().unwrap(), crds::checkpoint().unwrap()] {
        got.extend(facts(&definition));
    }
    let missing: Vec<_> = want.iter().filter(|fact| !got.contains(**fact)).collect();
    let extra: Vec<_> = got.iter().filter(|fact| !want.contains(fact.as_str())).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
}

#[test]
fn words_that_old_yaml_readers_take_for_booleans_are_quoted() {
    for file in crds::files().unwrap() {
        let bare = ["Off", "On", "Yes", "No", "y", "n"];
        for line in file.content.lines() {
            let value = line.trim_start().trim_start_matches("- ").rsplit(": ").next().unwrap_or_default();
            assert!(!bare.contains(&value), "{}: {line}", file.path);
        }
        let read: Value = serde_saphyr::from_str(&file.content).unwrap();
        assert_eq!(read["spec"]["group"], "autoscaling.k8s.io");
    }
    assert!(
        crds::files().unwrap()[0].content.contains("\"Off\"")
            || crds::files().unwrap()[0].content.contains("'Off'")
    );
}

#[test]
fn every_field_is_described_in_words_for_users() {
    for definition in [crds::vpa().unwrap(), crds::checkpoint().unwrap()] {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            check_descriptions(part, &schema["properties"][part]);
        }
    }
}

fn check_descriptions(path: &str, schema: &Value) {
    let text = schema["description"].as_str().unwrap_or_default();
    assert!(!text.is_empty(), "{path} has no description");
    assert!(!text.contains("::") && !text.contains("[`"), "{path} speaks of code: {text}");
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        check_descriptions(&format!("{path}.{name}"), field);
    }
    for (name, field) in schema["items"]["properties"].as_object().into_iter().flatten() {
        check_descriptions(&format!("{path}[].{name}"), field);
    }
}

/// One line for each fact of a definition, in the form of `crd-facts.txt`.
fn facts(definition: &Value) -> Vec<String> {
    let spec = &definition["spec"];
    let plural = text(&spec["names"]["plural"]);
    let mut facts = Vec::new();
    let mut add = |place: &str, keyword: &str, value: &Value| {
        facts.push(format!("{plural} {place} {keyword} {}", text(value)));
    };
    add("crd", "name", &definition["metadata"]["name"]);
    add("crd", "group", &spec["group"]);
    add("crd", "scope", &spec["scope"]);
    for (key, value) in definition["metadata"]["annotations"].as_object().into_iter().flatten() {
        add("crd", &format!("annotation {key}"), value);
    }
    for (key, value) in spec["names"].as_object().into_iter().flatten() {
        add("crd", &format!("names.{key}"), value);
    }
    for version in spec["versions"].as_array().into_iter().flatten() {
        let name = text(&version["name"]);
        for keyword in ["served", "storage", "deprecated"] {
            if let Some(value) = version.get(keyword) {
                add(&name, keyword, value);
            }
        }
        let subresources = version["subresources"].as_object().into_iter().flatten();
        let subresources: Vec<&str> = subresources.map(|(name, _)| name.as_str()).collect();
        add(&name, "subresources", &subresources.into());
        for (index, column) in
            version["additionalPrinterColumns"].as_array().into_iter().flatten().enumerate()
        {
            let parts = ["name", "type", "jsonPath"].map(|key| column[key].clone());
            let priority = column.get("priority").cloned().unwrap_or_else(|| 0.into());
            let parts: Vec<Value> = parts.into_iter().chain([priority]).collect();
            add(&name, &format!("column{index}"), &parts.into());
        }
        walk(&mut add, &name, "", &version["schema"]["openAPIV3Schema"]);
    }
    facts
}

fn walk(add: &mut impl FnMut(&str, &str, &Value), version: &str, path: &str, schema: &Value) {
    let place = format!("{version}:{}", if path.is_empty() { "." } else { path });
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match keyword.as_str() {
            "properties" => {
                for (name, field) in value.as_object().into_iter().flatten() {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(add, version, &path, field);
                }
            }
            "items" => walk(add, version, &format!("{path}[]"), value),
            "additionalProperties" if value.is_object() => walk(add, version, &format!("{path}{{}}"), value),
            "enum" | "required" => {
                let mut sorted = value.as_array().cloned().unwrap_or_default();
                sorted.sort_by_key(ToString::to_string);
                add(&place, keyword, &sorted.into());
            }
            "x-kubernetes-validations" => {
                for rule in value.as_array().into_iter().flatten() {
                    add(&place, "rule", &rule["rule"]);
                    assert!(!text(&rule["message"]).is_empty(), "{place}: a rule without a message");
                }
            }
            text if TEXTS.contains(&text) => {}
            _ => add(&place, keyword, value),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
