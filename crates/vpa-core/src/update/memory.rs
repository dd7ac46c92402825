//! What the updater knows from earlier passes. It is bounded by the live pods and VPAs, and lost with the process: then
//! timers start anew and an infeasible resize may be tried once more.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use jiff::{SignedDuration, Timestamp};
use vpa_api::pod::{Pod, ResourceRequirements};
use vpa_api::vpa::RecommendedContainerResources;

use super::blocked::Blocked;
use super::config::{Config, ConfigError};
use super::group::{GroupKey, GroupRef};
use super::in_place::{InPlaceState, ResizePhase};
use super::quota::Quota;
use super::restarts::{Restarts, UnexpectedRestart};
use crate::limiter::Limiter;
use crate::policy::current_resources;

/// How long evictions of a VPA stay stopped after a pod came back unchanged, before one more is tried: long enough
/// that a webhook that stays broken costs a pod an hour at most.
pub const EVICTIONS_STOPPED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// How long the watch of pods may lag behind an eviction. Until then the pod counts as gone, or its group would seem to
/// have one more live pod than it has.
const WATCH_LAG_MAX: SignedDuration = SignedDuration::from_secs(30);

/// State kept from pass to pass.
#[derive(Debug)]
pub struct UpdaterMemory {
    /// Targets that a pod's node could not take, by pod UID.
    infeasible: HashMap<String, Vec<RecommendedContainerResources>>,
    /// Resizes under way, by pod UID.
    attempts: HashMap<String, Attempt>,
    /// Evictions whose effect is still to be seen, by `namespace/name` of the VPA.
    evictions: HashMap<String, EvictionWatch>,
    /// Pods evicted a moment ago, by UID: a snapshot may not show yet that they go.
    evicted: HashMap<String, Timestamp>,
    /// Passes in a row whose end came before the turn of a VPA, by `namespace/name`.
    waited: HashMap<String, u32>,
    pub(super) quota: Quota,
    pub(super) restarts: Restarts,
    pub(super) blocked: Blocked,
    pub(super) resizes: Limiter,
    pub(super) evicts: Limiter,
}

/// One attempt to resize one pod.
#[derive(Clone, Debug, PartialEq)]
struct Attempt {
    /// What the pod was asked to have; other resources are another attempt.
    asked: Vec<ResourceRequirements>,
    state: InPlaceState,
}

#[derive(Clone, Debug, PartialEq)]
struct EvictionWatch {
    group: GroupKey,
    /// Pods of the group that lived at the time of the eviction.
    known: BTreeSet<String>,
    /// What the evicted pod's containers had.
    had: Vec<(String, ResourceRequirements)>,
    /// Since when evictions are stopped, and for which pod's sake.
    stopped: Option<(Timestamp, String)>,
}

impl UpdaterMemory {
    /// An empty memory, with full rate limiters.
    ///
    /// # Errors
    /// Settings that make no sense.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let limiter = || Limiter::new(config.rate_limit, config.rate_burst);
        Ok(Self {
            infeasible: HashMap::new(),
            attempts: HashMap::new(),
            evictions: HashMap::new(),
            evicted: HashMap::new(),
            waited: HashMap::new(),
            quota: Quota::new(config.max_disruptions_per_hour, config.max_disruptions_per_hour_per_vpa),
            restarts: Restarts::default(),
            blocked: Blocked::default(),
            resizes: limiter()?,
            evicts: limiter()?,
        })
    }

    /// Takes in what the kubelets report of all live pods, and forgets those that are gone. Restarts that a resize brought
    /// and no policy asked for are returned.
    pub fn observe<'a>(
        &mut self,
        pods: impl IntoIterator<Item = &'a Arc<Pod>>,
        now: Timestamp,
    ) -> Vec<UnexpectedRestart> {
        let mut live = HashSet::new();
        let mut restarts = Vec::new();
        for pod in pods {
            live.insert(uid_of(pod));
            restarts.extend(self.restarts.observe(pod, now));
            let phase = ResizePhase::of(pod);
            if phase == ResizePhase::None {
                self.attempts.remove(uid_of(pod));
                continue;
            }
            let uid = uid(pod);
            let asked: Vec<_> =
                pod.spec.containers.iter().map(|container| container.resources.clone()).collect();
            let known = self.attempts.get(&uid).filter(|attempt| attempt.asked == asked);
            let state = known.map_or(InPlaceState::Settled, |attempt| attempt.state).observe(phase, now);
            self.attempts.insert(uid, Attempt { asked, state });
        }
        let lives = |uid: &str| live.contains(uid);
        self.attempts.retain(|uid, _| lives(uid));
        self.infeasible.retain(|uid, _| lives(uid));
        self.restarts.retain_pods(now, lives);
        self.evicted.retain(|_, at| now.duration_since(*at) < WATCH_LAG_MAX);
        self.quota.forget(now);
        restarts
    }

    /// Whether a pod was evicted so lately that a snapshot may still show it as alive.
    pub fn was_just_evicted(&self, pod: &Pod) -> bool {
        self.evicted.contains_key(uid_of(pod))
    }

    /// Whether anything is known of any VPA.
    pub fn remembers_vpas(&self) -> bool {
        !(self.evictions.is_empty()
            && self.waited.is_empty()
            && self.restarts.is_empty()
            && self.blocked.is_empty())
    }

    /// Forgets VPAs that are gone.
    pub fn retain_vpas(&mut self, exists: impl Fn(&str) -> bool) {
        self.evictions.retain(|vpa, _| exists(vpa));
        self.waited.retain(|vpa, _| exists(vpa));
        self.restarts.retain_vpas(&exists);
        self.blocked.retain(&exists);
    }

    /// Passes in a row that ended before the turn of this VPA.
    pub(super) fn waited(&self, vpa: &str) -> u32 {
        self.waited.get(vpa).copied().unwrap_or_default()
    }

    /// Notes whether a VPA got its turn.
    pub(super) fn note_turn(&mut self, vpa: &str, came: bool) {
        if came {
            self.waited.remove(vpa);
        } else {
            let waited = self.waited.entry(vpa.to_owned()).or_default();
            *waited = waited.saturating_add(1);
        }
    }

    /// State of a pod's resize.
    pub fn state(&self, pod: &Pod) -> InPlaceState {
        self.attempts.get(uid_of(pod)).map_or(InPlaceState::Settled, |attempt| attempt.state)
    }

    /// Starts the timer of a pod's present resize at a given time, as if an earlier pass had seen it.
    pub fn set_first_seen(&mut self, pod: &Pod, first_seen: Timestamp) {
        let asked = pod.spec.containers.iter().map(|container| container.resources.clone()).collect();
        let state = InPlaceState::Settled.observe(ResizePhase::of(pod), first_seen);
        self.attempts.insert(uid(pod), Attempt { asked, state });
    }

    /// Notes that a failed resize was asked for again.
    pub(super) fn note_retry(&mut self, pod: &Pod, now: Timestamp) {
        if let Some(attempt) = self.attempts.get_mut(uid_of(pod)) {
            attempt.state = attempt.state.retried(now);
        }
    }

    /// Targets that the pod's node could not take.
    pub fn infeasible(&self, pod: &Pod) -> Option<&[RecommendedContainerResources]> {
        self.infeasible.get(uid_of(pod)).map(Vec::as_slice)
    }

    /// Remembers targets that the pod's node could not take.
    pub fn remember_infeasible(&mut self, pod: &Pod, targets: Vec<RecommendedContainerResources>) {
        self.infeasible.insert(uid(pod), targets);
    }

    /// Remembers an eviction until its replacement is seen, which gets `after` if admission works. An eviction that still
    /// waits for its own is not replaced.
    pub(super) fn note_eviction(
        &mut self,
        vpa: &str,
        pod: &Pod,
        after: &[ResourceRequirements],
        siblings: &[&Pod],
        now: Timestamp,
    ) {
        self.evicted.insert(uid(pod), now);
        let had = had(pod);
        if had.iter().map(|(_, had)| had).eq(after) {
            return;
        }
        self.evictions.entry(vpa.to_owned()).or_insert_with(|| EvictionWatch {
            group: GroupKey::of(pod),
            known: siblings.iter().map(|pod| uid(pod)).collect(),
            had,
            stopped: None,
        });
    }

    /// Notes that a pod was resized: what it has from then on does not tell what admission gave it. One that replaced an
    /// evicted pod is judged by what it had until now.
    pub(super) fn note_resize(&mut self, vpa: &str, pod: &Pod) {
        let Some(watch) = self.evictions.get_mut(vpa) else { return };
        if GroupRef::of(pod) != GroupRef::from(&watch.group) || watch.known.contains(uid_of(pod)) {
            return;
        }
        if resources(pod) == watch.had {
            watch.known.insert(uid(pod));
        } else {
            self.evictions.remove(vpa);
        }
    }

    /// Looks for the pods that replaced an evicted one. If one came back with the resources that the evicted pod had
    /// and `would_evict` says that it is due again, evictions of the VPA are stopped; the name of the pod is returned, and
    /// whether this was found out just now. A replacement with other resources ends the matter.
    pub(super) fn recreated_unchanged(
        &mut self,
        vpa: &str,
        pods: &[&Pod],
        would_evict: impl Fn(&Pod) -> bool,
        now: Timestamp,
    ) -> Option<(String, bool)> {
        let watch = self.evictions.get_mut(vpa)?;
        let newcomers = pods.iter().filter(|pod| {
            GroupRef::of(pod) == GroupRef::from(&watch.group) && !watch.known.contains(uid_of(pod))
        });
        let (mut unchanged, mut works) = (None, false);
        for pod in newcomers {
            if resources(pod) != watch.had {
                works = true;
            } else if would_evict(pod) {
                unchanged.get_or_insert_with(|| super::group::pod_name(pod));
            }
        }
        let over = watch
            .stopped
            .as_ref()
            .is_some_and(|(since, _)| now.duration_since(*since) >= EVICTIONS_STOPPED_FOR);
        if works || over {
            self.evictions.remove(vpa);
            return None;
        }
        if let Some((_, pod)) = &watch.stopped {
            return Some((pod.clone(), false));
        }
        let pod = unchanged?;
        watch.stopped = Some((now, pod.clone()));
        Some((pod, true))
    }
}

fn uid_of(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// UID of a pod, empty where it has none.
pub(super) fn uid(pod: &Pod) -> String {
    uid_of(pod).to_owned()
}

fn resources(pod: &Pod) -> Vec<(String, ResourceRequirements)> {
    pod.spec.containers.iter().map(|c| (c.name.clone(), c.resources.clone())).collect()
}

/// What a pod's containers have. While a resize is under way, that is what they run with: the spec asks for what the
/// replacement of the pod is to get.
fn had(pod: &Pod) -> Vec<(String, ResourceRequirements)> {
    let mut resources = resources(pod);
    if ResizePhase::of(pod) != ResizePhase::None {
        for (name, amounts) in &mut resources {
            let (requests, limits) = current_resources(name, pod);
            *amounts = ResourceRequirements { requests: requests.cloned(), limits: limits.cloned() };
        }
    }
    resources
}
