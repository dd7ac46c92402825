//! What the updater does to running pods.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::bed::Bed;
use e2e::cluster::{A_WHILE, Cluster, SOON};
use e2e::error::{Doing, Error, Result};
use e2e::pods::{describe, is_ready, request, restarts};
use e2e::programs::{Program, Running};
use e2e::wait::{Seen, stays, wait_for};
use e2e::workload::{Vpa, Workload};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

/// Fallbacks of a resize after seconds instead of minutes.
const SHORT_FALLBACKS: [&str; 2] = ["--in-place-deferred-timeout=3s", "--in-place-in-progress-timeout=3s"];

/// All pods get the recommendation, and at no time are more than half of them away.
pub(crate) async fn recreate_evicts_within_tolerance(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app").replicas(4);
    cluster.create_vpa(&app.vpa("Recreate")).await?;
    let mut admission = cluster.start_admission().await?;
    let before = uids(&cluster.deploy(&app).await?);
    cluster.recommend("app", "250m", "300Mi").await?;
    let mut updater = cluster.start(Program::Updater).await?;
    let mut fewest = usize::MAX;
    let started = std::time::Instant::now();
    let after = loop {
        let pods = cluster.pods("app").await?;
        fewest = fewest.min(pods.iter().filter(|pod| is_ready(pod)).count());
        if pods.len() == 4 && pods.iter().all(|pod| is_ready(pod) && request(pod, "cpu") == "250m") {
            break pods;
        }
        if started.elapsed() > SOON {
            let what = "four ready pods that request cpu=250m".to_owned();
            return Err(Error::Timeout { what, waited: SOON, last: describe(&pods) });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    if fewest < 2 {
        return Err(Error::expectation(format!("only {fewest} of 4 pods were ready at a time; 2 must be")));
    }
    if uids(&after).intersection(&before).next().is_some() {
        return Err(Error::expectation(format!(
            "pods changed without being recreated: {}",
            describe(&after)
        )));
    }
    event_about(&cluster, "EvictedByVPA").await?;
    updater.stop().await?;
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// A resize that the kubelet takes reaches the running pod, and nothing restarts.
pub(crate) async fn a_resize_in_place_restarts_nothing(bed: Bed) -> Result<()> {
    for mode in ["InPlaceOrRecreate", "InPlace"] {
        let cluster = bed.cluster_called(mode).await?;
        let app = Workload::deployment("app");
        cluster.create_vpa(&app.vpa(mode)).await?;
        let mut admission = cluster.start_admission().await?;
        let before = uids(&cluster.deploy(&app).await?);
        cluster.recommend("app", "250m", "300Mi").await?;
        let mut updater = cluster.start(Program::Updater).await?;
        let after = cluster
            .pods_until("app", "cpu=250m in force", |pods| {
                pods.len() == 2 && pods.iter().all(|pod| in_force(pod, "cpu") == "250m")
            })
            .await?;
        if uids(&after) != before || after.iter().any(|pod| restarts(pod) > 0) {
            return Err(Error::expectation(format!("{mode}: pods were replaced: {}", describe(&after))));
        }
        cluster
            .pods_until("app", "the annotation vpaInPlaceUpdated", |pods| {
                let marked = |pod: &Pod| {
                    pod.metadata.annotations.as_ref().and_then(|all| all.get("vpaInPlaceUpdated")).cloned()
                };
                pods.iter().all(|pod| marked(pod).as_deref() == Some("true"))
            })
            .await?;
        event_about(&cluster, "InPlaceResizedByVPA").await?;
        updater.stop().await?;
        admission.stop().await?;
        cluster.clean_up().await;
    }
    Ok(())
}

/// A workload whose resizes the node cannot do now (`deferred`) or never (`infeasible`), with a recommendation that asks
/// for one and the programs at work.
struct Stuck {
    cluster: Cluster,
    admission: Running,
    updater: Running,
    /// The pods that were there before the recommendation, by UID.
    before: BTreeSet<String>,
}

impl Stuck {
    async fn start(bed: &Bed, mode: &str, verdict: &str) -> Result<Self> {
        let cluster = bed.cluster_called(verdict).await?;
        let app = Workload::deployment("app").annotation("sim.vpa/resize", verdict);
        cluster.create_vpa(&app.vpa(mode)).await?;
        let admission = cluster.start_admission().await?;
        let before = uids(&cluster.deploy(&app).await?);
        cluster.recommend("app", "250m", "300Mi").await?;
        let launch =
            SHORT_FALLBACKS.iter().fold(cluster.program(Program::Updater), |launch, arg| launch.arg(*arg));
        let mut updater = launch.start().await?;
        updater.ready().await?;
        Ok(Self { cluster, admission, updater, before })
    }

    async fn end(mut self) -> Result<()> {
        self.updater.stop().await?;
        self.admission.stop().await?;
        self.cluster.clean_up().await;
        Ok(())
    }
}

/// A resize that the node cannot do now, or never, ends in an eviction where the mode allows it.
pub(crate) async fn a_stuck_resize_falls_back_to_eviction(bed: Bed) -> Result<()> {
    for verdict in ["deferred", "infeasible"] {
        let stuck = Stuck::start(&bed, "InPlaceOrRecreate", verdict).await?;
        let what = format!("new pods with cpu=250m after a resize that is {verdict},");
        stuck
            .cluster
            .pods_until("app", &what, |pods| {
                pods.len() == 2
                    && pods.iter().all(|pod| is_ready(pod) && request(pod, "cpu") == "250m")
                    && uids(pods).is_disjoint(&stuck.before)
            })
            .await?;
        stuck.end().await?;
    }
    Ok(())
}

/// The same, where the mode does not allow it.
pub(crate) async fn a_stuck_resize_never_evicts_in_mode_in_place(bed: Bed) -> Result<()> {
    for verdict in ["deferred", "infeasible"] {
        let stuck = Stuck::start(&bed, "InPlace", verdict).await?;
        let reason = if verdict == "deferred" { "Deferred" } else { "Infeasible" };
        stuck
            .cluster
            .pods_until("app", &format!("a resize that is {verdict}"), |pods| {
                pods.iter().any(|pod| pending_reason(pod).as_deref() == Some(reason))
            })
            .await?;
        stay(&stuck.cluster, "app", &stuck.before, &format!("with a resize that is {verdict}")).await?;
        stuck.end().await?;
    }
    Ok(())
}

/// Without the heartbeat of the admission controller nothing is evicted: before it ever came, and after it is gone.
pub(crate) async fn without_the_webhook_nothing_is_evicted(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app");
    cluster.create_vpa(&app.vpa("Recreate")).await?;
    let before = uids(&cluster.deploy(&app).await?);
    cluster.recommend("app", "250m", "300Mi").await?;
    let mut updater = cluster.start(Program::Updater).await?;
    stay(&cluster, "app", &before, "before the admission controller runs").await?;
    let mut admission = cluster.start_admission().await?;
    let what = "pods with cpu=250m once the admission controller runs,";
    let after = cluster
        .pods_until("app", what, |pods| {
            pods.len() == 2 && pods.iter().all(|pod| is_ready(pod) && request(pod, "cpu") == "250m")
        })
        .await?;
    admission.process().kill();
    // The heartbeat counts for 5 s.
    tokio::time::sleep(Duration::from_secs(7)).await;
    cluster.recommend("app", "400m", "500Mi").await?;
    stay(&cluster, "app", &uids(&after), "after the admission controller is gone").await?;
    updater.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// Off changes no pod at all, Initial only new ones.
pub(crate) async fn off_and_initial_leave_running_pods_alone(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let mut admission = cluster.start_admission().await?;
    let mut before = BTreeSet::new();
    let modes = [("off", "Off", "100m"), ("initial", "Initial", "250m")];
    for (name, mode, _) in modes {
        let app = Workload::deployment(name);
        before.append(&mut uids(&cluster.deploy(&app).await?));
        cluster.create_vpa(&app.vpa(mode)).await?;
        cluster.recommend(name, "250m", "300Mi").await?;
    }
    let mut updater = cluster.start(Program::Updater).await?;
    stays("running pods are left alone", A_WHILE, || async {
        let mut pods = cluster.pods("off").await?;
        pods.extend(cluster.pods("initial").await?);
        let same = uids(&pods) == before && pods.iter().all(|pod| request(pod, "cpu") == "100m");
        Ok((!same).then(|| describe(&pods)))
    })
    .await?;
    for (name, mode, cpu) in modes {
        let pods = cluster.pods(name).await?;
        let old = uids(&pods);
        for pod in &pods {
            let pod = e2e::pods::name(pod);
            cluster.api::<Pod>().delete(pod, &Default::default()).await.doing(format!("delete pod {pod}"))?;
        }
        let what = format!("new pods with cpu={cpu} in mode {mode}");
        cluster
            .pods_until(name, &what, |pods| {
                pods.len() == 2
                    && uids(pods).is_disjoint(&old)
                    && pods.iter().all(|pod| is_ready(pod) && request(pod, "cpu") == cpu)
            })
            .await?;
    }
    updater.stop().await?;
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// All three programs: a workload that asks for ten times what it uses ends up with what it uses, by itself.
pub(crate) async fn all_three_shrink_an_oversized_workload(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app").requests("2", "2Gi").usage("200m", "200Mi");
    cluster.create_vpa(&app.vpa("InPlaceOrRecreate")).await?;
    let mut admission = cluster.start_admission().await?;
    cluster.deploy(&app).await?;
    let mut recommender = cluster.start(Program::Recommender).await?;
    let mut updater = cluster.start(Program::Updater).await?;
    cluster
        .pods_until("app", "ready pods that request less than half a core and half a GiB", |pods| {
            let small = |pod: &Pod, resource: &str, bound: &str| {
                let parse = |text: &str| vpa_api::Quantity::parse(text).ok();
                parse(&request(pod, resource)).zip(parse(bound)).is_some_and(|(found, bound)| found < bound)
            };
            pods.len() == 2
                && pods
                    .iter()
                    .all(|pod| is_ready(pod) && small(pod, "cpu", "500m") && small(pod, "memory", "512Mi"))
        })
        .await?;
    for program in [&mut updater, &mut recommender, &mut admission] {
        program.stop().await?;
    }
    cluster.clean_up().await;
    Ok(())
}

pub(crate) fn uids(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect()
}

/// Expects exactly these pods, for a while.
async fn stay(cluster: &Cluster, app: &str, expected: &BTreeSet<String>, when: &str) -> Result<()> {
    stays(format!("pods are left alone {when}"), A_WHILE, || async {
        let pods = cluster.pods(app).await?;
        Ok((uids(&pods) != *expected).then(|| describe(&pods)))
    })
    .await
}

async fn event_about(cluster: &Cluster, reason: &str) -> Result<()> {
    wait_for(format!("an event {reason}"), SOON, || async {
        let events = cluster.events().await?;
        let found = events.iter().any(|(found, _)| found == reason);
        Ok(if found { Seen::Done(()) } else { Seen::Not(format!("{events:?}")) })
    })
    .await
}

/// A request as the kubelet says it holds for the container `app`.
pub(crate) fn in_force(pod: &Pod, resource: &str) -> String {
    let status = pod.status.as_ref().and_then(|status| {
        status.container_statuses.as_ref()?.iter().find(|container| container.name == "app")
    });
    let requests = status.and_then(|container| container.resources.as_ref()?.requests.as_ref());
    requests
        .and_then(|requests| requests.get(resource))
        .map(|quantity| quantity.0.clone())
        .unwrap_or_default()
}

fn pending_reason(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "PodResizePending")?.reason.clone()
}

/// A disruption budget that allows nothing is kept, and neither it nor a VPA without a target holds up the others.
pub(crate) async fn a_blocked_workload_holds_up_no_other(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let mut admission = cluster.start_admission().await?;
    let guarded = Workload::stateful_set("guarded");
    let free = Workload::deployment("free");
    cluster
        .create(json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": { "name": "guarded", "namespace": cluster.namespace() },
            "spec": { "minAvailable": 2, "selector": { "matchLabels": { "app": "guarded" } } },
        }))
        .await?;
    let before = uids(&cluster.deploy(&guarded).await?);
    cluster.deploy(&free).await?;
    for vpa in [
        Vpa::new("a-targetless", "Deployment", "nowhere", "Recreate"),
        guarded.vpa("Recreate"),
        free.vpa("Recreate"),
    ] {
        cluster.create_vpa(&vpa).await?;
        cluster.recommend(vpa.name(), "250m", "300Mi").await?;
    }
    let mut updater = cluster.start(Program::Updater).await?;
    let updated = |pods: &[Pod]| {
        pods.len() == 2 && pods.iter().all(|pod| is_ready(pod) && request(pod, "cpu") == "250m")
    };
    cluster.pods_until("free", "ready pods with cpu=250m beside a blocked workload", updated).await?;
    stay(&cluster, "guarded", &before, "under a disruption budget that allows nothing").await?;
    let budgets = cluster.api::<k8s_openapi::api::policy::v1::PodDisruptionBudget>();
    budgets.delete("guarded", &Default::default()).await.doing("delete the disruption budget")?;
    cluster.pods_until("guarded", "ready pods with cpu=250m once the budget is gone", updated).await?;
    updater.stop().await?;
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}
