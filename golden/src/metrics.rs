//! Checks a `/metrics` page against the Go suite's metrics.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::source::data_file;

/// A metric as the Go suite exports it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Metric {
    /// Full name.
    pub name: String,
    /// `counter`, `gauge`, `histogram`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Label names.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Upper bounds of a histogram's buckets without the infinite one.
    #[serde(default)]
    pub buckets: Vec<f64>,
}

#[derive(Deserialize)]
struct File {
    components: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
struct Component {
    metrics: Vec<Metric>,
}

/// The metrics of a component: `recommender`, `updater` or `admission-controller`.
///
/// # Errors
/// The data cannot be read, or know no such component.
pub fn of(component: &str) -> Result<Vec<Metric>, String> {
    let path = data_file("metrics.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("metrics.json: {error}"))?;
    let file: File = serde_json::from_str(&text).map_err(|error| format!("metrics.json: {error}"))?;
    let known = file.components.into_iter().find(|(name, _)| name == component);
    known.map(|(_, found)| found.metrics).ok_or_else(|| format!("metrics.json: no component `{component}`"))
}

/// What a metrics page in the Prometheus text format lacks of the component's metrics: one line for each metric that
/// is absent or of another type, and for wrong labels and buckets. A labelled metric shows only once it has a series,
/// so the page must be taken after each was touched.
///
/// # Errors
/// The data cannot be read, or know no such component.
pub fn missing(component: &str, page: &str) -> Result<Vec<String>, String> {
    let families = parse(page);
    let mut problems = Vec::new();
    for metric in of(component)? {
        match families.get(metric.name.as_str()) {
            Some(family) => problems.extend(family.compare(&metric)),
            None => problems.push(format!("{} ({}) is absent", metric.name, metric.kind)),
        }
    }
    Ok(problems)
}

#[derive(Default)]
struct Family<'a> {
    kind: &'a str,
    /// Label names of each series, without `le` and `quantile`.
    labels: BTreeSet<Vec<&'a str>>,
    bounds: Vec<f64>,
}

impl Family<'_> {
    fn compare(&self, metric: &Metric) -> Vec<String> {
        let name = &metric.name;
        let mut problems = Vec::new();
        if self.kind != metric.kind {
            problems.push(format!("{name} is a {}, not a {}", self.kind, metric.kind));
        }
        let mut want: Vec<&str> = metric.labels.iter().map(String::as_str).collect();
        want.sort_unstable();
        if self.labels.is_empty() {
            problems.push(format!("{name} has no series"));
        }
        for got in self.labels.iter().filter(|got| **got != want) {
            problems.push(format!("{name} has the labels {got:?}, not {want:?}"));
        }
        let mut bounds = self.bounds.clone();
        bounds.retain(|bound| bound.is_finite());
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        if metric.kind == "histogram" && !metric.buckets.is_empty() && bounds != metric.buckets {
            problems.push(format!("{name} has the buckets {bounds:?}, not {:?}", metric.buckets));
        }
        problems
    }
}

fn parse(page: &str) -> BTreeMap<&str, Family<'_>> {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            if let Some((name, kind)) = rest.split_once(' ') {
                families.entry(name).or_default().kind = kind.trim();
            }
        } else if !line.starts_with('#') && !line.is_empty() {
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            let (series, rest) = line.split_at(end);
            let ends = ["_bucket", "_sum", "_count"];
            let base = ends
                .iter()
                .find_map(|end| series.strip_suffix(end))
                .filter(|base| families.contains_key(base));
            let family = families.entry(base.unwrap_or(series)).or_default();
            let mut labels = label_pairs(rest);
            family.bounds.extend(
                labels.iter().filter(|(name, _)| *name == "le").filter_map(|(_, le)| le.parse::<f64>().ok()),
            );
            labels.retain(|(name, _)| !matches!(*name, "le" | "quantile"));
            let mut names: Vec<&str> = labels.into_iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            family.labels.insert(names);
        }
    }
    families
}

/// The pairs of `{a="x",b="y"}`; quotes in values are escaped by a backslash.
fn label_pairs(text: &str) -> Vec<(&str, &str)> {
    let mut pairs = Vec::new();
    let Some(mut rest) = text.strip_prefix('{') else { return pairs };
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = after.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let Some(end) = end else { break };
        pairs.push((name.trim_start_matches([',', ' ']), &after[..end]));
        rest = &after[end + 1..];
        if rest.starts_with('}') {
            break;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP a Help.
# TYPE a counter
a{x="1",y="with \"}\" inside"} 3
# TYPE h histogram
h_bucket{step="s",le="0.5"} 1
h_bucket{step="s",le="+Inf"} 2
h_sum{step="s"} 1.5
h_count{step="s"} 2
"#;

    fn metric(name: &str, kind: &str, labels: &[&str], buckets: &[f64]) -> Metric {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Metric { name: name.to_owned(), kind: kind.to_owned(), labels, buckets: buckets.to_vec() }
    }

    #[test]
    fn accepts_what_fits() {
        let families = parse(PAGE);
        assert!(families["a"].compare(&metric("a", "counter", &["y", "x"], &[])).is_empty());
        assert!(families["h"].compare(&metric("h", "histogram", &["step"], &[0.5])).is_empty());
    }

    #[test]
    fn names_what_does_not() {
        let families = parse(PAGE);
        assert_eq!(families["a"].compare(&metric("a", "gauge", &["x"], &[])).len(), 2);
        assert_eq!(families["h"].compare(&metric("h", "histogram", &["step"], &[0.5, 1.0])).len(), 1);
        assert!(!families.contains_key("h_sum"));
    }

    #[test]
    fn every_component_is_known() {
        for component in ["recommender", "updater", "admission-controller"] {
            assert!(!missing(component, "").unwrap().is_empty());
        }
        assert!(missing("nobody", "").is_err());
    }
}
