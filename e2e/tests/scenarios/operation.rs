//! Starting, stopping and standing in for each other.

use e2e::bed::Bed;
use e2e::error::{Doing, Result};
use e2e::kubeconfig::{self, Endpoint, Identity};
use e2e::programs::Program;
use kube::api::Api;

/// Exit codes that the programs promise.
const CLUSTER_UNREACHABLE: i32 = 3;
const CRDS_MISSING: i32 = 4;
const PERMISSION_MISSING: i32 = 5;

/// Nobody listens where the kubeconfig says.
pub(crate) async fn an_unreachable_cluster_ends_a_program_with_a_clear_message(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let url = format!("http://127.0.0.1:{}", e2e::control_plane::free_port()?);
    let path = kubeconfig::path(cluster.dir(), "nobody");
    kubeconfig::write(&path, &Endpoint { url: url.clone(), authority: None }, &Identity::Anonymous)?;
    cluster.webhook_certificate()?;
    for program in Program::ALL {
        let launch = cluster.program(program).kubeconfig(&path);
        let launch = match program {
            Program::AdmissionController => launch.webhook_files(e2e::control_plane::free_port()?),
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
            Program::AdmissionController => launch.webhook_files(e2e::control_plane::free_port()?),
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
            Program::AdmissionController => launch.webhook_files(e2e::control_plane::free_port()?),
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
