//! Where this suite answers differently on purpose.
//!
//! A deviation is a rule on a case's input: it says to which inputs it applies, why, and what the right answer is
//! instead. The runner rewrites the expected answer by the rule and then runs the case like any other, so the
//! deviating answer is asserted as exactly as the others. A rule sees neither the name of a case nor what the
//! reference answered when it decides whether it applies. Where the reference's answer to such an input is right already,
//! the rule leaves it, and the case counts as passed. A rule that changes no case of the project's own data fails the run.
//! The reasons refer to the list of faults and the list of improvements in the behaviour document.

use serde_json::Value;

mod admission;
mod quantity;
mod recommender;
mod updater;

/// A rule by which the expected answer of some cases is another one here.
#[derive(Clone, Copy)]
pub struct Deviation {
    /// Short name.
    pub id: &'static str,
    /// What the reference does, and why it is not done here.
    pub reason: &'static str,
    /// Whether the rule concerns a case of the given file (`eviction.json`) and section (`cases`). The case comes
    /// without its name, its note and the reference's answer.
    pub applies: fn(file: &str, section: &str, input: &Value) -> bool,
    /// Puts the right answer in place of the reference's in the whole case.
    pub rewrite: fn(file: &str, section: &str, case: &mut Value),
}

/// The rules of a folder of cases.
pub(crate) fn of(folder: &str) -> &'static [Deviation] {
    match folder {
        "quantity" => quantity::RULES,
        "recommender" => recommender::RULES,
        "updater" => updater::RULES,
        "admission" => admission::RULES,
        _ => &[],
    }
}

/// Rules that need not apply to any case of the project's own data.
pub(crate) fn unseen(folder: &str) -> &'static [Deviation] {
    if folder == "quantity" { quantity::UNSEEN } else { &[] }
}

/// Keys of a case that a rule must not look at: they name the case or hold what the reference answered.
const HIDDEN: [&str; 6] = ["name", "id", "note", "want", "expect", "expect_any_of"];

/// The case as a rule may see it.
pub(crate) fn input_of(case: &Value) -> Value {
    match case {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| !HIDDEN.contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        other => other.clone(),
    }
}
