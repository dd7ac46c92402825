//! Changes to JSON that keep it JSON.
//!
//! A fuzzer that changes bytes spends its time on inputs that are no JSON, or have a field that nobody reads. Here a
//! change is one that a wrong or hostile client could make: a member added, renamed, dropped or put elsewhere, a list with
//! an entry more or less, a value of another type, a quantity at an edge.

use serde_json::{Map, Number, Value};

/// Most changes to an input at once; libFuzzer stacks more where they lead to something new.
const CHANGES_MAX: usize = 3;

/// Names of members that mean something somewhere.
const NAMES: [&str; 60] = [
    "request",
    "object",
    "oldObject",
    "old_object",
    "operation",
    "resource",
    "subResource",
    "namespace",
    "name",
    "uid",
    "metadata",
    "annotations",
    "labels",
    "app",
    "ownerReferences",
    "controller",
    "kind",
    "apiVersion",
    "generateName",
    "creationTimestamp",
    "spec",
    "containers",
    "initContainers",
    "resources",
    "requests",
    "limits",
    "claims",
    "status",
    "containerStatuses",
    "conditions",
    "cpu",
    "memory",
    "ephemeral-storage",
    "targetRef",
    "updatePolicy",
    "updateMode",
    "minReplicas",
    "evictionRequirements",
    "evictAfterOOMSeconds",
    "resourcePolicy",
    "containerPolicies",
    "containerName",
    "mode",
    "minAllowed",
    "maxAllowed",
    "controlledResources",
    "controlledValues",
    "oomBumpUpRatio",
    "startupBoost",
    "factor",
    "type",
    "quantity",
    "recommenders",
    "recommendation",
    "containerRecommendations",
    "target",
    "lowerBound",
    "upperBound",
    "max",
    "default",
];

/// Texts that mean something somewhere, or are awkward in JSON, in a JSON pointer or in a list of names.
const TEXTS: [&str; 40] = [
    "",
    "*",
    "main",
    "sidecar",
    "c",
    "web",
    "default",
    "plain",
    "StatefulSet",
    "Deployment",
    "ReplicaSet",
    "apps/v1",
    "v1",
    "CREATE",
    "UPDATE",
    "pods",
    "verticalpodautoscalers",
    "autoscaling.k8s.io",
    "Off",
    "Auto",
    "Initial",
    "Recreate",
    "InPlace",
    "InPlaceOrRecreate",
    "InPlaceOnly",
    "RequestsOnly",
    "RequestsAndLimits",
    "Factor",
    "Quantity",
    "Container",
    "Pod",
    "a/b",
    "a~b",
    "~1",
    "<&>",
    "\u{2028}",
    "\u{0}",
    "é\u{1F600}",
    "; , ",
    "\"\\",
];

/// Numbers at an edge of something, as parts of quantities.
const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "2",
    "7",
    "17",
    "100",
    "333",
    "1000",
    "1023",
    "1024",
    "1.5",
    "0.1",
    "0.0001",
    "100.5",
    "001",
    "1.500",
    "2147483647",
    "2147483648",
    "9007199254740993",
    "9223372036854775",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999999",
];

const SUFFIXES: [&str; 21] = [
    "", "", "", "m", "m", "u", "n", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ei", "e3", "e-9",
    "e999", "E-12",
];

/// Changes an input of JSON, to at most `bytes_max`; none where it is no JSON or the result is too long.
pub fn mutate(input: &[u8], bytes_max: usize, seed: u32) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(input).ok()?;
    let mut chance = Chance(u64::from(seed));
    for _ in 0..=chance.below(CHANGES_MAX) {
        let elsewhere = nth(&value, chance.below(size(&value))).cloned().unwrap_or_default();
        change_somewhere(&mut value, elsewhere, &mut chance);
    }
    written(&value, bytes_max)
}

/// Puts a part of one input into another, in a place of the same name where there is one.
pub fn cross(into: &[u8], from: &[u8], bytes_max: usize, seed: u32) -> Option<Vec<u8>> {
    let mut into: Value = serde_json::from_slice(into).ok()?;
    let from: Value = serde_json::from_slice(from).ok()?;
    let mut chance = Chance(u64::from(seed));
    let mut named = Vec::new();
    members(&from, &mut named);
    let (name, part) = *named.get(chance.below(named.len().max(1)))?;
    let mut path = Vec::new();
    if find(&into, name, &mut path, &mut chance)
        && let Some(place) = into.pointer_mut(&path.concat())
    {
        *place = part.clone();
    } else {
        change_somewhere(&mut into, part.clone(), &mut chance);
    }
    written(&into, bytes_max)
}

fn written(value: &Value, bytes_max: usize) -> Option<Vec<u8>> {
    serde_json::to_vec(value).ok().filter(|text| text.len() <= bytes_max)
}

/// Random numbers from a seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len())]
    }
}

/// Number of values in a value, itself included.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// The value number `at` in a value, which itself is number 0; how many are left to count where there are fewer.
fn nth(value: &Value, at: usize) -> Result<&Value, usize> {
    let Some(mut left) = at.checked_sub(1) else { return Ok(value) };
    let parts: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => return Err(left),
    };
    for part in parts {
        match nth(part, left) {
            Ok(found) => return Ok(found),
            Err(rest) => left = rest,
        }
    }
    Err(left)
}

/// As [`nth`].
fn nth_mut(value: &mut Value, at: usize) -> Result<&mut Value, usize> {
    let Some(mut left) = at.checked_sub(1) else { return Ok(value) };
    let parts: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        _ => return Err(left),
    };
    for part in parts {
        match nth_mut(part, left) {
            Ok(found) => return Ok(found),
            Err(rest) => left = rest,
        }
    }
    Err(left)
}

/// All members with their names, at any depth.
fn members<'a>(value: &'a Value, found: &mut Vec<(&'a str, &'a Value)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| members(item, found)),
        Value::Object(object) => {
            for (name, member) in object {
                found.push((name, member));
                members(member, found);
            }
        }
        _ => {}
    }
}

/// The path to a member of this name, the first or, by chance, a later one.
fn find(value: &Value, name: &str, path: &mut Vec<String>, chance: &mut Chance) -> bool {
    let parts: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(i, item)| (i.to_string(), item)).collect(),
        Value::Object(members) => members.iter().map(|(key, member)| (key.clone(), member)).collect(),
        _ => return false,
    };
    for (key, part) in parts {
        path.push(format!("/{}", key.replace('~', "~0").replace('/', "~1")));
        if (key == name && chance.below(3) > 0) || find(part, name, path, chance) {
            return true;
        }
        path.pop();
    }
    false
}

/// One change, each place as likely as the other.
fn change_somewhere(value: &mut Value, elsewhere: Value, chance: &mut Chance) {
    let at = chance.below(size(value));
    if let Ok(place) = nth_mut(value, at) {
        change(place, elsewhere, chance);
    }
}

/// One change in one place. `elsewhere` is another part of the input.
fn change(place: &mut Value, elsewhere: Value, chance: &mut Chance) {
    match (place, chance.below(8)) {
        (Value::Object(members), 0..=5) => change_members(members, elsewhere, chance),
        (Value::Array(items), 0..=5) => change_items(items, elsewhere, chance),
        (Value::String(text), 0..=3) => *text = changed_text(text, chance),
        (place, 4..=5) => *place = elsewhere,
        (place, _) => *place = leaf(chance),
    }
}

fn change_members(members: &mut Map<String, Value>, elsewhere: Value, chance: &mut Chance) {
    let some = members.keys().nth(chance.below(members.len().max(1))).cloned();
    match (some, chance.below(6)) {
        (Some(name), 0) => drop(members.remove(&name)),
        (Some(name), 1) => {
            if let Some(member) = members.remove(&name) {
                let renamed = match chance.below(3) {
                    0 => name.to_uppercase(),
                    1 => chance.of(&TEXTS).to_owned(),
                    _ => chance.of(&NAMES).to_owned(),
                };
                members.insert(renamed, member);
            }
        }
        (_, 2) => drop(members.insert(chance.of(&NAMES).to_owned(), elsewhere)),
        (_, 3) => {
            let amounts = ["cpu", "memory"].map(|resource| (resource.to_owned(), quantity(chance).into()));
            members.insert(chance.of(&NAMES).to_owned(), Value::Object(amounts.into_iter().collect()));
        }
        _ => drop(members.insert(chance.of(&NAMES).to_owned(), leaf(chance))),
    }
}

fn change_items(items: &mut Vec<Value>, elsewhere: Value, chance: &mut Chance) {
    let at = chance.below(items.len().max(1));
    match chance.below(4) {
        0 if !items.is_empty() => drop(items.remove(at)),
        1 if !items.is_empty() => items.push(items[at].clone()),
        2 if !items.is_empty() => items.swap(0, at),
        3 => items.push(leaf(chance)),
        _ => items.push(elsewhere),
    }
}

fn leaf(chance: &mut Chance) -> Value {
    match chance.below(12) {
        0 => Value::Null,
        1 => Value::Bool(chance.below(2) == 0),
        2 => Value::from(chance.next() as i64 >> chance.below(64)),
        3 => Number::from_f64(f64::from_bits(chance.next())).map_or(Value::Null, Value::Number),
        4 => Value::Object(Map::new()),
        5 => Value::Array(Vec::new()),
        6 | 7 => Value::from(chance.of(&TEXTS)),
        _ => Value::from(quantity(chance)),
    }
}

fn quantity(chance: &mut Chance) -> String {
    let sign = chance.of(&["", "", "", "", "", "", "-", "+"]);
    let number = match chance.below(3) {
        0 => (chance.next() >> chance.below(64)).to_string(),
        1 => (chance.next() % 5000).to_string(),
        _ => chance.of(&NUMBERS).to_owned(),
    };
    format!("{sign}{number}{}", chance.of(&SUFFIXES))
}

fn changed_text(text: &str, chance: &mut Chance) -> String {
    let cut = text.char_indices().nth(chance.below(text.chars().count().max(1))).map_or(0, |(at, _)| at);
    match chance.below(5) {
        0 => text[..cut].to_owned(),
        1 => format!("{}{}{}", &text[..cut], chance.of(&NUMBERS), &text[cut..]),
        2 => format!("{text}{}", chance.of(&TEXTS)),
        3 => chance.of(&TEXTS).to_owned(),
        _ => quantity(chance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &[u8] =
        br#"{"pod":{"spec":{"containers":[{"name":"main"},{"name":"b"}]}},"x":[1,null,"250m"]}"#;

    #[test]
    fn changes_are_json_and_differ() {
        let mut different = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let changed = mutate(SOME, 4096, seed).unwrap();
            serde_json::from_slice::<Value>(&changed).unwrap();
            different.insert(changed);
        }
        assert!(different.len() > 300, "{}", different.len());
        assert_eq!(mutate(b"no JSON", 4096, 1), None);
        assert_eq!(mutate(SOME, 2, 1), None);
    }

    #[test]
    fn every_place_has_a_number() {
        let mut value: Value = serde_json::from_slice(SOME).unwrap();
        let count = size(&value);
        let all: std::collections::BTreeSet<String> =
            (0..count).map(|at| nth(&value, at).unwrap().to_string()).collect();
        assert_eq!(all.len(), count, "{all:?}");
        for at in 0..count {
            let text = nth(&value, at).unwrap().to_string();
            assert_eq!(nth_mut(&mut value, at).unwrap().to_string(), text);
        }
        assert_eq!(nth(&value, count), Err(0));
    }

    #[test]
    fn a_part_goes_where_its_name_is() {
        let from = br#"{"containers":["new"]}"#;
        let crossed = (0..20).filter_map(|seed| cross(SOME, from, 4096, seed));
        let texts: Vec<String> = crossed.map(|text| String::from_utf8(text).unwrap()).collect();
        assert!(texts.iter().any(|text| text.contains(r#""spec":{"containers":["new"]}"#)), "{texts:#?}");
    }
}
