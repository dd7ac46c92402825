//! Starting, stopping and standing in for each other.

use e2e::bed::Bed;
use e2e::cluster::{A_WHILE, Cluster, SOON};
use e2e::error::{Doing, Error, Result};
use e2e::kubeconfig::{self, Endpoint, Identity};
use e2e::programs::Program;
use e2e::wait::{Seen, stays, wait_for};
use e2e::workload::Workload;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::names::lease::RECOMMENDER;

/// Exit codes that the programs promise.
const CLUSTER_UNREACHABLE: i32 = 3;
const CRDS_MISSING: i32 = 4;
const PERMISSION_MISSING: i32 = 5;

/// Nobody listens where the kubeconfig says.
pub(crate) async fn an_unreachable_cluster_ends_a_program_with_a_clear_message(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let url = format!("http://127.0.0.1:{}", e2e::ports::free_port()?);
    let path = kubeconfig::path(cluster.dir(), "nobody");
    kubeconfig::write(&path, &Endpoint { url: url.clone(), authority: None }, &Identity::Anonymous)?;
    cluster.webhook_certificate()?;
    for program in Program::ALL {
        let launch = cluster.program(program).kubeconfig(&path);
        let launch = match program {
            Program::AdmissionController => launch.webhook_files(e2e::ports::free_port()?),
            _ => launch,
        };
        launch.start().await?.ends_with(CLUSTER_UNREACHABLE, &[&url]).await?;
    }
    cluster.clean_up().await;
    Ok(())
}

/// A cluster into which nobody has put the CRDs.
pub(crate) async fn missing_crds_end_a_program_with_a_clear_message(bed: Bed) -> Result<()> {
    let cluster = bed.bare_cluster().await?;
    cluster.webhook_certificate()?;
    for program in Program::ALL {
        let launch = cluster.program(program);
        let launch = match program {
            Program::AdmissionController => launch.webhook_files(e2e::ports::free_port()?),
            _ => launch,
        };
        let texts = ["verticalpodautoscalers.autoscaling.k8s.io"];
        launch.start().await?.ends_with(CRDS_MISSING, &texts).await?;
    }
    Ok(())
}

/// A role without one of the rules that the program needs.
pub(crate) async fn a_missing_permission_ends_a_program_with_a_clear_message(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    cluster.webhook_certificate()?;
    let cases = [
        (Program::Recommender, "verticalpodautoscalercheckpoints"),
        (Program::Updater, "pods/eviction"),
        (Program::AdmissionController, "limitranges"),
    ];
    for (program, resource) in cases {
        cluster.access()?.revoke(cluster.client(), program, resource).await?;
        let launch = cluster.program(program);
        let launch = match program {
            Program::AdmissionController => launch.webhook_files(e2e::ports::free_port()?),
            _ => launch,
        };
        launch.start().await?.ends_with(PERMISSION_MISSING, &[resource]).await?;
    }
    // The roles are the scenario's own, but they are the cluster's objects.
    let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(cluster.client().clone());
    let name = format!("{}-updater", cluster.system());
    roles.delete(&name, &Default::default()).await.doing(format!("delete ClusterRole {name}"))?;
    cluster.clean_up().await;
    Ok(())
}

/// Of two recommenders one works; when it is killed the other takes over, and when that is asked to end it hands over
/// at once.
pub(crate) async fn a_second_replica_takes_over(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app").usage("200m", "200Mi");
    cluster.create_vpa(&app.vpa("Off")).await?;
    cluster.deploy(&app).await?;
    let mut first = cluster.program(Program::Recommender).title("first").leader_election().start().await?;
    first.ready().await?;
    let leader = holder_until(&cluster, "a leader", |holder| !holder.is_empty()).await?;
    cluster.vpa_until("app", "a recommendation", has_recommendation).await?;
    let mut second = cluster.program(Program::Recommender).title("second").leader_election().start().await?;
    second.ready().await?;
    stays("the first replica keeps the lease", A_WHILE, || async {
        let holder = holder(&cluster).await?;
        Ok((holder != leader).then(|| format!("the lease is held by {holder:?}")))
    })
    .await?;
    first.process().kill();
    let leader =
        holder_until(&cluster, "another leader", |holder| !holder.is_empty() && holder != leader).await?;
    let wiped = Patch::Merge(json!({ "status": { "recommendation": null } }));
    let vpas: Api<VerticalPodAutoscaler> = cluster.api();
    vpas.patch_status("app", &PatchParams::default(), &wiped).await.doing("wipe the recommendation")?;
    cluster.vpa_until("app", "a recommendation of the second replica", has_recommendation).await?;
    second.stop().await?;
    let holder = holder(&cluster).await?;
    if holder == leader {
        return Err(Error::expectation(format!(
            "the lease is still held by {holder} after its holder ended"
        )));
    }
    cluster.clean_up().await;
    Ok(())
}

fn has_recommendation(vpa: &VerticalPodAutoscaler) -> bool {
    vpa.status.as_ref().is_some_and(|status| status.recommendation.is_some())
}

async fn holder(cluster: &Cluster) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(cluster.client().clone(), cluster.system());
    let lease = leases.get_opt(RECOMMENDER).await.doing(format!("get lease {RECOMMENDER}"))?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default())
}

async fn holder_until(cluster: &Cluster, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
    wait_for(what, SOON, || async {
        let holder = holder(cluster).await?;
        Ok(if wanted(&holder) { Seen::Done(holder) } else { Seen::Not(format!("held by {holder:?}")) })
    })
    .await
}
