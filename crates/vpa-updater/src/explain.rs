//! `/debug/pods`: what became of each pod in the last pass, what that was decided from, and what was tried before.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use vpa_core::policy::{current_resources, process};
use vpa_core::update::{PassReport, PodReport, ResizePhase, Verdict, VpaReport};
use vpa_runtime::server::Asked;

use crate::journal::Journal;
use crate::narrate::{detail, words};

/// Pods on a page where nothing else is asked for.
const PODS_DEFAULT: usize = 500;

/// What the last pass did, for whoever asks. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Explainer(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    pass: Option<(Timestamp, Arc<PassReport>)>,
    journal: Journal,
}

impl Explainer {
    /// Takes in what a pass did, in place of the one before.
    pub(crate) fn pass(&self, at: Timestamp, report: PassReport, exists: impl Fn(&str) -> bool) {
        let mut known = self.0.lock();
        known.pass = Some((at, Arc::new(report)));
        known.journal.retain(exists);
    }

    /// The journal of attempts.
    pub(crate) fn journal(&self, note: impl FnOnce(&mut Journal)) {
        note(&mut self.0.lock().journal);
    }

    /// The page.
    ///
    /// # Errors
    /// What was asked for makes no sense.
    pub(crate) fn page(&self, asked: &Asked) -> Result<String, String> {
        let filter = Filter::of(asked)?;
        let Some((at, report)) = self.0.lock().pass.clone() else {
            return Ok(json!({ "pass": null, "why": "this replica has made no pass yet" }).to_string());
        };
        let mut left = filter.limit;
        let mut matching = 0;
        let mut vpas = Vec::new();
        for vpa in report.vpas.iter().filter(|vpa| filter.vpa(vpa)) {
            let pods: Vec<&PodReport> = vpa.pods.iter().filter(|pod| filter.pod(pod)).collect();
            matching += pods.len();
            if pods.is_empty() || left == 0 {
                continue;
            }
            let shown = pods.iter().take(left).map(|pod| explain(vpa, pod)).collect::<Vec<_>>();
            left -= shown.len();
            let attempts = json!(self.0.lock().journal.of(&vpa.vpa()).collect::<Vec<_>>());
            vpas.push(json!({
                "namespace": vpa.namespace,
                "name": vpa.name,
                "updateMode": vpa.mode,
                "pods": shown,
                "attempts": attempts,
            }));
        }
        let left_out = report.left_out.iter().map(|(vpa, why)| (vpa.clone(), why.to_string().into()));
        let page = json!({
            "pass": at,
            "complete": report.complete,
            "pods": matching,
            "shown": filter.limit - left,
            "vpas": vpas,
            "vpasLeftOut": left_out.collect::<Map<String, Value>>(),
            "ownersNotKnown": report.unresolved,
            "podsWithoutVpa": report.uncontrolled_pods,
        });
        serde_json::to_string_pretty(&page).map(|text| text + "\n").map_err(|error| error.to_string())
    }
}

/// What a page is to show; empty texts fit everything.
struct Filter<'a> {
    namespace: &'a str,
    vpa: &'a str,
    pod: &'a str,
    reason: &'a str,
    limit: usize,
}

impl<'a> Filter<'a> {
    fn of(asked: &'a Asked) -> Result<Self, String> {
        let mut filter = Self { namespace: "", vpa: "", pod: "", reason: "", limit: PODS_DEFAULT };
        for (name, value) in asked {
            match name.as_str() {
                "namespace" => filter.namespace = value,
                "vpa" => filter.vpa = value,
                "pod" => filter.pod = value,
                "reason" => filter.reason = value,
                "limit" => {
                    let wrong = |_| format!("limit={value}: must be a number of pods");
                    filter.limit = value.parse().map_err(wrong)?;
                }
                other => {
                    return Err(format!("{other}: there are namespace, vpa, pod, reason and limit"));
                }
            }
        }
        Ok(filter)
    }

    fn vpa(&self, vpa: &VpaReport) -> bool {
        fits(self.namespace, &vpa.namespace) && fits(self.vpa, &vpa.name)
    }

    fn pod(&self, pod: &PodReport) -> bool {
        fits(self.pod, pod.object.metadata.name.as_deref().unwrap_or_default())
            && fits(self.reason, words(&pod.verdict).1)
    }
}

fn fits(wanted: &str, found: &str) -> bool {
    wanted.is_empty() || wanted == found
}

fn explain(vpa: &VpaReport, pod: &PodReport) -> Value {
    let object = &pod.object;
    let (verdict, reason, _) = words(&pod.verdict);
    let processed = process(&vpa.object, object, &vpa.limit_ranges);
    let recommended = processed.map(|processed| processed.containers).unwrap_or_default();
    let containers = object.spec.containers.iter().map(|container| {
        let (requests, limits) = current_resources(&container.name, object);
        let recommended = recommended.iter().find(|r| r.container_name.as_deref() == Some(&*container.name));
        json!({
            "name": container.name,
            "requests": requests,
            "limits": limits,
            "specRequests": container.resources.requests,
            "recommendation": recommended,
        })
    });
    json!({
        "name": object.metadata.name,
        "uid": object.metadata.uid,
        "node": object.spec.node_name,
        "verdict": verdict,
        "reason": reason,
        "detail": detail(&pod.verdict),
        "startTime": object.status.start_time,
        "resize": ResizePhase::of(object).to_string(),
        "budget": budget(vpa, pod),
        "containers": containers.collect::<Vec<_>>(),
    })
}

/// The budget of the pod's owner at the end of the pass.
fn budget(vpa: &VpaReport, pod: &PodReport) -> Value {
    if let Verdict::Left(vpa_core::update::Reason::Mode(_)) = &pod.verdict {
        return Value::Null;
    }
    match vpa.groups.of(&pod.object) {
        Ok(group) => json!({
            "replicas": group.configured,
            "running": group.running,
            "pending": group.pending,
            "mayBeMissing": group.eviction_tolerance,
            "evicted": group.evicted,
            "resized": group.resized,
            "resizing": group.resizing,
        }),
        Err(untracked) => json!({ "untracked": untracked.to_string() }),
    }
}
