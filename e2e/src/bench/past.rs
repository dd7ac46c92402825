//! Eight days that a fleet has behind it, as the checkpoints that a recommender would have written.

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, PostParams};
use vpa_api::VerticalPodAutoscalerCheckpoint;
use vpa_core::model::VpaId;

use super::fleet::{self, CONTAINER, Fleet, PODS_PER_VPA};
use super::in_process::Model;
use super::pool::for_each;
use super::usage::Wander;
use crate::error::{Doing, Error, Result};

/// The longest time that a recommendation rests on.
const PAST: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Time between two samples.
const RESOLUTION: SignedDuration = SignedDuration::from_mins(1);

/// Cycles over which writes of checkpoints are spread by default: some were written in each of the last ones.
const SPREAD: usize = 10;

/// Checkpoints of all VPAs, given usage that wandered until `now`.
fn checkpoints(fleet: Fleet, now: Timestamp) -> Result<Vec<VerticalPodAutoscalerCheckpoint>> {
    let mut time = now - PAST;
    let mut model = Model::new(fleet, time)?;
    let mut wander = Wander::new(fleet.pods(), PODS_PER_VPA);
    let mut made = Vec::with_capacity(fleet.vpas);
    while time < now {
        model.take_usage(&wander.step(time), time);
        model.state.take_quality();
        let left = (now - time).total(jiff::Unit::Minute).unwrap_or_default() as usize;
        if left <= SPREAD {
            for workload in (0..fleet.vpas).filter(|workload| workload % SPREAD == left % SPREAD) {
                let id = VpaId::new(&fleet.namespace_of_pod(workload * PODS_PER_VPA), &fleet::name(workload));
                made.extend(model.state.checkpoint(&id, CONTAINER, time));
            }
        }
        time += RESOLUTION;
    }
    Ok(made)
}

/// Creates them.
///
/// # Errors
/// If the API server refuses one.
pub(super) async fn create(fleet: Fleet, client: &Client) -> Result<()> {
    let now = Timestamp::now();
    let made = tokio::task::spawn_blocking(move || checkpoints(fleet, now)).await;
    let made = made.map_err(|error| Error::expectation(error.to_string()))??;
    for_each(made, |checkpoint| async move {
        let namespace = checkpoint.metadata.namespace.clone().unwrap_or_default();
        let api: Api<VerticalPodAutoscalerCheckpoint> = Api::namespaced(client.clone(), &namespace);
        let done = api.create(&PostParams::default(), &checkpoint).await;
        let name = checkpoint.metadata.name.as_deref().unwrap_or_default();
        done.doing(format!("create checkpoint {namespace}/{name}")).map(drop)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vpa_has_a_past_of_eight_days() {
        let fleet = Fleet { vpas: 12 };
        let made = checkpoints(fleet, Timestamp::from_second(1_800_000_000).unwrap()).unwrap();
        assert_eq!(made.len(), fleet.vpas);
        let samples = 8 * 24 * 60 * PODS_PER_VPA as i64;
        for checkpoint in made {
            let status = checkpoint.status.unwrap();
            assert!((samples - 20..=samples).contains(&status.total_samples_count), "{status:?}");
        }
    }
}
