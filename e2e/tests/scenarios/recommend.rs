//! What the recommender finds out.

use std::ops::RangeInclusive;

use e2e::bed::Bed;
use e2e::cluster::{A_WHILE, Cluster};
use e2e::error::{Doing, Error, Result};
use e2e::pods::restarts;
use e2e::programs::Program;
use e2e::wait::stays;
use e2e::workload::Workload;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use vpa_api::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};

const MIB: i64 = 1 << 20;

/// A recommendation comes from usage, and changes with it, up and down.
pub(crate) async fn a_recommendation_appears_and_follows_usage(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app").usage("200m", "200Mi");
    cluster.create_vpa(&app.vpa("Off")).await?;
    cluster.deploy(&app).await?;
    let mut recommender = cluster.start(Program::Recommender).await?;
    // The safety margin is 15%, and a histogram's bucket is 5% wide.
    let first = target_within(&cluster, "app", 200..=260, 200..=260).await?;
    let condition = first
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .find(|c| c.type_ == "RecommendationProvided" && c.status == "True");
    if condition.is_none() {
        return Err(Error::expectation(format!(
            "no condition RecommendationProvided=True: {:?}",
            first.status
        )));
    }
    cluster.use_up(&app, 600, 500 * MIB)?;
    target_within(&cluster, "app", 600..=800, 500..=650).await?;
    cluster.use_up(&app, 50, 100 * MIB)?;
    target_within(&cluster, "app", 50..=90, 100..=160).await?;
    recommender.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// A recommender that starts anew recommends what its predecessor did, from the checkpoint alone: no pod is left that
/// could tell it anything.
pub(crate) async fn a_checkpoint_keeps_the_recommendation_over_a_restart(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app").usage("300m", "400Mi");
    cluster.create_vpa(&app.vpa("Off")).await?;
    cluster.deploy(&app).await?;
    let mut recommender = cluster.start(Program::Recommender).await?;
    target_within(&cluster, "app", 300..=380, 400..=520).await?;
    scale(&cluster, "app", 0).await?;
    cluster.pods_ready("app", 0).await?;
    recommender.stop().await?;
    let before = target(&cluster.vpa("app").await?);
    let checkpoints: Api<VerticalPodAutoscalerCheckpoint> = cluster.api();
    let names: Vec<_> = checkpoints
        .list(&ListParams::default())
        .await
        .doing("list checkpoints")?
        .into_iter()
        .filter_map(|checkpoint| checkpoint.metadata.name)
        .collect();
    if names != ["app-app"] {
        return Err(Error::expectation(format!(
            "checkpoints after the end: expected [app-app], found {names:?}"
        )));
    }
    // What is in the status afterwards was written afterwards.
    let wiped = json!({ "status": { "recommendation": null, "conditions": null } });
    let vpas: Api<VerticalPodAutoscaler> = cluster.api();
    vpas.patch_status("app", &PatchParams::default(), &Patch::Merge(wiped)).await.doing("wipe the status")?;
    let mut recommender = cluster.start(Program::Recommender).await?;
    let after = cluster.vpa_until("app", "a target", |vpa| target(vpa).is_some()).await?;
    if target(&after) != before {
        return Err(Error::expectation(format!(
            "target before {before:?}, after the restart {:?}",
            target(&after)
        )));
    }
    recommender.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// A container killed for lack of memory gets more than it had, though it was never seen to use more.
pub(crate) async fn an_oom_kill_raises_memory(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app").limits(json!({ "memory": "200Mi" })).usage("100m", "150Mi");
    cluster.create_vpa(&app.vpa("Off")).await?;
    cluster.deploy(&app).await?;
    let mut recommender = cluster.start(Program::Recommender).await?;
    target_within(&cluster, "app", 100..=130, 150..=200).await?;
    cluster.use_up(&app, 100, 210 * MIB)?;
    cluster.pods_until("app", "a restart", |pods| pods.iter().any(|pod| restarts(pod) > 0)).await?;
    // An OOM kill counts as 100 MiB above what the container had, and at least 20% more.
    target_within(&cluster, "app", 100..=130, 300..=450).await?;
    recommender.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// Each VPA is served by the recommender that it names, and by no other.
pub(crate) async fn recommenders_share_a_cluster_by_name(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let (plain, frugal) = (
        Workload::deployment("plain").usage("200m", "200Mi"),
        Workload::deployment("frugal").usage("200m", "200Mi"),
    );
    cluster.create_vpa(&plain.vpa("Off")).await?;
    cluster.create_vpa(&frugal.vpa("Off").with("recommenders", json!([{ "name": "frugal" }]))).await?;
    cluster.deploy(&plain).await?;
    cluster.deploy(&frugal).await?;
    let mut first = cluster.start(Program::Recommender).await?;
    cluster.vpa_until("plain", "a target", |vpa| target(vpa).is_some()).await?;
    stays("a VPA of another recommender is left alone", A_WHILE, || async {
        let status = cluster.vpa("frugal").await?.status;
        Ok(status.map(|status| format!("it has the status {status:?}")))
    })
    .await?;
    let second = cluster.program(Program::Recommender).title("frugal").arg("--recommender-name=frugal");
    let second = second.arg("--memory-saver").arg("--recommendation-margin-fraction=1");
    let mut second = second.start().await?;
    // Twice the usage, a bucket of 5 % included, where the other one adds 15 %.
    target_within(&cluster, "frugal", 400..=440, 400..=440).await?;
    target_within(&cluster, "plain", 200..=260, 200..=260).await?;
    second.stop().await?;
    first.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// Waits for a target within the bounds, in millicores and MiB.
pub(crate) async fn target_within(
    cluster: &Cluster,
    vpa: &str,
    cpu: RangeInclusive<i64>,
    memory: RangeInclusive<i64>,
) -> Result<VerticalPodAutoscaler> {
    let what = format!("a target of {cpu:?} millicores and {memory:?} MiB");
    cluster
        .vpa_until(vpa, &what, |vpa| {
            target(vpa)
                .is_some_and(|(millis, bytes)| cpu.contains(&millis) && memory.contains(&(bytes / MIB)))
        })
        .await
}

/// Target for the container `app`, in millicores and bytes.
fn target(vpa: &VerticalPodAutoscaler) -> Option<(i64, i64)> {
    let recommendation = vpa.status.as_ref()?.recommendation.as_ref()?;
    let container = recommendation
        .container_recommendations
        .as_ref()?
        .iter()
        .find(|container| container.container_name.as_deref() == Some("app"))?;
    Some((container.target.get("cpu")?.milli_value(), container.target.get("memory")?.value()))
}

async fn scale(cluster: &Cluster, name: &str, replicas: u32) -> Result<()> {
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = cluster.api();
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    deployments
        .patch_scale(name, &PatchParams::default(), &patch)
        .await
        .doing(format!("scale {name}"))
        .map(drop)
}
