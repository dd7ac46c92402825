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
    /// Of each `of` requests that the rule fits, the one with `at` before it meets with `action`; the others go on to the
    /// rules after it. A rule counts the requests that another one takes too, so rules for the same requests and with the
    /// same `of` share them out by their `at`.
    #[serde(rename_all = "camelCase")]
    Nth {
        /// Requests in a round; 0 counts as 1.
        of: u32,
        /// Place in the round, from 0; one past its end is counted on into the next.
        at: u32,
        /// What happens to that request.
        action: Box<FaultAction>,
    },
}

impl FaultAction {
    /// What happens to a request when the rule fitted `seen` before it; `None` where it is not its turn.
    fn due(&self, seen: u64) -> Option<&Self> {
        match self {
            Self::DelayMs(_) | Self::Refuse { .. } => Some(self),
            Self::Nth { of, at, action } => {
                let of = u64::from(*of).max(1);
                if seen % of == u64::from(*at) % of { action.due(seen) } else { None }
            }
        }
    }
}

/// A rule: which requests, how often, and what happens to them. Empty texts fit everything, also what is no resource:
/// discovery, `/version`, health.
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
    /// How many requests it takes before it is gone; without a number it stays.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens.
    pub action: FaultAction,
}

impl Fault {
    fn fits(&self, path: &ResourcePath, verb: Verb, user_agent: &str) -> bool {
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        fits(&self.verb, verb.name())
            && fits(&self.resource, &path.resource)
            && fits(&self.subresource, &path.subresource)
            && fits(&self.namespace, &path.namespace)
            && fits(&self.name, &path.name)
            && user_agent.contains(&self.user_agent)
    }
}

/// A rule, and how many requests it fitted.
#[derive(Debug)]
struct Rule {
    fault: Fault,
    seen: u64,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    /// Adds a rule; `false` if there are too many.
    pub(crate) fn add(&self, fault: Fault) -> bool {
        let mut rules = self.0.lock();
        let room = rules.len() < RULES_MAX;
        if room {
            rules.push(Rule { fault, seen: 0 });
        }
        room
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// The action of the first rule that fits and whose turn it is; counts it.
    fn take(&self, path: &ResourcePath, verb: Verb, user_agent: &str) -> Option<FaultAction> {
        let mut rules = self.0.lock();
        let mut taken = None;
        for (index, rule) in rules.iter_mut().enumerate() {
            if !rule.fault.fits(path, verb, user_agent) {
                continue;
            }
            if taken.is_none() {
                taken = rule.fault.action.due(rule.seen).map(|action| (index, action.clone()));
            }
            rule.seen += 1;
        }
        let (index, action) = taken?;
        if let Some(times) = &mut rules[index].fault.times {
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
            // A turn is resolved before it comes here.
            None | Some(FaultAction::Nth { .. }) => Ok(()),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(value: serde_json::Value) -> Fault {
        serde_json::from_value(value).unwrap()
    }

    fn pods() -> ResourcePath {
        ResourcePath { version: "v1".into(), resource: "pods".into(), ..ResourcePath::default() }
    }

    /// What happens to so many gets of pods, one after the other: a letter of the delay, or `.` for nothing.
    fn take(faults: &Faults, count: usize) -> String {
        let one = |_| match faults.take(&pods(), Verb::Get, "robot/1") {
            Some(FaultAction::DelayMs(ms)) => char::from_digit(ms as u32, 10).unwrap(),
            Some(_) => '?',
            None => '.',
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn every_nth_request_is_taken_and_rules_share_them_out() {
        let nth = |of: u32, at: u32, ms: u64| json!({"nth": {"of": of, "at": at, "action": {"delayMs": ms}}});
        let cases = [
            (json!([{ "action": nth(3, 0, 1) }]), "1..1..1"),
            (json!([{ "action": nth(3, 2, 1) }]), "..1..1."),
            (json!([{ "action": nth(3, 5, 1) }]), "..1..1."),
            (json!([{ "action": nth(1, 0, 1) }]), "1111111"),
            (json!([{ "action": nth(0, 0, 1) }]), "1111111"),
            (json!([{ "action": nth(4, 1, 1), "times": 1 }]), ".1....."),
            (json!([{ "action": nth(4, 1, 1) }, { "action": nth(4, 3, 2) }]), ".1.2.1."),
            // The first that is due takes it, and the second counts it all the same.
            (json!([{ "action": nth(2, 1, 1) }, { "action": nth(3, 1, 2) }]), ".1.121."),
            (json!([{ "resource": "nodes", "action": nth(1, 0, 1) }, { "action": nth(2, 0, 2) }]), "2.2.2.2"),
            (
                json!([{ "userAgent": "robot", "action": nth(2, 0, 1) }, { "action": {"delayMs": 9} }]),
                "1919191",
            ),
        ];
        for (rules, expected) in cases {
            let faults = Faults::default();
            for rule in rules.as_array().unwrap() {
                assert!(faults.add(fault(rule.clone())));
            }
            assert_eq!(take(&faults, 7), expected, "{rules}");
        }
    }

    #[test]
    fn the_form_is_kept() {
        let refuse = json!({"refuse": {"code": 503, "reason": "ServiceUnavailable", "message": "scripted"}});
        let text = json!({
            "verb": "", "resource": "pods", "subresource": "", "namespace": "", "name": "", "userAgent": "robot",
            "times": null, "action": {"nth": {"of": 20, "at": 4, "action": refuse}},
        });
        let read = fault(text.clone());
        assert_eq!(serde_json::to_value(&read).unwrap(), text);
    }

    #[tokio::test]
    async fn a_refusal_in_its_turn_has_its_code() {
        let faults = Faults::default();
        let refuse = json!({"refuse": {"code": 504, "reason": "Timeout", "message": "scripted"}});
        assert!(faults.add(fault(json!({"action": {"nth": {"of": 2, "at": 1, "action": refuse}}}))));
        for refused in [false, true, false, true] {
            assert_eq!(faults.pass(&pods(), Verb::Get, "robot/1").await.is_err(), refused);
        }
    }
}
