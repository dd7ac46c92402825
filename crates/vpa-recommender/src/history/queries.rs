//! What Prometheus is asked.

use super::take::Resource;
use crate::args::PrometheusOptions;

/// Texts of the queries.
#[derive(Clone, Debug)]
pub(super) struct Queries {
    cpu: String,
    memory: String,
    labels: String,
}

impl Queries {
    pub(super) fn new(options: &PrometheusOptions) -> Self {
        let PrometheusOptions { job, cpu_metric, memory_metric, labels_metric, length, resolution, .. } =
            options;
        let [_, pod, container] = &options.container;
        let mut matchers = Vec::new();
        if !job.is_empty() {
            matchers.push(format!("job={}", quoted(job)));
        }
        matchers.push(format!("{pod}=~\".+\", {container}!=\"POD\", {container}!=\"\""));
        if let Some(namespace) = &options.namespace {
            matchers.push(format!("{}={}", options.container[0], quoted(namespace)));
        }
        let matchers = matchers.join(", ");
        let labels = if labels_metric.trim_end().ends_with(']') {
            labels_metric.clone()
        } else {
            // When each was last seen, so that of a pod that was made anew under its name the present labels count.
            format!("max_over_time(timestamp({labels_metric})[{length}:{resolution}])")
        };
        Self {
            cpu: format!("rate({cpu_metric}{{{matchers}}}[{resolution}])"),
            memory: format!("{memory_metric}{{{matchers}}}"),
            labels,
        }
    }

    /// Usage of all containers.
    pub(super) fn usage(&self, resource: Resource) -> String {
        match resource {
            Resource::Cpu => self.cpu.clone(),
            Resource::Memory => self.memory.clone(),
        }
    }

    /// Labels of all pods.
    pub(super) fn labels(&self) -> String {
        self.labels.clone()
    }
}

/// A text in quotes, as PromQL has it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n"))
}
