//! What the updater says of its decisions.

use e2e::bed::Bed;
use e2e::cluster::SOON;
use e2e::error::{Error, Result};
use e2e::programs::{Program, Running};
use e2e::wait::{Seen, wait_for};
use e2e::workload::Workload;
use serde_json::Value;

use crate::update::in_force;

/// `/debug/pods` tells why one pod was left alone, and from what to what another one was resized.
pub(crate) async fn each_decision_is_told_with_what_led_to_it(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let (app, alone) = (Workload::deployment("app"), Workload::deployment("alone").replicas(1));
    cluster.create_vpa(&app.vpa("InPlaceOrRecreate")).await?;
    cluster.create_vpa(&alone.vpa("Recreate")).await?;
    let mut admission = cluster.start_admission().await?;
    cluster.deploy(&app).await?;
    cluster.deploy(&alone).await?;
    for vpa in ["app", "alone"] {
        cluster.recommend(vpa, "250m", "300Mi").await?;
    }
    let mut updater = cluster.program(Program::Updater).arg("--profiling").start().await?;
    updater.ready().await?;
    cluster
        .pods_until("app", "cpu=250m in force", |pods| {
            pods.len() == 2 && pods.iter().all(|pod| in_force(pod, "cpu") == "250m")
        })
        .await?;
    let namespace = cluster.namespace();
    let page = format!("/debug/pods?namespace={namespace}&vpa=alone");
    told(
        &updater,
        &page,
        &[
            ("/pods", "1"),
            ("/vpas/0/pods/0/verdict", "leave"),
            ("/vpas/0/pods/0/reason", "BelowMinReplicas"),
            ("/vpas/0/pods/0/detail", "1 live replica, fewer than the minimum of 2"),
            ("/vpas/0/pods/0/containers/0/requests/cpu", "100m"),
            ("/vpas/0/pods/0/containers/0/recommendation/target/cpu", "250m"),
        ],
    )
    .await?;
    let page = format!("/debug/pods?namespace={namespace}&vpa=app");
    told(
        &updater,
        &page,
        &[
            ("/pods", "2"),
            ("/vpas/0/attempts/0/action", "resize"),
            ("/vpas/0/attempts/0/outcome", "done"),
            ("/vpas/0/attempts/0/from/app/requests/cpu", "100m"),
            ("/vpas/0/attempts/0/to/app/requests/cpu", "250m"),
        ],
    )
    .await?;
    let (code, text) = get(&updater, "/debug/pods?vpas=app").await?;
    if code != 400 || !text.contains("vpas: there are namespace, vpa, pod, reason and limit") {
        return Err(Error::expectation(format!("a wrong question was answered with {code}: {text}")));
    }
    updater.stop().await?;
    admission.stop().await?;
    cluster.clean_up().await;
    Ok(())
}

async fn get(updater: &Running, page: &str) -> Result<(u16, String)> {
    let answer = updater.get(page).await;
    answer.map_err(|error| Error::expectation(format!("{page} of the updater: {error}")))
}

/// Waits until the page has these texts at these places.
async fn told(updater: &Running, page: &str, wanted: &[(&str, &str)]) -> Result<()> {
    wait_for(&format!("{page} with {wanted:?}"), SOON, || async {
        let (_, text) = get(updater, page).await?;
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let found = |place: &str| match json.pointer(place) {
            Some(Value::String(text)) => text.clone(),
            other => other.map(Value::to_string).unwrap_or_default(),
        };
        let tells = wanted.iter().all(|(place, value)| found(place) == *value);
        Ok(if tells { Seen::Done(()) } else { Seen::Not(text) })
    })
    .await
}
