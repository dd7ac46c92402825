//! What was tried with the pods of each VPA: when, from what, to what, and how it ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use vpa_api::pod::ResourceRequirements;
use vpa_core::update::{Action, Outcome, Step};

/// Attempts that are kept of one VPA.
const ATTEMPTS_PER_VPA: usize = 16;
/// Attempts that are kept in all: some 4 MB with one container a pod.
const ATTEMPTS_MAX: usize = 4096;

/// One attempt to update a pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When its outcome was known.
    pub at: Timestamp,
    /// Name of the pod.
    pub pod: String,
    /// What was done: see [`action_label`].
    pub action: &'static str,
    /// The resize that did not get through before an eviction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<&'static str>,
    /// Requests and limits of each container before.
    #[serde(serialize_with = "by_container")]
    pub from: Box<[Amounts]>,
    /// Those that the container, or that of the replacement, gets.
    #[serde(serialize_with = "by_container")]
    pub to: Box<[Amounts]>,
    /// How it ended: see [`outcome_label`].
    pub outcome: &'static str,
    /// What the API server said, where it did not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Time until the answer, in milliseconds.
    pub took_ms: u64,
}

/// What one container has, by its name.
pub type Amounts = (Box<str>, ResourceRequirements);

fn by_container<S: Serializer>(list: &[Amounts], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(list.iter().map(|(name, resources)| (name, resources)))
}

/// The last attempts of each VPA.
#[derive(Debug, Default)]
pub struct Journal {
    /// By a number that counts up.
    attempts: BTreeMap<u64, (String, Attempt)>,
    /// Numbers of a VPA's attempts, oldest first, by `namespace/name`.
    by_vpa: HashMap<String, VecDeque<u64>>,
    last: u64,
}

impl Journal {
    /// Notes how a step of the VPA `namespace/name` ended.
    pub fn note(&mut self, vpa: String, step: &Step, outcome: &Outcome, at: Timestamp, took: Duration) {
        let attempt = Attempt {
            at,
            pod: step.pod.metadata.name.clone().unwrap_or_default(),
            action: action_label(&step.action),
            fallback: match &step.action {
                Action::Evict { fallback } => fallback.map(|why| why.as_str()),
                Action::Resize { .. } | Action::Unboost { .. } => None,
            },
            from: resources(step, |index| step.pod.spec.containers.get(index).map(|c| &c.resources)),
            to: resources(step, |index| step.after.get(index)),
            outcome: outcome_label(outcome),
            message: message(outcome).map(str::to_owned),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        self.last += 1;
        let own = self.by_vpa.entry(vpa.clone()).or_default();
        own.push_back(self.last);
        if own.len() > ATTEMPTS_PER_VPA
            && let Some(oldest) = own.pop_front()
        {
            self.attempts.remove(&oldest);
        }
        self.attempts.insert(self.last, (vpa, attempt));
        while self.attempts.len() > ATTEMPTS_MAX {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, (vpa, _))) = self.attempts.pop_first() else { return };
        // The oldest of all is the oldest of its VPA.
        if let Some(own) = self.by_vpa.get_mut(&vpa) {
            own.pop_front();
            if own.is_empty() {
                self.by_vpa.remove(&vpa);
            }
        }
    }

    /// The last attempts of a VPA, newest first.
    pub fn of<'a>(&'a self, vpa: &str) -> impl Iterator<Item = &'a Attempt> {
        let numbers = self.by_vpa.get(vpa).into_iter().flatten().rev();
        numbers.filter_map(|number| self.attempts.get(number).map(|(_, attempt)| attempt))
    }

    /// Forgets VPAs that are gone.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        let Self { attempts, by_vpa, .. } = self;
        by_vpa.retain(|vpa, numbers| {
            let stays = exists(vpa);
            if !stays {
                numbers.iter().for_each(|number| drop(attempts.remove(number)));
            }
            stays
        });
    }
}

/// What a step does, as metrics and the journal call it.
pub fn action_label(action: &Action) -> &'static str {
    match action {
        Action::Evict { .. } => "evict",
        Action::Resize { .. } => "resize",
        Action::Unboost { .. } => "end_boost",
    }
}

/// How a step ended, as metrics and the journal call it.
pub fn outcome_label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Refused(_) => "refused",
        Outcome::Blocked(_) => "blocked",
        Outcome::Transient(_) => "transient",
        Outcome::Unknown(_) => "unknown",
        Outcome::NotLeader | Outcome::ShuttingDown => "not_sent",
    }
}

fn message(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Refused(refusal) => Some(&refusal.message),
        Outcome::Blocked(message) | Outcome::Transient(message) | Outcome::Unknown(message) => Some(message),
        Outcome::Done | Outcome::NotLeader | Outcome::ShuttingDown => None,
    }
}

/// Requests and limits of the main containers by name.
fn resources<'a>(step: &'a Step, of: impl Fn(usize) -> Option<&'a ResourceRequirements>) -> Box<[Amounts]> {
    let containers = step.pod.spec.containers.iter().enumerate();
    containers
        .filter_map(|(index, container)| Some((container.name.as_str().into(), of(index)?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use vpa_core::update::StepId;

    use super::*;

    fn step(pod: &str) -> Step {
        let pod = json!({
            "metadata": { "name": pod, "namespace": "ns" },
            "spec": { "containers": [
                { "name": "c", "resources": { "requests": { "cpu": "100m" }, "limits": { "cpu": "200m" } } },
            ] },
        });
        let after = json!({ "requests": { "cpu": "150m" }, "limits": { "cpu": "300m" } });
        Step {
            id: StepId::default(),
            vpa: Arc::default(),
            pod: Arc::new(serde_json::from_value(pod).unwrap()),
            action: Action::Evict { fallback: None },
            after: vec![serde_json::from_value(after).unwrap()],
        }
    }

    fn note(journal: &mut Journal, vpa: &str, pod: &str) {
        let outcome = Outcome::Blocked("budget".to_owned());
        journal.note(vpa.to_owned(), &step(pod), &outcome, Timestamp::UNIX_EPOCH, Duration::from_millis(12));
    }

    #[test]
    fn an_attempt_tells_when_from_to_and_how_it_ended() {
        let mut journal = Journal::default();
        note(&mut journal, "ns/v", "p");
        let attempts: Vec<_> = journal.of("ns/v").collect();
        assert_eq!(
            json!(attempts),
            json!([{
                "at": "1970-01-01T00:00:00Z", "pod": "p", "action": "evict",
                "from": { "c": { "requests": { "cpu": "100m" }, "limits": { "cpu": "200m" } } },
                "to": { "c": { "requests": { "cpu": "150m" }, "limits": { "cpu": "300m" } } },
                "outcome": "blocked", "message": "budget", "tookMs": 12,
            }])
        );
    }

    #[test]
    fn the_newest_are_kept_of_each_vpa_and_in_all() {
        let mut journal = Journal::default();
        for number in 0..20 {
            note(&mut journal, "ns/v", &format!("p-{number}"));
        }
        let names: Vec<_> = journal.of("ns/v").map(|attempt| attempt.pod.as_str()).collect();
        assert_eq!((names.len(), names[0], names[15]), (ATTEMPTS_PER_VPA, "p-19", "p-4"));
        for number in 0..ATTEMPTS_MAX {
            note(&mut journal, &format!("ns/w-{number}"), "p");
        }
        assert_eq!((journal.attempts.len(), journal.by_vpa.len()), (ATTEMPTS_MAX, ATTEMPTS_MAX));
        assert_eq!(journal.of("ns/v").count(), 0);
        journal.retain(|vpa| vpa == "ns/w-7");
        assert_eq!((journal.attempts.len(), journal.by_vpa.len()), (1, 1));
    }
}
