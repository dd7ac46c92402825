//! What the demonstration promises, and whether it happened.

use std::collections::BTreeMap;
use std::time::Duration;

use vpa_sim::simulate::amounts::Amounts;

use super::observe::{Observer, PodStory, template};
use super::paint::count;
use super::reasons::Reasons;
use super::workloads::{ALL, Workload};

/// How long nothing may have been killed for memory at the end.
const QUIET: Duration = Duration::from_secs(15);

/// A promise and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// What was promised.
    pub text: String,
    /// Whether it happened.
    pub kept: bool,
    /// What was found.
    pub found: String,
}

fn promise(text: impl Into<String>, kept: bool, found: impl Into<String>) -> Promise {
    Promise { text: text.into(), kept, found: found.into() }
}

/// All promises about the cluster.
pub fn check(observer: &Observer, reasons: &Reasons, now: Duration) -> Vec<Promise> {
    let untouched = left_alone(observer, reasons);
    let unexplained: Vec<&str> =
        untouched.iter().filter(|left| left.why.is_none()).map(|left| left.workload).collect();
    vec![
        recommended(observer),
        resized(observer),
        recreated(observer),
        memory_raised(observer, now),
        guarded(observer),
        never_evicted(observer),
        off(observer),
        initial(observer),
        single(observer),
        given_back(observer),
        promise(
            "Every pod that was left alone has a reason that can be read",
            unexplained.is_empty() && !untouched.is_empty(),
            match unexplained.as_slice() {
                [] => count(untouched.iter().map(|left| left.pods).sum(), "pod"),
                some => format!("none for {}", some.join(", ")),
            },
        ),
    ]
}

fn recommended(observer: &Observer) -> Promise {
    let missing: Vec<&str> = ALL
        .iter()
        .map(|workload| workload.name)
        .filter(|name| !observer.recommended.contains_key(*name))
        .collect();
    let last = observer.recommended_since.values().max().map_or(0, Duration::as_secs);
    let found = match missing.as_slice() {
        [] => format!("all {} after {last} s", ALL.len()),
        some => format!("none for {}", some.join(", ")),
    };
    promise("Every workload has a recommendation", missing.is_empty(), found)
}

fn resized(observer: &Observer) -> Promise {
    let pods: Vec<&PodStory> =
        ["shop-frontend", "node-agent"].iter().flat_map(|name| observer.live(name)).collect();
    let resized = pods.iter().filter(|pod| pod.resizes > 0 && pod.restarts == 0).count();
    let evicted = observer.evicted("shop-frontend") + observer.evicted("node-agent");
    promise(
        "InPlaceOrRecreate resized running pods without a restart",
        resized == pods.len() && resized > 0 && evicted == 0,
        format!("{resized} of {}, {evicted} evicted", count(pods.len(), "pod")),
    )
}

fn recreated(observer: &Observer) -> Promise {
    let evicted = observer.evicted("reports");
    let smaller =
        observer.live("reports").filter(|pod| is_less(pod.created_with, template(pod.workload))).count();
    promise(
        "Recreate evicted the over-provisioned pods, each once; the webhook gave the new ones less",
        evicted == 2 && smaller == 2,
        format!("{evicted} evicted, {smaller} new with less"),
    )
}

fn memory_raised(observer: &Observer, now: Duration) -> Promise {
    let kills: usize = observer.all("importer").map(|pod| pod.oom_kills).sum();
    let last = observer.all("importer").filter_map(|pod| pod.last_oom).max();
    let quiet = last.is_some_and(|last| now >= last + QUIET);
    let more =
        observer.live("importer").filter(|pod| pod.has.memory_bytes > template(pod.workload).memory_bytes);
    let more = more.count();
    let since = last.map_or(0, |last| now.saturating_sub(last).as_secs());
    promise(
        "The importer got the memory it needs and is not killed any more",
        quiet && more == 2,
        format!("{} before, none in the last {since} s", count(kills, "kill")),
    )
}

fn guarded(observer: &Observer) -> Promise {
    let evicted = observer.evicted("ledger");
    promise(
        "The PodDisruptionBudget was respected",
        evicted == 0 && observer.live("ledger").count() == 3,
        format!("{evicted} of 3 evicted"),
    )
}

fn never_evicted(observer: &Observer) -> Promise {
    let names = || ALL.iter().filter(|workload| workload.mode == "InPlace").map(|workload| workload.name);
    let evicted: usize = names().map(|name| observer.evicted(name)).sum();
    let raised = observer.live("session-cache").filter(|pod| pod.resizes > 0 && pod.restarts == 0).count();
    let waiting = observer.live("ml-trainer").filter(|pod| pod.resize_waits.is_some()).count();
    promise(
        "InPlace raised the leaking cache and never evicted, not even where the node is full",
        evicted == 0 && raised == 2 && waiting == 2,
        format!("{raised} raised, {waiting} waiting for room, {evicted} evicted"),
    )
}

fn off(observer: &Observer) -> Promise {
    let same = observer.live("search").filter(|pod| is_untouched(pod)).count();
    promise(
        "Off only recommends",
        same == 2 && observer.evicted("search") == 0 && observer.recommended.contains_key("search"),
        format!("{same} of 2 pods as they were"),
    )
}

fn initial(observer: &Observer) -> Promise {
    let (old, new): (Vec<_>, Vec<_>) = observer.live("billing-api").partition(|pod| is_untouched(pod));
    let evicted = observer.evicted("billing-api");
    promise(
        "Initial left running pods alone; a pod added by scaling up got the recommendation",
        old.len() == 2 && !new.is_empty() && evicted == 0 && new.iter().all(|pod| pod.resizes == 0),
        format!("{} as they were, {} new with the recommendation", old.len(), new.len()),
    )
}

fn single(observer: &Observer) -> Promise {
    let evicted = observer.evicted("scheduler");
    let same = observer.live("scheduler").all(is_untouched);
    let found = if evicted == 0 { "not evicted".to_owned() } else { format!("evicted {evicted} times") };
    promise("A single replica was not taken away", evicted == 0 && same, found)
}

fn given_back(observer: &Observer) -> Promise {
    let sums = Sums::of(observer);
    let cpu = sums.back.cpu_millis * 100 / sums.before.cpu_millis.max(1);
    let memory = sums.back.memory_bytes * 100 / sums.before.memory_bytes.max(1);
    promise(
        "CPU and memory were given back",
        sums.back.cpu_millis > 0 && sums.back.memory_bytes > 0,
        format!("{cpu} % of the CPU and {memory} % of the memory requested before"),
    )
}

fn is_less(one: Amounts, other: Amounts) -> bool {
    one.cpu_millis < other.cpu_millis && one.memory_bytes < other.memory_bytes
}

fn is_untouched(pod: &PodStory) -> bool {
    pod.created_with == template(pod.workload) && pod.has == pod.created_with
}

/// Sums over all live pods of the workloads that run all the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// What their templates request.
    pub before: Amounts,
    /// What they request now.
    pub now: Amounts,
    /// What was taken from pods that had too much.
    pub back: Amounts,
    /// What was given to pods that had too little.
    pub added: Amounts,
}

impl Sums {
    /// Of what was seen.
    pub fn of(observer: &Observer) -> Self {
        let mut sums = Self::default();
        let live = ALL
            .iter()
            .filter(|workload| !workload.is_batch())
            .flat_map(|workload| observer.live(workload.name));
        for pod in live {
            let before = template(pod.workload);
            let less = before.minus(pod.has);
            sums.before = sums.before.plus(before);
            sums.now = sums.now.plus(pod.has);
            sums.back = sums.back.plus(less.max(Amounts::default()));
            sums.added = sums.added.plus(Amounts::default().minus(less).max(Amounts::default()));
        }
        sums
    }
}

/// Pods of a workload that have what they were created with, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftAlone {
    /// Name of the workload.
    pub workload: &'static str,
    /// Its update mode.
    pub mode: &'static str,
    /// How many pods.
    pub pods: usize,
    /// Why; none where nobody said so.
    pub why: Option<String>,
}

/// All pods that have what they were created with, and why. Pods of a job end before they could be changed.
pub fn left_alone(observer: &Observer, reasons: &Reasons) -> Vec<LeftAlone> {
    let mut all = Vec::new();
    for workload in ALL.iter().filter(|workload| !workload.is_batch()) {
        let mut groups: BTreeMap<Option<String>, usize> = BTreeMap::new();
        for pod in observer.live(workload.name).filter(|pod| is_untouched(pod)) {
            *groups.entry(why(workload, pod, reasons)).or_default() += 1;
        }
        let left = |(why, pods)| LeftAlone { workload: workload.name, mode: workload.mode, pods, why };
        all.extend(groups.into_iter().map(left));
    }
    all
}

fn why(workload: &Workload, pod: &PodStory, reasons: &Reasons) -> Option<String> {
    let said = reasons.of(&pod.name).filter(|said| said.verdict == "leave").map(|said| said.detail.clone());
    match workload.mode {
        // The updater does not look at pods of these modes.
        "Off" => Some("the VPA's mode is Off: it recommends and touches nothing".to_owned()),
        "Initial" => Some("the VPA's mode is Initial: only new pods get the recommendation".to_owned()),
        _ => said.filter(|text| !text.is_empty()).or_else(|| {
            let waits = pod.resize_waits.as_ref()?;
            Some(format!("its resize waits on the node: {waits}"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::demo::workloads::find;

    const NOW: Duration = Duration::from_secs(90);

    /// A demonstration in which everything went well.
    fn ideal() -> (Observer, Reasons) {
        let mut observer = Observer::default();
        let mut reasons = Reasons::new(Path::new("none"));
        for workload in &ALL {
            observer.recommended.insert(workload.name.to_owned(), Amounts { cpu_millis: 1, memory_bytes: 1 });
            for number in 0..workload.replicas {
                add(&mut observer, workload.name, number, |_| {});
            }
        }
        for name in ["shop-frontend", "node-agent", "session-cache", "image-resizer"] {
            each(&mut observer, name, |pod| {
                pod.has = Amounts { cpu_millis: 100, memory_bytes: 300 << 20 };
                pod.resizes = 1;
            });
        }
        for name in ["reports", "importer"] {
            each(&mut observer, name, |pod| {
                pod.gone = Some(Duration::from_secs(20));
                pod.oom_kills = 1;
                pod.last_oom = Some(Duration::from_secs(10));
            });
            for number in 10..12 {
                add(&mut observer, name, number, |pod| {
                    pod.created_with = Amounts { cpu_millis: 100, memory_bytes: 350 << 20 };
                    pod.has = pod.created_with;
                });
            }
        }
        add(&mut observer, "billing-api", 10, |pod| {
            pod.created_with.cpu_millis = 300;
            pod.has = pod.created_with;
        });
        each(&mut observer, "ml-trainer", |pod| pod.resize_waits = Some("Deferred".to_owned()));
        for pod in ["ledger-0", "ledger-1", "ledger-2", "scheduler-0"] {
            let line = format!(r#"{{"pod":"{pod}","verdict":"leave","reason":"R","detail":"because"}}"#);
            reasons.take(&line);
        }
        (observer, reasons)
    }

    fn add(observer: &mut Observer, name: &str, number: u32, change: impl FnOnce(&mut PodStory)) {
        let workload = find(name).unwrap();
        let name = format!("{name}-{number}");
        let mut pod = PodStory::new(name.clone(), workload, template(workload), Duration::ZERO);
        change(&mut pod);
        observer.pods.insert(name, pod);
    }

    fn each(observer: &mut Observer, name: &str, change: impl Fn(&mut PodStory)) {
        observer.pods.values_mut().filter(|pod| pod.workload.name == name).for_each(change);
    }

    fn broken(observer: &Observer, reasons: &Reasons) -> Vec<String> {
        let all = check(observer, reasons, NOW);
        all.into_iter().filter(|promise| !promise.kept).map(|promise| promise.text).collect()
    }

    #[test]
    fn an_ideal_run_keeps_every_promise() {
        let (observer, reasons) = ideal();
        assert_eq!(broken(&observer, &reasons), [""; 0]);
        let left = left_alone(&observer, &reasons);
        let text: Vec<String> = left
            .iter()
            .map(|left| format!("{} {} {}", left.pods, left.workload, left.why.as_deref().unwrap()))
            .collect();
        assert_eq!(text.len(), 5, "{text:#?}");
        assert!(text.contains(&"3 ledger because".to_owned()), "{text:#?}");
    }

    #[test]
    fn each_fault_breaks_its_promise() {
        type Fault = fn(&mut Observer);
        let faults: [(&str, Fault); 10] = [
            ("Every workload has a recommendation", |seen| {
                seen.recommended.retain(|name, _| name != "search")
            }),
            ("InPlaceOrRecreate resized", |seen| each(seen, "node-agent", |pod| pod.restarts = 1)),
            ("InPlaceOrRecreate resized", |seen| {
                seen.pods.retain(|_, pod| !matches!(pod.workload.name, "node-agent" | "shop-frontend"))
            }),
            ("Recreate evicted", |seen| each(seen, "reports", |pod| pod.gone = None)),
            ("The importer got", |seen| each(seen, "importer", |pod| pod.last_oom = Some(NOW))),
            ("The importer got", |seen| each(seen, "importer", |pod| pod.last_oom = None)),
            ("The PodDisruptionBudget", |seen| each(seen, "ledger", |pod| pod.gone = Some(NOW))),
            ("InPlace raised", |seen| each(seen, "ml-trainer", |pod| pod.resize_waits = None)),
            ("Off only", |seen| each(seen, "search", |pod| pod.has.cpu_millis = 1)),
            ("Initial left", |seen| seen.pods.retain(|name, _| name != "billing-api-10")),
        ];
        for (promise, fault) in faults {
            let (mut observer, reasons) = ideal();
            fault(&mut observer);
            let broken = broken(&observer, &reasons);
            assert!(broken.iter().any(|text| text.starts_with(promise)), "{promise}: {broken:#?}");
        }
        let (observer, _) = ideal();
        let nothing_said = Reasons::new(Path::new("none"));
        assert!(broken(&observer, &nothing_said)[0].starts_with("Every pod that was left alone"));
    }
}
