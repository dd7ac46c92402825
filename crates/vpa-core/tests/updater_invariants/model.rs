//! A plain model of what the updater may do, to hold each pass against: what is known of each pod, what each VPA may
//! disrupt, and what happened within the hour. It shares no code with the updater.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Cluster, MODES, PassSeed, Settings};
use crate::world::{SimPod, World};

/// What is known of a pod over time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The resize under way: what was asked for, and since when.
    pub(crate) attempt: Option<(i64, Timestamp)>,
    /// Of a failed resize: how often it was asked again, and when it may be again.
    pub(crate) retries: u32,
    pub(crate) retry_at: Option<Timestamp>,
    /// CPU that its node could not take.
    pub(crate) infeasible: Option<i64>,
    /// Restarts at the last resize, and when that was last under way.
    watched: Option<(i32, Timestamp)>,
}

/// Budget of a VPA in a pass.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) mode: &'static str,
    configured: i64,
    running: i64,
    tolerance: i64,
    /// Below the minimum of replicas.
    pub(crate) small: bool,
    /// Updates of running pods, and those among them that may cost a pod some time.
    taken: i64,
    disrupted: i64,
}

impl Budget {
    pub(crate) fn has_room(&self) -> bool {
        self.running - self.taken > self.configured - self.tolerance
            || (self.tolerance == 0 && self.configured == self.running && self.taken == 0)
    }

    fn check(&self) {
        let free = (self.running - (self.configured - self.tolerance)).max(0);
        let one = i64::from(self.tolerance == 0 && self.configured == self.running);
        assert!(self.disrupted <= free.max(one), "too many disrupted: {self:?}");
    }
}

pub(crate) struct Model {
    pub(crate) settings: Settings,
    pub(crate) webhook: bool,
    pub(crate) known: BTreeMap<String, Known>,
    pub(crate) budgets: Vec<Budget>,
    /// VPAs whose resizes were seen to restart containers.
    pub(crate) disruptive: BTreeSet<usize>,
    /// Disruptions, with the VPA.
    disruptions: Vec<(Timestamp, usize)>,
    /// Disruptions of this pass that came to nothing.
    pub(crate) taken_back: usize,
    pub(crate) pass: PassSeed,
    /// When the pass began; pods may have been judged at any time since.
    pub(crate) begun: Timestamp,
    pub(crate) evicted_ever: BTreeSet<usize>,
}

impl Model {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self {
            settings: cluster.settings.clone(),
            webhook: cluster.webhook,
            known: BTreeMap::new(),
            budgets: Vec::new(),
            disruptive: BTreeSet::new(),
            disruptions: Vec::new(),
            taken_back: 0,
            pass: cluster.passes[0].clone(),
            begun: Timestamp::MIN,
            evicted_ever: BTreeSet::new(),
        }
    }

    pub(crate) fn mode(&self, cluster: &Cluster, owner: usize) -> &'static str {
        MODES[(cluster.workloads[owner].mode + self.pass.mode_shift) % MODES.len()]
    }

    /// Begins a pass. Returns the UIDs of pods that restarted on a resize for no reason.
    pub(crate) fn begin(
        &mut self,
        cluster: &Cluster,
        world: &World,
        pass: &PassSeed,
        now: Timestamp,
    ) -> BTreeSet<String> {
        (self.pass, self.begun) = (pass.clone(), now);
        self.taken_back = 0;
        self.known.retain(|uid, _| world.pods.contains_key(uid));
        let mut restarted = BTreeSet::new();
        for (uid, pod) in &world.pods {
            if self.known.entry(uid.clone()).or_default().observe(pod, now) {
                self.disruptive.insert(pod.owner);
                restarted.insert(uid.clone());
            }
        }
        self.budgets = (0..cluster.workloads.len()).map(|owner| self.budget(cluster, world, owner)).collect();
        restarted
    }

    fn budget(&self, cluster: &Cluster, world: &World, owner: usize) -> Budget {
        let pods: Vec<&SimPod> = world.pods.values().filter(|pod| pod.owner == owner).collect();
        let configured = i64::from(cluster.workloads[owner].replicas);
        Budget {
            mode: self.mode(cluster, owner),
            configured,
            running: pods.iter().filter(|pod| !pod.pending).count() as i64,
            tolerance: (configured as f64 * self.settings.tolerance) as i64,
            small: (pods.len() as i64) < self.settings.min_replicas,
            taken: 0,
            disrupted: 0,
        }
    }

    /// CPU that a resize of a pod may ask for: the target, or a step towards it.
    pub(crate) fn asked(&self, pod: &SimPod) -> i64 {
        let (from, to) = (pod.running_m, self.pass.target_m);
        let most = |fraction: Option<f64>| {
            fraction.map_or(i64::MAX / 2, |fraction| ((from as f64 * fraction) as i64).max(1))
        };
        to.clamp(from - most(self.settings.step_down), from + most(self.settings.step_up))
    }

    pub(crate) fn may_restart(&self, pod: &SimPod) -> bool {
        pod.seed.asks_for_restart || self.disruptive.contains(&pod.owner)
    }

    /// Disruptions of the last hour: of all VPAs, and of this one.
    pub(crate) fn in_the_hour(&self, owner: usize, now: Timestamp) -> (usize, usize) {
        let within = |at: &Timestamp| now.duration_since(*at) < SignedDuration::from_hours(1);
        let all = self.disruptions.iter().filter(|(at, _)| within(at));
        (all.clone().count(), all.filter(|(_, of)| *of == owner).count())
    }

    /// Counts a disruption that is under way; it has to be within the limits.
    pub(crate) fn disrupt(&mut self, owner: usize, now: Timestamp) {
        self.disruptions.push((now, owner));
        let (all, own) = self.in_the_hour(owner, now);
        let within = |count: usize, most: u32| most == 0 || count <= most as usize;
        assert!(within(all, self.settings.per_hour), "{all} disruptions in an hour");
        assert!(within(own, self.settings.per_hour_per_vpa), "{own} disruptions of w{owner} in an hour");
    }

    pub(crate) fn take_back(&mut self, owner: usize, taken: Timestamp) {
        let index = self.disruptions.iter().rposition(|one| *one == (taken, owner)).unwrap();
        self.disruptions.remove(index);
        self.taken_back += 1;
    }

    /// Notes that a pod was updated, or may have been.
    pub(crate) fn update(&mut self, pod: &SimPod, evicted: bool, now: Timestamp) {
        let may_restart = self.may_restart(pod);
        let budget = &mut self.budgets[pod.owner];
        if !(pod.pending && evicted) {
            budget.taken += 1;
            budget.disrupted += i64::from(evicted || may_restart || !self.settings.skip_budget);
            budget.check();
        }
        if evicted {
            self.evicted_ever.insert(pod.owner);
        } else if !pod.seed.asks_for_restart {
            self.known.entry(pod.uid()).or_default().watched = Some((pod.restarts, now));
        }
    }
}

impl Known {
    /// Takes in what the kubelet reports. Whether the pod restarted on a resize for no reason.
    fn observe(&mut self, pod: &SimPod, now: Timestamp) -> bool {
        if pod.condition.is_some()
            && let Some((_, last)) = &mut self.watched
        {
            *last = now;
        }
        let restarted = self.watched.is_some_and(|(before, _)| pod.restarts > before);
        let over =
            self.watched.is_some_and(|(_, last)| now.duration_since(last) >= SignedDuration::from_mins(5));
        if restarted || over {
            self.watched = None;
        }
        let same = self.attempt.filter(|(asked, _)| pod.condition.is_some() && *asked == pod.spec_m);
        if pod.condition != Some(("PodResizeInProgress", "Error")) || same.is_none() {
            (self.retries, self.retry_at) = (0, None);
        }
        self.attempt = pod.condition.map(|_| same.unwrap_or((pod.spec_m, now)));
        restarted
    }

    /// A failed resize was asked for again.
    pub(crate) fn retried(&mut self, now: Timestamp) {
        let minutes = 2_i64.pow(self.retries.min(10)).min(60);
        self.retries += 1;
        self.retry_at = Some(now.checked_add(SignedDuration::from_mins(minutes)).unwrap());
    }

    /// Whether the resize has been under way for longer than this.
    pub(crate) fn longer_than(&self, time: SignedDuration, now: Timestamp) -> bool {
        self.attempt.is_some_and(|(_, since)| now.duration_since(since) > time)
    }
}
