//! What the admission controller warns of, as a client of the API server sees it.

use e2e::bed::Bed;
use e2e::cluster::{Cluster, SOON};
use e2e::error::{Doing, Error, Result};
use e2e::programs::Program;
use e2e::wait::{Seen, wait_for};
use e2e::workload::{Vpa, Workload};
use http::{Method, Request};
use http_body_util::BodyExt;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

/// Each kind of warning is in the API server's answer, no VPA is refused for one, and a VPA that is refused is so with
/// the path of the field.
pub(crate) async fn a_vpa_that_will_disappoint_is_warned_of(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let mut admission = cluster.start_admission().await?;
    // Without pods: nothing is to be scaled here.
    let app = Workload::deployment("app").replicas(0);
    let (queue, worker) =
        (Workload::deployment("queue").replicas(0), Workload::deployment("worker").replicas(0));
    for workload in [&app, &queue, &worker] {
        cluster.create(workload.object(cluster.namespace())).await?;
    }
    // From here on the webhook is in force, and knows the target.
    warned(&cluster, &app.vpa("Auto"), &["\"Auto\" mode is deprecated"]).await?;
    warned(&cluster, &app.vpa("Recreate"), &[]).await?;

    let gone = "spec.targetRef: there is no Deployment \"gone\" in namespace";
    warned(&cluster, &Vpa::new("gone", "Deployment", "gone", "Recreate"), &[gone]).await?;
    let rollout = json!({ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "app" });
    let unknown = "spec.targetRef: API group \"argoproj.io\" has no kind \"Rollout\"";
    warned(&cluster, &app.vpa("Recreate").with("targetRef", rollout), &[unknown]).await?;

    cluster.create(hpa(&cluster, "queue-hpa", "queue", "memory", json!([]))).await?;
    cluster.create(hpa(&cluster, "keda-hpa-worker", "worker", "cpu", scaled_object(&cluster).await?)).await?;
    let clash = "spec.targetRef: HPA \"queue-hpa\" scales this target on memory";
    warned(&cluster, &queue.vpa("Recreate"), &[clash]).await?;
    let clash =
        "spec.targetRef: KEDA ScaledObject \"scaled\" (HPA \"keda-hpa-worker\") scales this target on cpu";
    warned(&cluster, &worker.vpa("InPlaceOrRecreate"), &[clash]).await?;
    warned(&cluster, &queue.vpa("Off"), &[]).await?;
    let only_cpu = policy(json!({ "controlledResources": ["cpu"] }));
    warned(&cluster, &queue.vpa("Recreate").with("resourcePolicy", only_cpu), &[]).await?;

    bounds(&cluster, &app).await?;
    changes(&cluster, &app).await?;
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

/// Bounds that cannot be met: those of the VPA by each other, by the namespace, by the nodes.
async fn bounds(cluster: &Cluster, app: &Workload) -> Result<()> {
    let bounded = |more: Value| app.vpa("Recreate").with("resourcePolicy", policy(more));
    let field = |bound: &str| format!("spec.resourcePolicy.containerPolicies[0].{bound}");
    // The nodes of the scenarios have 64 cores and 256 GiB.
    let beyond = format!("{}: 1k is more than any node can give to pods", field("minAllowed[cpu]"));
    warned(cluster, &bounded(json!({ "minAllowed": { "cpu": "1000" } })), &[&beyond]).await?;
    let beyond = format!("{}: 1Ti is more than any node can give to pods", field("maxAllowed[memory]"));
    warned(cluster, &bounded(json!({ "maxAllowed": { "memory": "1Ti" } })), &[&beyond]).await?;
    let limits = json!([{ "type": "Container", "min": { "memory": "64Mi" }, "max": { "cpu": "2" } }]);
    cluster
        .create(json!({
            "apiVersion": "v1", "kind": "LimitRange", "spec": { "limits": limits },
            "metadata": { "name": "limits", "namespace": cluster.namespace() },
        }))
        .await?;
    let above = format!("{}: 3 is above the most that a LimitRange", field("minAllowed[cpu]"));
    let below = format!("{}: 32Mi is below the least that a LimitRange", field("maxAllowed[memory]"));
    let both = json!({ "minAllowed": { "cpu": "3" }, "maxAllowed": { "memory": "32Mi" } });
    warned(cluster, &bounded(both), &[&above, &below]).await?;

    let swapped = bounded(json!({ "minAllowed": { "cpu": "2" }, "maxAllowed": { "cpu": "1" } }));
    let answer = ask(cluster, Method::POST, "?dryRun=All", &swapped.object(cluster.namespace())).await?;
    let path = field("maxAllowed[cpu]");
    if answer.status == 422 && answer.body.contains(&path) {
        return Ok(());
    }
    Err(Error::expectation(format!("a minimum above the maximum: not 422 with {path}: {answer:?}")))
}

/// A second VPA, and what changes of a VPA are told of.
async fn changes(cluster: &Cluster, app: &Workload) -> Result<()> {
    cluster.create_vpa(&app.vpa("Recreate")).await?;
    let second = Vpa::new("second", "Deployment", app.name(), "Recreate");
    let rival = "spec.targetRef: VPA \"app\" names the same target; pods follow the oldest that is not Off, which is \"app\"";
    warned(cluster, &second, &[rival]).await?;
    cluster.create_vpa(&second).await?;
    let patched = |patch: Value| async move {
        let answer = ask(cluster, Method::PATCH, "/second", &patch).await?;
        if answer.status == 200 { Ok(answer.warnings) } else { Err(answer.unexpected("a change of the VPA")) }
    };
    let labelled = patched(json!({ "metadata": { "labels": { "team": "a" } } })).await?;
    if !labelled.is_empty() {
        return Err(Error::expectation(format!("a new label alone is warned of: {labelled:?}")));
    }
    let changed = patched(json!({ "spec": { "updatePolicy": { "updateMode": "Initial" } } })).await?;
    if changed.len() != 1 || !changed[0].starts_with(rival) {
        return Err(Error::expectation(format!(
            "a change of the spec: expected {rival:?}, found {changed:?}"
        )));
    }
    Ok(())
}

/// Without the rights that only warnings need, the program works and says which are missing.
pub(crate) async fn vpas_are_reviewed_without_the_right_to_read_nodes(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    for resource in ["horizontalpodautoscalers", "nodes"] {
        cluster.access()?.revoke(cluster.client(), Program::AdmissionController, resource).await?;
    }
    let app = Workload::deployment("app").replicas(0);
    cluster.create(app.object(cluster.namespace())).await?;
    let mut admission = cluster.start_admission().await?;
    let large = policy(json!({ "minAllowed": { "cpu": "1000" } }));
    let vpa = app.vpa("Auto").with("resourcePolicy", large);
    warned(&cluster, &vpa, &["\"Auto\" mode is deprecated"]).await?;
    admission.stop().await?;
    let path = bed.logs().join("admission-controller.log");
    let log = std::fs::read_to_string(&path).unwrap_or_default();
    for missing in
        ["list horizontalpodautoscalers", "watch horizontalpodautoscalers", "list nodes", "watch nodes"]
    {
        let said = log.matches(&format!("missing={missing}")).count();
        if said != 1 {
            let path = path.display();
            return Err(Error::expectation(format!(
                "{path} says {said} times, not once, that {missing} is missing"
            )));
        }
    }
    cluster.clean_up().await;
    Ok(())
}

/// An answer of the API server.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// Texts of the `Warning` headers.
    warnings: Vec<String>,
    body: String,
}

impl Answer {
    fn unexpected(&self, what: &str) -> Error {
        Error::expectation(format!("{what}: unexpected answer {self:?}"))
    }
}

/// Sends a request about VPAs. The client's typed calls do not show headers.
async fn ask(cluster: &Cluster, method: Method, rest: &str, body: &Value) -> Result<Answer> {
    let namespace = cluster.namespace();
    let path = format!("/apis/autoscaling.k8s.io/v1/namespaces/{namespace}/verticalpodautoscalers{rest}");
    let content_type = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(&path)
        .header("Content-Type", content_type)
        .body(body.to_string().into_bytes().into())
        .map_err(|error| Error::expectation(error.to_string()))?;
    let answer = cluster.client().send(request).await.doing(&path)?;
    let texts = answer.headers().get_all("Warning").iter().filter_map(|value| warning(value.as_bytes()));
    let (status, warnings) = (answer.status().as_u16(), texts.collect());
    let body = answer.into_body().collect().await.doing(&path)?.to_bytes();
    Ok(Answer { status, warnings, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The text of a header: `299 - "…"`.
fn warning(header: &[u8]) -> Option<String> {
    let header = std::str::from_utf8(header).ok()?;
    let quoted = header.strip_prefix("299 - \"")?.strip_suffix('"')?;
    Some(quoted.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// Waits until the creation of the VPA, which is only tried, is allowed with warnings that begin or hold so, and no
/// others. The webhook, and what it looks at, take effect a moment after they are created.
async fn warned(cluster: &Cluster, vpa: &Vpa, expected: &[&str]) -> Result<()> {
    wait_for(format!("the warnings {expected:?} about VPA {}", vpa.name()), SOON, || async {
        let answer = ask(cluster, Method::POST, "?dryRun=All", &vpa.object(cluster.namespace())).await?;
        if answer.status != 201 {
            return Err(answer.unexpected("a VPA that may be created"));
        }
        let found = &answer.warnings;
        let fits = found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.contains(expected));
        Ok(if fits { Seen::Done(()) } else { Seen::Not(format!("{found:?}")) })
    })
    .await
}

fn policy(more: Value) -> Value {
    let mut policy = more;
    policy["containerName"] = "*".into();
    json!({ "containerPolicies": [policy] })
}

fn hpa(cluster: &Cluster, name: &str, target: &str, resource: &str, owners: Value) -> Value {
    let metric = json!({ "name": resource, "target": { "type": "Utilization", "averageUtilization": 60 } });
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name, "namespace": cluster.namespace(), "ownerReferences": owners },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": target },
            "maxReplicas": 5, "metrics": [{ "type": "Resource", "resource": metric }],
        },
    })
}

/// An owner as KEDA writes it. It has the UID of an object that is there, else the garbage collector would take what it
/// owns.
async fn scaled_object(cluster: &Cluster) -> Result<Value> {
    let worker = cluster.api::<Deployment>().get("worker").await.doing("get Deployment worker")?;
    Ok(json!([{
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "scaled", "uid": worker.metadata.uid,
        "controller": true, "blockOwnerDeletion": true,
    }]))
}
