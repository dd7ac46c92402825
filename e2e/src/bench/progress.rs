//! Which VPAs have a recommendation and a checkpoint, seen from outside by a watch.

use std::collections::HashSet;
use std::time::Instant;

use futures::StreamExt;
use kube::api::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vpa_api::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};

/// How far it has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Objects that are done.
    pub count: usize,
    /// When the last of them was.
    pub last: Option<Instant>,
}

/// Follows a fleet until it is dropped.
#[derive(Debug)]
pub struct Progress {
    recommended: watch::Receiver<Done>,
    checkpointed: watch::Receiver<Done>,
    tasks: [JoinHandle<()>; 2],
}

impl Progress {
    /// Begins to follow all VPAs and checkpoints.
    pub fn follow(client: &Client) -> Self {
        let (recommended, vpas) = spawn::<SeenVpa>(client);
        let (checkpointed, checkpoints) = spawn::<SeenCheckpoint>(client);
        Self { recommended, checkpointed, tasks: [vpas, checkpoints] }
    }

    /// VPAs with a recommendation.
    pub fn recommended(&self) -> Done {
        *self.recommended.borrow()
    }

    /// Checkpoints with content.
    pub fn checkpointed(&self) -> Done {
        *self.checkpointed.borrow()
    }

    /// Waits until `count` VPAs have both.
    pub async fn complete(&self, count: usize) {
        for done in [&self.recommended, &self.checkpointed] {
            // The sender lives in a task of this value, so it is never gone.
            let _ = done.clone().wait_for(|done| done.count >= count).await;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// An object that can be done.
trait Follow:
    Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static
{
    fn is_done(&self) -> bool;
}

/// A VPA, down to whether it has a recommendation.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = VerticalPodAutoscaler)]
struct SeenVpa {
    metadata: ObjectMeta,
    #[serde(default)]
    status: VpaStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct VpaStatus {
    recommendation: Recommendation,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Recommendation {
    container_recommendations: Vec<IgnoredAny>,
}

/// A checkpoint, down to whether it holds samples.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = VerticalPodAutoscalerCheckpoint)]
struct SeenCheckpoint {
    metadata: ObjectMeta,
    #[serde(default)]
    status: CheckpointStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CheckpointStatus {
    total_samples_count: i64,
}

impl Follow for SeenVpa {
    fn is_done(&self) -> bool {
        !self.status.recommendation.container_recommendations.is_empty()
    }
}

impl Follow for SeenCheckpoint {
    fn is_done(&self) -> bool {
        self.status.total_samples_count > 0
    }
}

fn spawn<K: Follow>(client: &Client) -> (watch::Receiver<Done>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(Done::default());
    (receiver, tokio::spawn(follow::<K>(Api::all(client.clone()), sender)))
}

async fn follow<K: Follow>(api: Api<K>, sender: watch::Sender<Done>) {
    let mut seen = HashSet::new();
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        // A watch that fails is begun anew by the library; what was missed comes with its list.
        let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
        if !object.is_done() {
            continue;
        }
        let ObjectMeta { namespace, name, .. } = object.meta().clone();
        if seen.insert((namespace, name)) {
            sender.send_replace(Done { count: seen.len(), last: Some(Instant::now()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn done_is_what_has_content() {
        let vpa =
            |status| serde_json::from_value::<SeenVpa>(json!({"metadata": {}, "status": status})).unwrap();
        let recommendation =
            json!({"recommendation": {"containerRecommendations": [{"containerName": "a"}]}});
        assert!(vpa(recommendation).is_done());
        assert!(!vpa(json!({"conditions": []})).is_done());
        assert!(!vpa(json!({"recommendation": {}})).is_done());
        let checkpoint = |status| {
            serde_json::from_value::<SeenCheckpoint>(json!({"metadata": {}, "status": status})).unwrap()
        };
        assert!(checkpoint(json!({"totalSamplesCount": 1})).is_done());
        assert!(!checkpoint(json!({})).is_done());
    }
}
