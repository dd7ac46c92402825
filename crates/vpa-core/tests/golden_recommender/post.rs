//! Formatting and post-processing.

use std::collections::BTreeMap;

use golden::{expect, expect_json};
use serde::Deserialize;
use serde_json::Value;
use vpa_api::Quantity;
use vpa_api::vpa::{ContainerResourcePolicy, PodResourcePolicy};
use vpa_core::model::amount;
use vpa_core::recommend::{Amounts, Config, Estimate, estimate, post};

use crate::flags::{self, Flags};

pub(crate) fn humanize((bytes, text, reparsed): &(i64, String, String)) -> Result<(), String> {
    let got = amount::humanize(*bytes);
    expect("text", text, &got)?;
    let quantity = Quantity::parse(&got).map_err(|error| error.to_string())?;
    expect("parsed and printed", reparsed, &quantity.to_string())
}

pub(crate) fn round_up((value, step, result, ok): &(i64, i64, i64, bool)) -> Result<(), String> {
    expect("has a step", ok, &(*step > 0))?;
    expect("rounded", result, &amount::round_up(*value, *step))
}

pub(crate) fn scale((value, factor, result): &(i64, f64, i64)) -> Result<(), String> {
    expect("scaled", result, &amount::scale(*value, *factor))
}

pub(crate) fn pod_minimum(
    (cpu, memory, containers, want_cpu, want_memory): &(f64, f64, usize, i64, i64),
) -> Result<(), String> {
    let config = Config { pod_min_cpu_millicores: *cpu, pod_min_memory_mib: *memory, ..Config::default() };
    let share = estimate::pod_share(&config, *containers);
    expect("cpu", &Some(*want_cpu), &share.cpu_millicores)?;
    expect("memory", &Some(*want_memory), &share.memory_bytes)
}

#[derive(Clone, Copy, Deserialize)]
struct Raw {
    cpu: Option<i64>,
    memory: Option<i64>,
}

impl From<Raw> for Amounts {
    fn from(raw: Raw) -> Self {
        Self { cpu_millicores: raw.cpu, memory_bytes: raw.memory }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListCase {
    humanize: bool,
    round_cpu: i64,
    round_memory: i64,
    #[serde(rename = "in")]
    input: Raw,
    out: Value,
}

pub(crate) fn resource_list(case: &ListCase) -> Result<(), String> {
    let config = Config {
        humanize_memory: case.humanize,
        round_cpu_millicores: case.round_cpu,
        round_memory_bytes: case.round_memory,
        ..Config::default()
    };
    expect_json("list", &case.out, &post::resource_list(&case.input.into(), &config))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    target: Raw,
    lower_bound: Raw,
    upper_bound: Raw,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Case {
    flags: Flags,
    annotations: Option<BTreeMap<String, String>>,
    container_policies: Option<Vec<ContainerResourcePolicy>>,
    raw: BTreeMap<String, RawContainer>,
    recommendation: Value,
}

pub(crate) fn process(case: &Case) -> Result<(), String> {
    let config = flags::parse(&case.flags)?.config;
    let estimates = case
        .raw
        .iter()
        .map(|(name, raw)| {
            let estimate = Estimate {
                target: raw.target.into(),
                lower_bound: raw.lower_bound.into(),
                upper_bound: raw.upper_bound.into(),
            };
            (name.as_str().into(), estimate)
        })
        .collect();
    let policy = PodResourcePolicy { container_policies: case.container_policies.clone() };
    let got = post::publish(&estimates, Some(&policy), case.annotations.as_ref(), &config);
    expect_json("recommendation", &case.recommendation, &got)
}
