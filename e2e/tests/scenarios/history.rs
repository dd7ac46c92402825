//! History from a real Prometheus.

use e2e::bed::Bed;
use e2e::cluster::{A_WHILE, Cluster, SOON};
use e2e::error::{Doing, Error, Result};
use e2e::ports::free_port;
use e2e::programs::{Program, Running};
use e2e::prometheus::{PASSWORD, Prometheus, Series, USER};
use e2e::wait::{Seen, stays, wait_for};
use e2e::workload::Workload;
use kube::api::{Api, ListParams};
use vpa_api::VerticalPodAutoscalerCheckpoint;

use crate::recommend::target_within;

const GIB: f64 = 1_073_741_824.0;

/// A day in which a pod of the workload, which is gone since, used two cores and three GiB.
fn past(cluster: &Cluster, port: u16) -> Result<Prometheus> {
    let namespace = cluster.namespace();
    let container =
        format!(r#"{{job="cadvisor",namespace="{namespace}",pod="app-of-yesterday",container="app"}}"#);
    let other = format!(r#"{{job="other",namespace="{namespace}",pod="app-of-yesterday",container="app"}}"#);
    let labels = format!(r#"{{namespace="{namespace}",pod="app-of-yesterday",label_app="app"}}"#);
    let series = [
        Series {
            metric: "container_cpu_usage_seconds_total",
            labels: container.clone(),
            value: |second| 2.0 * second as f64,
        },
        Series { metric: "container_memory_working_set_bytes", labels: container, value: |_| 3.0 * GIB },
        // A job that is not asked for.
        Series { metric: "container_memory_working_set_bytes", labels: other, value: |_| 90.0 * GIB },
        Series { metric: "kube_pod_labels", labels, value: |_| 1.0 },
    ];
    Prometheus::filled(cluster.dir(), &cluster.dir().join("prometheus.log"), port, 86_400, &series)
}

async fn start(cluster: &Cluster, port: u16) -> Result<Running> {
    let flags = [
        "--storage=prometheus".to_owned(),
        format!("--prometheus-address=http://127.0.0.1:{port}"),
        format!("--username={USER}"),
        format!("--password={PASSWORD}"),
        "--prometheus-cadvisor-job-name=cadvisor".to_owned(),
        "--history-length=1d".to_owned(),
        "--history-resolution=10m".to_owned(),
        "--metric-for-pod-labels=kube_pod_labels".to_owned(),
        "--pod-label-prefix=label_".to_owned(),
        "--pod-namespace-label=namespace".to_owned(),
        "--pod-name-label=pod".to_owned(),
        "--container-pod-name-label=pod".to_owned(),
        "--container-name-label=container".to_owned(),
        // As outside of these scenarios: a day counts.
        "--cpu-histogram-decay-half-life=24h".to_owned(),
        "--memory-histogram-decay-half-life=24h".to_owned(),
        "--memory-aggregation-interval=24h".to_owned(),
    ];
    flags
        .into_iter()
        .fold(cluster.program(Program::Recommender), |launch, flag| launch.arg(flag))
        .start()
        .await
}

/// Without Prometheus nothing is published and the program says why; once it is there, the first recommendation follows
/// from the whole history, and no checkpoint is written.
pub(crate) async fn history_comes_from_prometheus_once_it_is_there(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let port = free_port()?;
    let prometheus = past(&cluster, port)?;
    let app = Workload::deployment("app").usage("50m", "100Mi");
    cluster.create_vpa(&app.vpa("Off")).await?;
    cluster.deploy(&app).await?;
    let mut recommender = start(&cluster, port).await?;
    wait_for("a readiness that names the history", SOON, || async {
        let answer = recommender.get("/readyz").await;
        let text = answer.map(|(code, text)| format!("{code} {text}")).unwrap_or_default();
        let said =
            text.starts_with("503") && text.contains("history from Prometheus is read to 0 %; last failure");
        Ok(if said { Seen::Done(()) } else { Seen::Not(text) })
    })
    .await?;
    stays("no recommendation without history", A_WHILE, || async {
        let vpa = cluster.vpa("app").await?;
        let published = vpa.status.and_then(|status| status.recommendation).is_some();
        Ok(published.then(|| "there is a recommendation".to_owned()))
    })
    .await?;
    let mut server = prometheus.start()?;
    // Two cores and 3 GiB, with 15 % more and a bucket of 5 %.
    target_within(&cluster, "app", 2200..=2500, 3400..=3900).await?;
    recommender.ready().await?;
    server.check_running()?;
    recommender.stop().await?;
    let checkpoints: Api<VerticalPodAutoscalerCheckpoint> = cluster.api();
    let left = checkpoints.list(&ListParams::default()).await.doing("list checkpoints")?.items.len();
    if left > 0 {
        return Err(Error::expectation(format!("{left} checkpoints although history is in Prometheus")));
    }
    server.kill();
    cluster.clean_up().await;
    Ok(())
}
