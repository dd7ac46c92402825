//! Flags that bound how much the updater changes at once.

use std::collections::BTreeMap;

use e2e::bed::Bed;
use e2e::cluster::{A_WHILE, SOON};
use e2e::error::{Error, Result};
use e2e::pods::{describe, name, request, restarts};
use e2e::programs::Program;
use e2e::wait::{Seen, stays, wait_for};
use e2e::workload::Workload;
use k8s_openapi::api::core::v1::Pod;
use vpa_api::Quantity;

use crate::follow::{Followed, Observer};
use crate::update::{in_force, uids};

/// With `--max-disruptions-per-hour=1` one of two pods that are due is evicted, and the other one waits.
pub(crate) async fn an_hourly_limit_lets_one_pod_go_and_no_other(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let mut admission = cluster.start_admission().await?;
    let mut before = Vec::new();
    for app in ["first", "second"] {
        let workload = Workload::deployment(app).replicas(1);
        cluster.create_vpa(&workload.vpa("Recreate").min_replicas(1)).await?;
        before.extend(cluster.deploy(&workload).await?);
        cluster.recommend(app, "250m", "300Mi").await?;
    }
    let before = uids(&before);
    let launch = cluster.program(Program::Updater).arg("--max-disruptions-per-hour=1");
    let mut updater = launch.start().await?;
    updater.ready().await?;
    let count_old = async || {
        let mut pods = cluster.pods("first").await?;
        pods.extend(cluster.pods("second").await?);
        Ok::<_, Error>((uids(&pods).intersection(&before).count(), describe(&pods)))
    };
    wait_for("one old pod, left alone for the hourly limit", SOON, || async {
        let (old, pods) = count_old().await?;
        let left = updater.metric(r#"vpa_updater_pods_left_alone{reason="DisruptionLimit"}"#).await?;
        // While an eviction is under way that is then refused, both are left alone, one of them for the limit.
        let done = old == 1 && left == Some(1.0);
        Ok(if done { Seen::Done(()) } else { Seen::Not(format!("{left:?} left alone of {pods}")) })
    })
    .await?;
    stays("the limit leaves one of two pods alone", A_WHILE, || async {
        let (old, pods) = count_old().await?;
        Ok((old != 1).then(|| format!("{old} old pods: {pods}")))
    })
    .await?;
    updater.stop().await?;
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// With `--max-step-up=0.5` no resize raises a request by more than half of it, and the target is reached all the same.
pub(crate) async fn a_bounded_step_reaches_the_target_in_several_resizes(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app");
    cluster.create_vpa(&app.vpa("InPlaceOrRecreate")).await?;
    let mut admission = cluster.start_admission().await?;
    let before = uids(&cluster.deploy(&app).await?);
    let steps = Followed::begin(cluster.api(), Steps::default());
    steps.until("the requests before any resize", |seen| seen.requests.len() == 2).await?;
    cluster.recommend("app", "250m", "300Mi").await?;
    let mut updater = cluster.program(Program::Updater).arg("--max-step-up=0.5").start().await?;
    updater.ready().await?;
    let after = cluster
        .pods_until("app", "cpu=250m in force after several resizes", |pods| {
            pods.len() == 2 && pods.iter().all(|pod| in_force(pod, "cpu") == "250m")
        })
        .await?;
    if uids(&after) != before || after.iter().any(|pod| restarts(pod) > 0) {
        return Err(Error::expectation(format!("pods were replaced: {}", describe(&after))));
    }
    // 100m to 150m, 225m and 250m: not in fewer, and not in more.
    let last = steps.until("the last resize of both pods", |seen| {
        seen.requests.values().all(|requests| requests.last().is_some_and(|cpu| cpu == "250m"))
    });
    let last = last.await?;
    let expected = ["100m", "150m", "225m", "250m"];
    if let Some((pod, requests)) = last.requests.iter().find(|(_, requests)| **requests != expected) {
        return Err(Error::expectation(format!("{pod} requested {requests:?} CPU; expected {expected:?}")));
    }
    updater.stop().await?;
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// What each pod requested of CPU, one value after the other.
#[derive(Clone, Default)]
struct Steps {
    requests: BTreeMap<String, Vec<String>>,
}

impl Observer for Steps {
    type Object = Pod;

    fn see(&mut self, pod: &Pod) {
        let requests = self.requests.entry(name(pod).to_owned()).or_default();
        let request = request(pod, "cpu");
        // Whatever the notation.
        let request = Quantity::parse(&request).map_or(request, |quantity| quantity.to_string());
        if requests.last() != Some(&request) {
            requests.push(request);
        }
    }
}
