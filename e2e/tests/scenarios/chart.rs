//! The Helm chart on a real API server.

use e2e::access;
use e2e::bed::Bed;
use e2e::chart;
use e2e::error::{Doing, Error, Result};
use kube::api::{Api, DeleteParams};

/// What the chart can be told that changes which objects it has.
const VARIANTS: &[(&str, &[&str])] = &[
    ("as it comes", &[]),
    ("one replica each", &["recommender.replicas=1", "updater.replicas=1", "admissionController.replicas=1"]),
    ("webhook registered by the program", &["admissionController.registerWebhook=true"]),
    (
        "certificates made by the program",
        &["admissionController.registerWebhook=true", "admissionController.tls.managed=true"],
    ),
    (
        "pods fail without the webhook",
        &["admissionController.mutatingWebhookConfiguration.failurePolicy=Fail"],
    ),
    ("recommender alone", &["updater.enabled=false", "admissionController.enabled=false"]),
];

/// Helm renders the chart, the API server knows every field of it, and what was rendered for the scenarios' service
/// accounts is what the chart gives today.
pub(crate) async fn the_api_server_accepts_the_chart(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let tools = bed.tools().await?;
    chart::lint(&tools)?;
    access::check_rendered_file(&tools)?;
    let namespace = cluster.system();
    let alone = crate::WEBHOOK_CONFIGURATION.lock().await;
    for (what, values) in VARIANTS {
        let objects = chart::render(&tools, "vpa", namespace, values)?;
        if objects.is_empty() {
            return Err(Error::expectation(format!("chart, {what}: no objects")));
        }
        for object in &objects {
            chart::apply(cluster.client(), object, true).await?;
        }
    }
    drop(alone);
    // For real, so that objects meet each other; and away again, since the webhook is the whole cluster's.
    let mut objects =
        chart::render(&tools, "vpa", namespace, &["recommender.replicas=0", "updater.replicas=0"])?;
    objects.retain(|object| {
        object.types.as_ref().is_none_or(|types| types.kind != "MutatingWebhookConfiguration")
    });
    for object in &objects {
        chart::apply(cluster.client(), object, false).await?;
    }
    let crds: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(cluster.client().clone());
    for crd in chart::crds()? {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let found = crds.get(&name).await.doing(format!("get CRD {name}"))?;
        let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
        if !conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
            return Err(Error::expectation(format!("CRD {name} is not established: {conditions:?}")));
        }
        if let Some(bad) = conditions.iter().find(|c| c.type_ == "NonStructuralSchema" && c.status == "True")
        {
            return Err(Error::expectation(format!("CRD {name}: {bad:?}")));
        }
    }
    for object in objects.iter().rev() {
        let name = object.metadata.name.clone().unwrap_or_default();
        chart::api(cluster.client(), object)?
            .delete(&name, &DeleteParams::background())
            .await
            .doing(format!("delete {}", chart::title(object)))?;
    }
    cluster.clean_up().await;
    Ok(())
}
