//! The conditions of a VPA.

use std::collections::BTreeMap;

use jiff::Timestamp;
use vpa_api::vpa::VerticalPodAutoscalerCondition;

/// Conditions by type. A type that stands there twice counts as its last one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions(BTreeMap<String, VerticalPodAutoscalerCondition>);

impl Conditions {
    /// The conditions of a status.
    pub fn new(conditions: Option<&[VerticalPodAutoscalerCondition]>) -> Self {
        Self(conditions.into_iter().flatten().map(|c| (c.type_.clone(), c.clone())).collect())
    }

    /// Whether a condition is true.
    pub fn is_true(&self, type_: &str) -> bool {
        self.0.get(type_).is_some_and(|condition| condition.status == "True")
    }

    /// Sets a condition. The time of its last transition changes with its status alone.
    pub fn set(&mut self, type_: &str, status: bool, reason: &str, message: &str, now: Timestamp) {
        let status = if status { "True" } else { "False" };
        let before = self.0.get(type_).filter(|before| before.status == status);
        let since = match before {
            Some(before) => before.last_transition_time.clone(),
            // Whole seconds, as objects hold them.
            None => Timestamp::from_second(now.as_second()).ok().map(Into::into),
        };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let condition = VerticalPodAutoscalerCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            last_transition_time: since,
            reason: text(reason),
            message: text(message),
            observed_generation: None,
        };
        self.0.insert(type_.to_owned(), condition);
    }

    /// Removes a condition.
    pub fn remove(&mut self, type_: &str) {
        self.0.remove(type_);
    }

    /// As a list ordered by type.
    pub fn into_list(self) -> Vec<VerticalPodAutoscalerCondition> {
        self.0.into_values().collect()
    }
}
