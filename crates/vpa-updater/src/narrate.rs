//! Tells in the log what becomes of each pod, once for each change.

use std::mem::Discriminant;

use hashbrown::HashMap;
use vpa_core::update::{PassReport, Reason, Verdict};

/// Remembers what was told of each pod.
#[derive(Debug, Default)]
pub struct Narrator {
    pods: HashMap<String, (&'static str, &'static str, Option<Discriminant<Reason>>)>,
    unresolved: HashMap<String, String>,
}

impl Narrator {
    /// Logs the pods whose verdict is another than in the pass before.
    pub fn tell(&mut self, report: &PassReport) {
        let mut now = HashMap::new();
        for (vpa, pod) in report.pods() {
            let told = words(&pod.verdict);
            let (verdict, reason, _) = told;
            // What was done is news each time; that a pod is left alone only when the reason is another one.
            let key = pod.pod();
            if verdict != "leave" || self.pods.get(&key) != Some(&told) {
                let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
                let detail = detail(&pod.verdict);
                tracing::info!(namespace, pod = name, vpa = vpa.name, verdict, reason, detail, "pod");
            }
            now.insert(key, told);
        }
        self.pods = now;
        for (owner, why) in &report.unresolved {
            if self.unresolved.get(owner) != Some(why) {
                tracing::info!(
                    owner,
                    why,
                    "pods are left alone, since their topmost controller is not known"
                );
            }
        }
        self.unresolved = report.unresolved.iter().map(|(owner, why)| (owner.clone(), why.clone())).collect();
    }
}

pub(crate) fn words(verdict: &Verdict) -> (&'static str, &'static str, Option<Discriminant<Reason>>) {
    match verdict {
        Verdict::Resized => ("resize", "Resized", None),
        Verdict::BoostEnded { .. } => ("resize", "BoostEnded", None),
        Verdict::Evicted(None) => ("evict", "Evicted", None),
        Verdict::Evicted(Some(_)) => ("evict", "FellBack", None),
        Verdict::Left(reason) => ("leave", reason.code(), Some(std::mem::discriminant(reason))),
    }
}

pub(crate) fn detail(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Resized => "its resize was accepted".to_owned(),
        Verdict::BoostEnded { limits_kept } if limits_kept.is_empty() => {
            "its startup boost is over".to_owned()
        }
        Verdict::BoostEnded { limits_kept } => {
            let kept: Vec<_> =
                limits_kept.iter().map(|(container, resource)| format!("{container}/{resource}")).collect();
            format!(
                "its startup boost is over; Kubernetes does not let a resize remove the limits that came with it: {}",
                kept.join(", ")
            )
        }
        Verdict::Evicted(None) => "evicted; its replacement gets the recommendation".to_owned(),
        Verdict::Evicted(Some(why)) => format!("evicted, since {}", why.as_str()),
        Verdict::Left(reason) => reason.to_string(),
    }
}
