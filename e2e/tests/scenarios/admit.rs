//! What the admission controller does to new objects.

use e2e::bed::Bed;
use e2e::cluster::{Cluster, SOON};
use e2e::error::{Doing, Error, Result};
use e2e::launch::Launch;
use e2e::pods::{describe, request};
use e2e::ports::free_port;
use e2e::programs::Program;
use e2e::wait::{Seen, wait_for};
use e2e::workload::{Vpa, Workload};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use serde_json::json;

/// Requests are the recommended ones, limits keep their proportion to them, and the pod says who did it.
pub(crate) async fn a_created_pod_gets_the_recommendation(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app").limits(json!({ "cpu": "200m" }));
    cluster.create_vpa(&app.vpa("Initial")).await?;
    cluster.recommend("app", "250m", "300Mi").await?;
    let mut admission = cluster.start_admission().await?;
    let pods = deploy_with(&cluster, &app, "250m").await?;
    for pod in &pods {
        let limit = limit(pod, "cpu");
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let updates = annotations.get("vpaUpdates").cloned().unwrap_or_default();
        let observed = annotations.get("vpaObservedContainers").cloned().unwrap_or_default();
        if request(pod, "memory") != "300Mi"
            || limit != "500m"
            || observed != "app"
            || !updates.contains("app")
        {
            return Err(Error::expectation(format!(
                "expected memory=300Mi, a cpu limit of 500m and the annotations of VPA app; found {}, limit {limit}, \
                 {annotations:?}",
                describe(&pods)
            )));
        }
    }
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// The program enters its own webhook into the cluster, and it works.
pub(crate) async fn the_webhook_registers_itself(bed: Bed) -> Result<()> {
    const NAME: &str = "vpa-webhook-config";
    let _alone = crate::sole_webhook(&bed).await;
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app");
    cluster.create_vpa(&app.vpa("Initial")).await?;
    cluster.recommend("app", "250m", "300Mi").await?;
    cluster.webhook_certificate()?;
    let port = free_port()?;
    let launch = cluster.program(Program::AdmissionController).webhook_files(port);
    let mut admission = registered_by_url(launch, port).start().await?;
    admission.ready().await?;
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(cluster.client().clone());
    wait_for(format!("the webhook configuration {NAME}"), SOON, || async {
        let found = webhooks.get_opt(NAME).await.doing(format!("get {NAME}"))?;
        Ok(found.map_or_else(|| Seen::Not("none".to_owned()), Seen::Done))
    })
    .await?;
    deploy_with(&cluster, &app, "250m").await?;
    admission.stop().await?;

    // Without files it makes its own certificate and has the API server trust that too.
    let bare = Workload::deployment("bare");
    cluster.create_vpa(&bare.vpa("Initial")).await?;
    cluster.recommend("bare", "350m", "300Mi").await?;
    let port = free_port()?;
    let launch = cluster.program(Program::AdmissionController).arg(format!("--port={port}"));
    let mut admission = registered_by_url(launch, port).start().await?;
    admission.ready().await?;
    deploy_with(&cluster, &bare, "350m").await?;
    admission.stop().await?;
    // Left behind on purpose by the program, as by the Go suite; not by the scenario.
    webhooks.delete(NAME, &Default::default()).await.doing(format!("delete {NAME}"))?;
    cluster.clean_up().await;
    Ok(())
}

pub(crate) fn registered_by_url(launch: Launch<'_>, port: u16) -> Launch<'_> {
    let launch = launch.arg("--register-webhook=true").arg("--register-by-url=true");
    launch.arg("--webhook-address=https://127.0.0.1").arg(format!("--webhook-port={port}"))
}

/// What the schema can tell the API server refuses, the rest the webhook does; both name the field.
pub(crate) async fn an_invalid_vpa_is_refused_with_the_field_named(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let mut admission = cluster.start_admission().await?;
    let app = Workload::deployment("app");
    let policy = |entry: serde_json::Value| json!({ "containerPolicies": [entry] });
    let swapped = policy(json!({
        "containerName": "app", "minAllowed": { "cpu": "2" }, "maxAllowed": { "cpu": "1" },
    }));
    let off =
        policy(json!({ "containerName": "app", "mode": "Off", "controlledValues": "RequestsAndLimits" }));
    let cases: [(&str, Vpa, &str); 4] = [
        ("an unknown mode", app.vpa("Sometimes"), "spec.updatePolicy.updateMode"),
        ("less than one replica", app.vpa("Recreate").min_replicas(0), "spec.updatePolicy.minReplicas"),
        (
            "a minimum above the maximum",
            app.vpa("Off").with("resourcePolicy", swapped),
            "spec.resourcePolicy.containerPolicies[0]",
        ),
        (
            "values for a container that is off",
            app.vpa("Off").with("resourcePolicy", off),
            "spec.resourcePolicy.containerPolicies[0].controlledValues",
        ),
    ];
    for (what, vpa, field) in cases {
        match cluster.create_vpa(&vpa).await {
            Err(Error::Api { source, .. }) if source.to_string().contains(field) => {}
            Err(error) => {
                return Err(Error::expectation(format!("{what}: refused without naming {field}: {error}")));
            }
            Ok(()) => return Err(Error::expectation(format!("{what}: accepted"))),
        }
    }
    cluster.create_vpa(&app.vpa("Recreate")).await?;
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// Creates the workload and expects its pods to request `cpu`. The API server learns of a new webhook a moment after
/// it is created, and the admission controller of a new VPA, so the first pods may come too early: they are replaced.
pub(crate) async fn deploy_with(cluster: &Cluster, app: &Workload, cpu: &str) -> Result<Vec<Pod>> {
    cluster.deploy(app).await?;
    wait_for(format!("pods that request cpu={cpu}"), SOON, || async {
        let pods = cluster.pods(app.name()).await?;
        let ready = pods.len() == app.replica_count() && pods.iter().all(e2e::pods::is_ready);
        if ready && pods.iter().all(|pod| request(pod, "cpu") == cpu) {
            return Ok(Seen::Done(pods));
        }
        for pod in pods.iter().filter(|pod| request(pod, "cpu") != cpu) {
            let name = e2e::pods::name(pod);
            // It may have gone already.
            let _ = cluster.api::<Pod>().delete(name, &Default::default()).await;
        }
        Ok(Seen::Not(describe(&pods)))
    })
    .await
}

fn limit(pod: &Pod, resource: &str) -> String {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let limits = container.and_then(|container| container.resources.as_ref()?.limits.as_ref());
    limits.and_then(|limits| limits.get(resource)).map(|quantity| quantity.0.clone()).unwrap_or_default()
}
