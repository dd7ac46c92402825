//! Reading, writing and removing checkpoints.

use std::collections::BTreeSet;

use kube::Api;
use kube::api::{DeleteParams, ListParams, Preconditions};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vpa_api::VerticalPodAutoscalerCheckpoint;
use vpa_core::model::history::DETAIL_ANNOTATION;
use vpa_core::model::{CheckpointWrite, ObjectId, VpaId};
use vpa_runtime::client::{Failure, chain};
use vpa_runtime::executor::{Attempt, Report};
use vpa_runtime::{Cluster, Error, Executor, Outcome, patch};

/// Checkpoints asked for at once: about 1.5 MB.
const PAGE: u32 = 500;

/// Reads all checkpoints, page by page, and hands each to `take`. Returns how many there were, and how many could not
/// be read, which are left out.
///
/// # Errors
/// A page does not come, after the client's attempts.
pub(crate) async fn for_each(
    cluster: &Cluster,
    namespace: Option<&str>,
    mut take: impl FnMut(VerticalPodAutoscalerCheckpoint),
) -> Result<(usize, usize), Error> {
    // Decoded one by one, so that one that is broken does not hide the others.
    let resource = kube::api::ApiResource::erase::<VerticalPodAutoscalerCheckpoint>(&());
    let api: Api<kube::api::DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    };
    let (mut read, mut unreadable) = (0, 0);
    let mut next = None;
    loop {
        let mut params = ListParams::default().limit(PAGE);
        params.continue_token = next.take();
        let page =
            api.list(&params).await.map_err(|error| Error::other("listing checkpoints", chain(&error)))?;
        for object in page.items {
            let name = object.metadata.name.clone().unwrap_or_default();
            let namespace = object.metadata.namespace.clone().unwrap_or_default();
            let decoded = serde_json::to_value(&object).and_then(serde_json::from_value);
            match decoded {
                Ok(checkpoint) => {
                    read += 1;
                    take(checkpoint);
                }
                Err(error) => {
                    unreadable += 1;
                    tracing::warn!(namespace, checkpoint = name, %error, "a checkpoint cannot be read and is left out");
                }
            }
        }
        next = page.metadata.continue_.filter(|token| !token.is_empty());
        if next.is_none() {
            return Ok((read, unreadable));
        }
    }
}

/// Writes checkpoints until the deadline. `make` makes the object when its turn comes; without one there is nothing to
/// write any more.
pub(crate) async fn write(
    cluster: &Cluster,
    executor: &Executor,
    writes: Vec<CheckpointWrite>,
    make: impl Fn(&CheckpointWrite) -> Option<VerticalPodAutoscalerCheckpoint>,
    deadline: Instant,
    stop: &CancellationToken,
) -> Report<CheckpointWrite, ()> {
    executor
        .run(writes, deadline, stop, |write, _| {
            let api = Api::namespaced(cluster.client.clone(), &write.vpa.namespace);
            let object = make(write);
            async move {
                match object {
                    Some(object) => one(&api, &object).await,
                    None => Attempt::Over(Outcome::Unchanged),
                }
            }
        })
        .await
}

/// Replaces spec, status and annotation of the checkpoint; creates it where there is none.
async fn one(
    api: &Api<VerticalPodAutoscalerCheckpoint>,
    object: &VerticalPodAutoscalerCheckpoint,
) -> Attempt<()> {
    let name = object.metadata.name.as_deref().unwrap_or("");
    let outcome = match replace(api, name, object, false).await {
        // The annotation has no place yet: the checkpoint is of another suite.
        Err(error) if matches!(Failure::of(&error), Failure::Invalid(_)) => {
            replace(api, name, object, true).await
        }
        outcome => outcome,
    };
    match outcome {
        Err(error) if Failure::of(&error) == Failure::NotFound => {
            // 409 means that it has come up in between: the next attempt finds it.
            patch::create(api, object).await.into()
        }
        outcome => outcome.into(),
    }
}

async fn replace(
    api: &Api<VerticalPodAutoscalerCheckpoint>,
    name: &str,
    object: &VerticalPodAutoscalerCheckpoint,
    first_annotation: bool,
) -> Result<(), kube::Error> {
    let operations = operations(object, first_annotation).map_err(kube::Error::SerdeError)?;
    patch::operations(api, name, operations).await
}

/// A JSON patch, since a merge patch would keep buckets that are empty by now.
fn operations(
    object: &VerticalPodAutoscalerCheckpoint,
    first_annotation: bool,
) -> Result<json_patch::Patch, serde_json::Error> {
    let annotations = object.metadata.annotations.as_ref();
    let detail = annotations.and_then(|all| all.get(DETAIL_ANNOTATION)).cloned().unwrap_or_default();
    let (path, value) = if first_annotation {
        ("/metadata/annotations".to_owned(), json!({ DETAIL_ANNOTATION: detail }))
    } else {
        (format!("/metadata/annotations/{DETAIL_ANNOTATION}"), Value::String(detail))
    };
    serde_json::from_value(json!([
        {"op": "add", "path": path, "value": value},
        {"op": "add", "path": "/spec", "value": object.spec},
        {"op": "add", "path": "/status", "value": object.status},
    ]))
}

/// A checkpoint whose VPA is gone.
#[derive(Clone, Debug)]
pub(crate) struct Orphan {
    pub(crate) id: ObjectId,
    uid: Option<String>,
    resource_version: Option<String>,
}

/// Checkpoints without a VPA, among the namespaces that are looked at.
///
/// # Errors
/// They cannot be listed.
pub(crate) async fn orphans(
    cluster: &Cluster,
    namespace: Option<&str>,
    looks_at: impl Fn(&str) -> bool,
    exists: impl Fn(&VpaId) -> bool,
) -> Result<Vec<Orphan>, Error> {
    let mut orphans = Vec::new();
    for_each(cluster, namespace, |checkpoint| {
        let namespace = checkpoint.metadata.namespace.as_deref().unwrap_or("");
        let vpa = VpaId::new(namespace, checkpoint.spec.vpa_object_name.as_deref().unwrap_or(""));
        if looks_at(namespace) && !exists(&vpa) {
            orphans.push(Orphan {
                id: ObjectId::new(namespace, checkpoint.metadata.name.as_deref().unwrap_or("")),
                uid: checkpoint.metadata.uid.clone(),
                resource_version: checkpoint.metadata.resource_version.clone(),
            });
        }
    })
    .await?;
    Ok(orphans)
}

/// Removes checkpoints, each only as it was when it was found.
pub(crate) async fn remove(
    cluster: &Cluster,
    executor: &Executor,
    orphans: Vec<Orphan>,
    deadline: Instant,
    stop: &CancellationToken,
) -> Report<Orphan, ()> {
    executor
        .run(orphans, deadline, stop, |orphan, _| {
            let api: Api<VerticalPodAutoscalerCheckpoint> =
                Api::namespaced(cluster.client.clone(), &orphan.id.namespace);
            let name = orphan.id.name.clone();
            let preconditions =
                Preconditions { uid: orphan.uid.clone(), resource_version: orphan.resource_version.clone() };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            async move {
                match api.delete(&name, &params).await {
                    Ok(_) => Attempt::Over(Outcome::Done(())),
                    // Written since: somebody still needs it.
                    Err(error) if Failure::of(&error) == Failure::Conflict => {
                        Attempt::Over(Outcome::Unchanged)
                    }
                    Err(error) if Failure::of(&error) == Failure::NotFound => {
                        Attempt::Over(Outcome::Unchanged)
                    }
                    Err(error) => Attempt::Over(Failure::of(&error).into()),
                }
            }
        })
        .await
}

/// Which of these were orphans before: only they are removed, so that a VPA that is deleted and created again by a
/// deployment tool keeps its history.
pub(crate) fn seen_twice(found: Vec<Orphan>, before: &mut BTreeSet<ObjectId>) -> Vec<Orphan> {
    let ids = found.iter().map(|orphan| orphan.id.clone()).collect();
    let seen = std::mem::replace(before, ids);
    found.into_iter().filter(|orphan| seen.contains(&orphan.id)).collect()
}

#[cfg(test)]
mod tests {
    use vpa_runtime::Pacer;
    use vpa_runtime::metrics::RuntimeMetrics;

    use super::*;
    use crate::testing::{refusal, scripted};

    fn orphan(name: &str) -> Orphan {
        Orphan { id: ObjectId::new("n", name), uid: None, resource_version: None }
    }

    fn object() -> VerticalPodAutoscalerCheckpoint {
        let mut object = VerticalPodAutoscalerCheckpoint::default();
        object.metadata.name = Some("v-a".to_owned());
        object.metadata.annotations = Some([(DETAIL_ANNOTATION.to_owned(), "d".to_owned())].into());
        object
    }

    #[tokio::test]
    async fn a_checkpoint_is_replaced_or_made_or_gets_its_first_annotation() {
        let done = || (200, json!({"metadata": {"name": "v-a"}, "spec": {}}));
        let cases = [
            (vec![done()], "done", vec!["PATCH"]),
            (vec![refusal(404, "NotFound"), done()], "done", vec!["PATCH", "POST"]),
            (vec![refusal(422, "Invalid"), done()], "done", vec!["PATCH", "PATCH"]),
            (vec![refusal(422, "Invalid"), refusal(422, "Invalid")], "invalid", vec!["PATCH", "PATCH"]),
            (
                vec![refusal(404, "NotFound"), refusal(409, "AlreadyExists"), done()],
                "done",
                vec!["PATCH", "POST", "PATCH"],
            ),
            (vec![refusal(403, "Forbidden")], "forbidden", vec!["PATCH"]),
        ];
        for (answers, label, methods) in cases {
            let (cluster, calls) = scripted(answers);
            let metrics = std::sync::Arc::new(RuntimeMetrics::new(&prometheus::Registry::new()).unwrap());
            let executor = Executor::new("test", Pacer::new(1), metrics);
            let deadline = Instant::now() + std::time::Duration::from_secs(5);
            let stop = CancellationToken::new();
            let due = CheckpointWrite { vpa: VpaId::new("n", "v"), container: "a".into(), content: 0 };
            let report = write(&cluster, &executor, vec![due], |_| Some(object()), deadline, &stop).await;
            assert_eq!(report.outcomes[0].1.label(), label);
            let called: Vec<_> = calls.lock().iter().map(|(method, ..)| method.clone()).collect();
            assert_eq!(called, methods);
        }
    }

    #[tokio::test]
    async fn one_broken_checkpoint_hides_no_other() {
        let item = |name: &str, status: Value| json!({"metadata": {"name": name, "namespace": "n"}, "spec": {}, "status": status});
        let pages = vec![
            (
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": "x"}, "items": [
                    item("a", json!({})), item("b", json!({"totalSamplesCount": "many"})),
                ]}),
            ),
            (
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": [item("c", json!({}))]}),
            ),
        ];
        let (cluster, calls) = scripted(pages);
        let mut names = Vec::new();
        let counts = for_each(&cluster, Some("n"), |checkpoint| names.extend(checkpoint.metadata.name)).await;
        assert_eq!((counts.unwrap(), names), ((2, 1), vec!["a".to_owned(), "c".to_owned()]));
        assert_eq!(calls.lock().len(), 2);
    }

    #[test]
    fn only_lasting_orphans_are_removed() {
        let mut before = BTreeSet::new();
        assert!(seen_twice(vec![orphan("a"), orphan("b")], &mut before).is_empty());
        let names: Vec<_> =
            seen_twice(vec![orphan("b"), orphan("c")], &mut before).into_iter().map(|o| o.id.name).collect();
        assert_eq!(names, ["b"]);
        assert!(seen_twice(vec![orphan("a")], &mut before).is_empty());
    }

    #[test]
    fn a_patch_replaces_what_the_checkpoint_says() {
        let object = object();
        let mut document = json!({
            "metadata": {"annotations": {"a": "b"}},
            "spec": {"vpaObjectName": "old"},
            "status": {"cpuHistogram": {"bucketWeights": {"7": 1}}},
        });
        json_patch::patch(&mut document, &operations(&object, false).unwrap()).unwrap();
        assert_eq!(document["metadata"]["annotations"], json!({"a": "b", DETAIL_ANNOTATION: "d"}));
        assert_eq!(document["spec"], json!({}));
        assert_eq!(document["status"], Value::Null);
        let mut bare = json!({"metadata": {}});
        assert!(json_patch::patch(&mut bare.clone(), &operations(&object, false).unwrap()).is_err());
        json_patch::patch(&mut bare, &operations(&object, true).unwrap()).unwrap();
        assert_eq!(bare["metadata"]["annotations"], json!({DETAIL_ANNOTATION: "d"}));
    }
}
