//! How much a program wrote, as the API server counted it: the programs' own metrics are not asked.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// The API server's counter of requests.
const COUNTER: &str = "apiserver_request_total{";

/// Groups in which a recommender writes: VPAs and checkpoints, and events.
const GROUPS: [&str; 2] = ["autoscaling.k8s.io", "events.k8s.io"];

/// Verbs that change something.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// Writes since the API server's start, by what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Writes that changed something, by resource, subresource after a slash.
    pub done: BTreeMap<String, u64>,
    /// Writes that were refused: not found, in conflict, invalid.
    pub refused: u64,
}

impl Writes {
    /// Reads the counters. Only the owner of the cluster may write meanwhile what is to be told apart from the
    /// program's writes.
    ///
    /// # Errors
    /// If the API server does not tell them.
    pub async fn count(client: &kube::Client) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new());
        let request = request.map_err(|error| Error::Client(error.to_string()))?;
        let text = client.request_text(request).await;
        let text = text.map_err(|error| Error::expectation(format!("the API server's metrics: {error}")))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut writes = Self::default();
        for line in text.lines().filter_map(|line| line.strip_prefix(COUNTER)) {
            let Some((labels, value)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| label(labels, name);
            let Ok(value) = value.trim().parse::<f64>() else { continue };
            if !GROUPS.contains(&label("group")) || !WRITES.contains(&label("verb")) {
                continue;
            }
            if label("code").starts_with('2') {
                let what = match label("subresource") {
                    "" => label("resource").to_owned(),
                    subresource => format!("{}/{subresource}", label("resource")),
                };
                *writes.done.entry(what).or_default() += value as u64;
            } else {
                writes.refused += value as u64;
            }
        }
        writes
    }

    /// What was written since an earlier count.
    pub fn since(&self, earlier: &Self) -> Self {
        let done = self.done.iter().map(|(what, count)| {
            (what.clone(), count.saturating_sub(earlier.done.get(what).copied().unwrap_or(0)))
        });
        Self {
            done: done.filter(|(_, count)| *count > 0).collect(),
            refused: self.refused.saturating_sub(earlier.refused),
        }
    }

    /// All that changed something.
    pub fn total(&self) -> u64 {
        self.done.values().sum()
    }
}

/// Value of a label among `name="value",name="value"`. Values of this counter hold no quotes.
fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    labels
        .split("\",")
        .find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""))
        .map_or("", |value| value.trim_end_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_of_recommenders_count() {
        let line = |code: u16, group: &str, resource: &str, subresource: &str, verb: &str, count: u64| {
            format!(
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",group=\"{group}\",\
                 resource=\"{resource}\",scope=\"resource\",subresource=\"{subresource}\",verb=\"{verb}\",\
                 version=\"v1\"}} {count}\n"
            )
        };
        let (vpas, checkpoints) = ("verticalpodautoscalers", "verticalpodautoscalercheckpoints");
        let group = "autoscaling.k8s.io";
        let text = "# TYPE apiserver_request_total counter\n".to_owned()
            + &line(200, group, vpas, "status", "PATCH", 7)
            + &line(200, group, vpas, "", "GET", 100)
            + &line(201, group, checkpoints, "", "POST", 3)
            + &line(200, group, checkpoints, "", "PATCH", 2)
            + &line(404, group, checkpoints, "", "PATCH", 5)
            + &line(200, "coordination.k8s.io", "leases", "", "PUT", 50);
        let writes = Writes::parse(&text);
        let done = [(checkpoints.to_owned(), 5), (format!("{vpas}/status"), 7)];
        assert_eq!(writes, Writes { done: done.into(), refused: 5 });
        assert_eq!(writes.total(), 12);
        let later = Writes::parse(&text.replace("} 7\n", "} 10\n"));
        let news = later.since(&writes);
        assert_eq!(news, Writes { done: [(format!("{vpas}/status"), 3)].into(), refused: 0 });
    }
}
