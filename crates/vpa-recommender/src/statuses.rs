//! Writing statuses.

use kube::Api;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::names::condition::{
    CONFIG_DEPRECATED, CONFIG_UNSUPPORTED, NO_PODS_MATCHED, RECOMMENDATION_PROVIDED,
};
use vpa_api::vpa::VerticalPodAutoscalerStatus;
use vpa_core::recommend::StatusWrite;
use vpa_runtime::client::Failure;
use vpa_runtime::executor::{Attempt, Report};
use vpa_runtime::{Cluster, Executor, Outcome, patch};

/// Conditions that the recommender sets; all others are left as they are found.
const OWN_CONDITIONS: [&str; 4] =
    [CONFIG_DEPRECATED, CONFIG_UNSUPPORTED, NO_PODS_MATCHED, RECOMMENDATION_PROVIDED];

/// Writes statuses until the deadline.
pub(crate) async fn write(
    cluster: &Cluster,
    executor: &Executor,
    writes: Vec<StatusWrite>,
    deadline: Instant,
    stop: &CancellationToken,
) -> Report<StatusWrite, ()> {
    executor
        .run(writes, deadline, stop, |write, attempt| {
            let api = Api::namespaced(cluster.client.clone(), &write.vpa.namespace);
            // Writes are handed over by reference and outlived by the request.
            let write = write.clone();
            async move { one(&api, &write, attempt).await }
        })
        .await
}

async fn one(api: &Api<VerticalPodAutoscaler>, write: &StatusWrite, attempt: u32) -> Attempt<()> {
    let present = if attempt == 0 {
        None
    } else {
        match api.get(&write.vpa.name).await {
            Ok(present) if present.metadata.uid != write.object.metadata.uid => {
                return Attempt::Over(Outcome::NotFound);
            }
            Ok(present) => Some(present),
            Err(error) => return Attempt::Over(Failure::of(&error).into()),
        }
    };
    let present = present.as_ref().unwrap_or(&write.object);
    let status = onto(&write.status, present.status.as_ref());
    let body = |status: Option<&VerticalPodAutoscalerStatus>| {
        status.map_or(Ok(Value::Object(serde_json::Map::new())), serde_json::to_value)
    };
    let (from, to) = match (body(present.status.as_ref()), body(Some(&status))) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(error), _) | (_, Err(error)) => return Attempt::Over(Outcome::Invalid(error.to_string())),
    };
    let Some(change) = patch::diff(&from, &to) else { return Attempt::Over(Outcome::Unchanged) };
    let version = present.metadata.resource_version.as_deref();
    patch::merge_status(api, &write.vpa.name, change, version).await.into()
}

/// The status to write over what is there: conditions of others stay.
fn onto(
    status: &VerticalPodAutoscalerStatus,
    present: Option<&VerticalPodAutoscalerStatus>,
) -> VerticalPodAutoscalerStatus {
    let own = |type_: &str| OWN_CONDITIONS.contains(&type_);
    let ours = status.conditions.iter().flatten().filter(|condition| own(&condition.type_));
    let present = present.and_then(|present| present.conditions.as_deref()).unwrap_or(&[]);
    // The last of two with the same type counts, and only it is kept.
    let theirs = present.iter().enumerate().filter(|(place, condition)| {
        let again = present[place + 1..].iter().any(|later| later.type_ == condition.type_);
        !own(&condition.type_) && !again
    });
    let mut conditions: Vec<_> = ours.chain(theirs.map(|(_, condition)| condition)).cloned().collect();
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    VerticalPodAutoscalerStatus { conditions: Some(conditions), ..status.clone() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vpa_api::vpa::{VerticalPodAutoscalerCondition, VerticalPodAutoscalerSpec};
    use vpa_core::model::VpaId;
    use vpa_runtime::metrics::RuntimeMetrics;

    use vpa_core::recommend::{Need, News};
    use vpa_runtime::Pacer;

    use super::*;
    use crate::testing::{Call, refusal, scripted};

    fn status(conditions: &[(&str, &str)]) -> VerticalPodAutoscalerStatus {
        let condition = |(type_, status): &(&str, &str)| VerticalPodAutoscalerCondition {
            type_: (*type_).to_owned(),
            status: (*status).to_owned(),
            ..VerticalPodAutoscalerCondition::default()
        };
        VerticalPodAutoscalerStatus {
            conditions: Some(conditions.iter().map(condition).collect()),
            ..VerticalPodAutoscalerStatus::default()
        }
    }

    fn object(version: &str, uid: &str, conditions: &[(&str, &str)]) -> VerticalPodAutoscaler {
        let mut object = VerticalPodAutoscaler::new("v", VerticalPodAutoscalerSpec::default());
        object.metadata.namespace = Some("n".to_owned());
        object.metadata.uid = Some(uid.to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        object.status = Some(status(conditions));
        object
    }

    fn write_of(object: VerticalPodAutoscaler, conditions: &[(&str, &str)]) -> StatusWrite {
        StatusWrite {
            vpa: VpaId::of_vpa(&object),
            object: Arc::new(object),
            status: status(conditions),
            need: Need { news: News::Other, weight: 1.0 },
            awaited_since: None,
        }
    }

    async fn outcome(answers: Vec<(u16, Value)>, write: StatusWrite) -> (&'static str, Vec<Call>) {
        let (cluster, calls) = scripted(answers);
        let metrics = Arc::new(RuntimeMetrics::new(&prometheus::Registry::new()).unwrap());
        let executor = Executor::new("test", Pacer::new(1), metrics);
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let report =
            super::write(&cluster, &executor, vec![write], deadline, &CancellationToken::new()).await;
        let calls = calls.lock().clone();
        (report.outcomes[0].1.label(), calls)
    }

    #[tokio::test]
    async fn a_conflict_is_retried_over_what_is_there_by_then() {
        let seen = object("1", "u", &[("RecommendationProvided", "False")]);
        let fresh = object("2", "u", &[("Alien", "True"), ("RecommendationProvided", "False")]);
        let answers = vec![
            refusal(409, "Conflict"),
            (200, serde_json::to_value(&fresh).unwrap()),
            (200, serde_json::to_value(&fresh).unwrap()),
        ];
        let (label, calls) = outcome(answers, write_of(seen, &[("RecommendationProvided", "True")])).await;
        assert_eq!(label, "done");
        let methods: Vec<_> =
            calls.iter().map(|(method, path, _)| (method.as_str(), path.as_str())).collect();
        let path = "/apis/autoscaling.k8s.io/v1/namespaces/n/verticalpodautoscalers/v";
        let status_path = format!("{path}/status");
        assert_eq!(
            methods,
            [("PATCH", status_path.as_str()), ("GET", path), ("PATCH", status_path.as_str())]
        );
        let body = |n: usize| calls[n].2.clone();
        assert_eq!(body(0)["metadata"]["resourceVersion"], "1");
        assert_eq!(body(2)["metadata"]["resourceVersion"], "2");
        assert_eq!(
            body(2)["status"],
            serde_json::json!({"conditions": [
                {"type": "Alien", "status": "True"},
                {"type": "RecommendationProvided", "status": "True"},
            ]})
        );
    }

    #[tokio::test]
    async fn a_recreated_vpa_and_one_that_is_as_wanted_are_left_alone() {
        let wanted = [("RecommendationProvided", "True")];
        for (uid, conditions, label) in [("other", [("A", "B")], "not_found"), ("u", wanted, "unchanged")] {
            let fresh = object("2", uid, &conditions);
            let answers = vec![refusal(409, "Conflict"), (200, serde_json::to_value(&fresh).unwrap())];
            let (got, calls) = outcome(answers, write_of(object("1", "u", &[]), &wanted)).await;
            assert_eq!((got, calls.len()), (label, 2));
        }
    }

    #[test]
    fn conditions_of_others_stay_and_own_ones_are_replaced() {
        let computed = status(&[("Alien", "Old"), ("RecommendationProvided", "True")]);
        let present = status(&[("Alien", "A"), ("Alien", "B"), ("NoPodsMatched", "True"), ("Zebra", "Z")]);
        let want = status(&[("Alien", "B"), ("RecommendationProvided", "True"), ("Zebra", "Z")]);
        assert_eq!(onto(&computed, Some(&present)), want);
        assert_eq!(onto(&computed, None), status(&[("RecommendationProvided", "True")]));
    }
}
