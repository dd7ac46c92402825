//! Where cases come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Variable that names another folder of cases.
const DIR_VARIABLE: &str = "VPA_GOLDEN_DIR";

/// The project's own copy of the data.
pub(crate) fn default_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// The folder that holds the cases: the value of `VPA_GOLDEN_DIR`, or the project's own copy.
pub fn data_dir() -> PathBuf {
    std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()).map_or_else(default_dir, PathBuf::from)
}

/// A single file of the data, such as `names.json`; the project's own where the folder of cases holds cases alone.
pub fn data_file(name: &str) -> PathBuf {
    let path = data_dir().join(name);
    if path.exists() { path } else { default_dir().join(name) }
}

/// One row of a section.
pub(crate) struct Case {
    /// `folder/file.json#section/name`, the name being the case's own or else its index.
    pub(crate) name: String,
    pub(crate) value: Value,
}

/// Sections of a file by name, each with its cases in order.
pub(crate) type Sections = BTreeMap<String, Vec<Case>>;

/// Reads one file. Every top-level key that holds a list is a section; the others describe the file.
pub(crate) fn read(dir: &Path, folder: &str, file: &str) -> Result<Sections, String> {
    let path = dir.join(folder).join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot be read: {error}"))?;
    let Value::Object(top) = crate::json::parse(&text).map_err(|error| format!("is not JSON: {error}"))?
    else {
        return Err("is not a JSON object".to_owned());
    };
    let sections = top.into_iter().filter_map(|(section, rows)| match rows {
        Value::Array(rows) => {
            let cases = name_rows(&format!("{folder}/{file}#{section}"), rows);
            Some((section, cases))
        }
        _ => None,
    });
    Ok(sections.collect())
}

/// The JSON files of a folder, ordered by name.
pub(crate) fn files(dir: &Path, folder: &str) -> Result<Vec<String>, String> {
    let entries =
        std::fs::read_dir(dir.join(folder)).map_err(|error| format!("cannot be listed: {error}"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    Ok(names)
}

fn name_rows(prefix: &str, rows: Vec<Value>) -> Vec<Case> {
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    let rows = rows.into_iter().enumerate().map(|(index, value)| {
        let own = ["name", "id"].iter().find_map(|key| value.get(key)?.as_str());
        let mut name = own.map_or_else(|| format!("{prefix}/{index}"), |own| format!("{prefix}/{own}"));
        let count = used.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            name = format!("{name}~{count}");
        }
        Case { name, value }
    });
    rows.collect()
}
