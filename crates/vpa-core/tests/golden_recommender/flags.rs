//! Command-line flags as the cases give them.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use vpa_api::Quantity;
use vpa_core::model::Settings;
use vpa_core::recommend::{Config, Scope};

pub(crate) type Flags = BTreeMap<String, String>;

#[derive(Clone)]
pub(crate) struct Parsed {
    pub(crate) settings: Settings,
    pub(crate) config: Config,
    pub(crate) scope: Scope,
}

pub(crate) fn parse(flags: &Flags) -> Result<Parsed, String> {
    let mut settings = Settings { per_vpa_config: false, ..Settings::default() };
    let mut config = Config::default();
    let mut scope =
        Scope { recommender: "default".to_owned(), namespace: None, ignored_namespaces: Vec::new() };
    for (name, text) in flags {
        match name.as_str() {
            "feature-gates" => settings.per_vpa_config = text.contains("PerVPAConfig=true"),
            "memory-aggregation-interval" => settings.memory_interval = duration(text)?,
            "memory-aggregation-interval-count" => settings.memory_interval_count = number(text)?,
            "memory-histogram-decay-half-life" => settings.memory_half_life = duration(text)?,
            "cpu-histogram-decay-half-life" => settings.cpu_half_life = duration(text)?,
            "oom-bump-up-ratio" => settings.oom_bump_up_ratio = number(text)?,
            "oom-min-bump-up-bytes" => settings.oom_min_bump_up_bytes = number(text)?,
            "recommendation-margin-fraction" => config.margin_fraction = number(text)?,
            "pod-recommendation-min-cpu-millicores" => config.pod_min_cpu_millicores = number(text)?,
            "pod-recommendation-min-memory-mb" => config.pod_min_memory_mib = number(text)?,
            "target-cpu-percentile" => config.cpu.target = number(text)?,
            "recommendation-lower-bound-cpu-percentile" => config.cpu.lower_bound = number(text)?,
            "recommendation-upper-bound-cpu-percentile" => config.cpu.upper_bound = number(text)?,
            "confidence-interval-cpu" => config.cpu.confidence_interval = duration(text)?,
            "target-memory-percentile" => config.memory.target = number(text)?,
            "recommendation-lower-bound-memory-percentile" => config.memory.lower_bound = number(text)?,
            "recommendation-upper-bound-memory-percentile" => config.memory.upper_bound = number(text)?,
            "confidence-interval-memory" => config.memory.confidence_interval = duration(text)?,
            "humanize-memory" => config.humanize_memory = text == "true",
            "round-cpu-millicores" => config.round_cpu_millicores = number(text)?,
            "round-memory-bytes" => config.round_memory_bytes = number(text)?,
            "cpu-integer-post-processor-enabled" => config.integer_cpu = text == "true",
            "container-recommendation-max-allowed-cpu" => {
                config.max_allowed.insert("cpu".into(), quantity(text)?);
            }
            "container-recommendation-max-allowed-memory" => {
                config.max_allowed.insert("memory".into(), quantity(text)?);
            }
            "recommender-name" => scope.recommender.clone_from(text),
            "vpa-object-namespace" => scope.namespace = Some(text.clone()),
            "ignored-vpa-object-namespaces" => {
                scope.ignored_namespaces = text.split(',').map(str::to_owned).collect();
            }
            other => return Err(format!("unknown flag {other}")),
        }
    }
    Ok(Parsed { settings, config, scope })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

fn quantity(text: &str) -> Result<Quantity, String> {
    Quantity::parse(text).map_err(|error| format!("{text}: {error}"))
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let unit = text.len() - 1;
    let n: i64 = number(&text[..unit])?;
    match &text[unit..] {
        "h" => Ok(SignedDuration::from_hours(n)),
        "m" => Ok(SignedDuration::from_mins(n)),
        "s" => Ok(SignedDuration::from_secs(n)),
        other => Err(format!("unknown unit {other}")),
    }
}
