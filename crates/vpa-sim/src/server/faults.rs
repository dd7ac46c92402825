//! Scripted faults: chosen requests are answered late, with an error, or not at all.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::request::{ResourcePath, Verb};

/// Most rules at a time; a script needs a handful.
const RULES_MAX: usize = 256;

/// What happens to a request that a [`Fault`] fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultAction {
    /// It is served after this many milliseconds.
    DelayMs(u64),
    /// It is refused with this HTTP status, and the reason of the `Status` that belongs to it.
    #[serde(rename_all = "camelCase")]
    Refuse {
        /// HTTP status, 400 to 599.
        code: u16,
        /// Reason for machines (`TooManyRequests`, `InternalError`, …).
        reason: String,
        /// Text for people.
        message: String,
    },
}

/// A rule: which requests, how often, and what happens to them. Empty texts fit everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    #[serde(default)]
    pub verb: String,
    /// Resource in the plural: `pods`, `verticalpodautoscalers`.
    #[serde(default)]
    pub resource: String,
    /// Subresource: `eviction`, `resize`, `status`.
    #[serde(default)]
    pub subresource: String,
    /// Namespace.
    #[serde(default)]
    pub namespace: String,
    /// Object name.
    #[serde(default)]
    pub name: String,
    /// Part of the `User-Agent` header.
    #[serde(default)]
    pub user_agent: String,
    /// How many requests it fits before it is gone; without a number it stays.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens.
    pub action: FaultAction,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    /// Adds a rule; `false` if there are too many.
    pub(crate) fn add(&self, fault: Fault) -> bool {
        let mut rules = self.0.lock();
        let room = rules.len() < RULES_MAX;
        if room {
            rules.push(fault);
        }
        room
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// The action of the first rule that fits; counts it.
    fn take(&self, path: &ResourcePath, verb: Verb, user_agent: &str) -> Option<FaultAction> {
        let mut rules = self.0.lock();
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let index = rules.iter().position(|rule| {
            fits(&rule.verb, verb.name())
                && fits(&rule.resource, &path.resource)
                && fits(&rule.subresource, &path.subresource)
                && fits(&rule.namespace, &path.namespace)
                && fits(&rule.name, &path.name)
                && user_agent.contains(&rule.user_agent)
        })?;
        let action = rules[index].action.clone();
        if let Some(times) = &mut rules[index].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                rules.remove(index);
            }
        }
        Some(action)
    }

    /// Lets a request through, late perhaps, or refuses it.
    pub(crate) async fn pass(
        &self,
        path: &ResourcePath,
        verb: Verb,
        user_agent: &str,
    ) -> Result<(), ApiError> {
        match self.take(path, verb, user_agent) {
            None => Ok(()),
            Some(FaultAction::DelayMs(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(())
            }
            Some(FaultAction::Refuse { code, reason, message }) => Err(if code == 429 {
                ApiError::too_many_requests(message, 1)
            } else {
                ApiError::new(code, reason, message)
            }),
        }
    }
}
