//! Programs that end without warning.

use std::time::Duration;

use e2e::bed::Bed;
use e2e::error::{Error, Result};
use e2e::programs::Program;
use e2e::workload::Workload;
use vpa_api::{Quantity, VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};

use crate::follow::{Followed, Observer};
use crate::recommend::target_within;

const KILLS: u64 = 15;

/// Moments between the start of a program and its end. The step shares no factor with the span, so they lie spread over
/// it: some before the first request, most in the first two cycles.
const SPAN_MILLIS: u64 = 2000;
const STEP_MILLIS: u64 = 837;

/// A recommender that is killed again and again takes no recommendation back, and each one goes on with all samples that
/// the one before it had written.
pub(crate) async fn a_recommender_killed_at_any_moment_goes_on_where_it_was(bed: Bed) -> Result<()> {
    let cluster = bed.cluster().await?;
    let app = Workload::deployment("app").replicas(2).usage("300m", "400Mi");
    cluster.create_vpa(&app.vpa("Off")).await?;
    cluster.deploy(&app).await?;
    let program = || cluster.program(Program::Recommender).arg("--checkpoints-write-interval=1s");
    let mut recommender = program().start().await?;
    target_within(&cluster, "app", 300..=380, 400..=520).await?;
    let vpas = Followed::begin(cluster.api(), Vpas::default());
    let checkpoints = Followed::begin(cluster.api(), Samples::default());
    let before = checkpoints.until("samples in a checkpoint", |seen| seen.count > 0).await?.count;
    for kill in 0..KILLS {
        recommender.process().kill();
        recommender = program().title(&format!("recommender-{kill}")).start().await?;
        tokio::time::sleep(Duration::from_millis(kill * STEP_MILLIS % SPAN_MILLIS)).await;
        recommender.process().check_running()?;
    }
    checkpoints.until("more samples in the checkpoint", |seen| seen.count > before).await?;
    recommender.stop().await?;
    for violation in [vpas.now().violation, checkpoints.now().violation] {
        violation.map_or(Ok(()), |text| Err(Error::expectation(text)))?;
    }
    cluster.clean_up().await;
    Ok(())
}

/// VPAs that have a recommendation, of which none may go away or become absurd.
#[derive(Clone, Default)]
struct Vpas {
    violation: Option<String>,
}

impl Observer for Vpas {
    type Object = VerticalPodAutoscaler;

    fn see(&mut self, vpa: &VerticalPodAutoscaler) {
        let recommendation = vpa.status.as_ref().and_then(|status| status.recommendation.as_ref());
        let containers = recommendation.and_then(|found| found.container_recommendations.as_deref());
        let good = containers.is_some_and(|containers| {
            let amounts = |resource: &str| -> Option<[Quantity; 3]> {
                let container = containers.first()?;
                let [lower, upper] = [&container.lower_bound, &container.upper_bound];
                let lists = [lower.as_ref()?, &container.target, upper.as_ref()?];
                let [lower, target, upper] = lists.map(|list| list.get(resource).cloned());
                Some([lower?, target?, upper?])
            };
            ["cpu", "memory"].into_iter().all(|resource| {
                amounts(resource).is_some_and(|[lower, target, upper]| {
                    lower.signum() > 0 && lower <= target && target <= upper
                })
            })
        });
        if !good {
            self.violation.get_or_insert(format!("the recommendation became {:?}", vpa.status));
        }
    }
}

/// The number of samples in the only checkpoint, which may not go down.
#[derive(Clone, Default)]
struct Samples {
    count: i64,
    violation: Option<String>,
}

impl Observer for Samples {
    type Object = VerticalPodAutoscalerCheckpoint;

    fn see(&mut self, checkpoint: &VerticalPodAutoscalerCheckpoint) {
        let count = checkpoint.status.as_ref().map_or(0, |status| status.total_samples_count);
        if count < self.count {
            self.violation.get_or_insert(format!("the checkpoint had {} samples, then {count}", self.count));
        }
        self.count = count;
    }
}
