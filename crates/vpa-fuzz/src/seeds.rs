//! First inputs, made from the golden data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Texts of quantities that go into one input.
const TEXTS_PER_INPUT: usize = 12;

/// Inputs by target.
pub type Seeds = BTreeMap<&'static str, Vec<Vec<u8>>>;

/// The golden data of this tree.
pub fn golden_data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/data")
}

/// Inputs for each target from the golden data in a folder.
///
/// # Errors
/// A file that cannot be read, or is no JSON.
pub fn from_golden(data: &Path) -> std::io::Result<Seeds> {
    let mut seeds = Seeds::new();
    for file in ["pod_admission.json", "pod_admission_random.json", "matching.json", "vpa_validation.json"] {
        for case in cases(data, &format!("admission/{file}"), "cases")? {
            let review = &case["request"];
            add(&mut seeds, "review", review);
            if file == "vpa_validation.json" {
                add(&mut seeds, "vpa", &vpa(&case));
            } else if case["cluster"]["vpas"].is_array() {
                add(&mut seeds, "pod", &pod(&case));
            }
        }
    }
    for case in cases(data, "admission/malformed.json", "cases")? {
        if let Some(body) = case["input"]["body"].as_str() {
            seeds.entry("review").or_default().push(body.as_bytes().to_vec());
        }
    }
    for case in cases(data, "admission/capping.json", "cases")? {
        let mut input = case["input"].clone();
        add(&mut seeds, "pod", &input);
        input["fn"] = "capping".into();
        add(&mut seeds, "patch_maths", &input);
    }
    for case in cases(data, "admission/scaling.json", "cases")? {
        add(&mut seeds, "patch_maths", &case["input"]);
    }
    let parsed = cases(data, "quantity/parse.json", "parse")?;
    let texts: Vec<&str> = parsed.iter().filter_map(|case| case["input"].as_str()).collect();
    for texts in texts.chunks(TEXTS_PER_INPUT) {
        add(&mut seeds, "patch_maths", &json!({ "fn": "quantity", "texts": texts }));
    }
    Ok(seeds)
}

fn add(seeds: &mut Seeds, target: &'static str, input: &Value) {
    seeds.entry(target).or_default().push(input.to_string().into_bytes());
}

fn cases(data: &Path, file: &str, section: &str) -> std::io::Result<Vec<Value>> {
    let text = std::fs::read(data.join(file))?;
    let mut read: Value = serde_json::from_slice(&text)?;
    match read[section].take() {
        Value::Array(cases) => Ok(cases),
        _ => Ok(Vec::new()),
    }
}

fn vpa(case: &Value) -> Value {
    let request = &case["request"]["request"];
    let gates = case["config"]["feature_gates"].as_array().cloned().unwrap_or_default();
    let on = |gate: &str| gates.iter().any(|on| on == gate);
    json!({
        "object": request["object"], "old_object": request["oldObject"], "operation": request["operation"],
        "gates": [on("InPlace"), on("PerVPAConfig"), on("CPUStartupBoost")],
    })
}

fn pod(case: &Value) -> Value {
    let cluster = &case["cluster"];
    let limit_ranges =
        if cluster["limit_ranges"].is_array() { cluster["limit_ranges"].clone() } else { json!([]) };
    json!({
        "pod": case["request"]["request"]["object"], "vpa": cluster["vpas"][0], "limit_ranges": limit_ranges,
        "max_allowed_cpu_boost": case["config"]["max_allowed_cpu_boost"],
    })
}
