//! The API server, seen by a client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, EvictParams, ListParams, ObjectMeta, Patch, PatchParams,
    PostParams, WatchEvent, WatchParams,
};
use serde_json::{Value, json};
use support::client;
use vpa_sim::{ApiServer, Options, Running};

async fn start() -> (Running, Client) {
    let server = ApiServer::start(Options { history_max: 50, ..Options::default() }).await.unwrap();
    let client = client(&server.kubeconfig()).await;
    (server, client)
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn config_map(name: &str) -> ConfigMap {
    typed(json!({"metadata": {"name": name, "labels": {"app": name}}}))
}

fn pod(name: &str) -> Pod {
    typed(json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [
        {"name": "main", "image": "x", "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}}}]}}))
}

/// Status code of a failure.
fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("no answer of the API: {other}"),
    }
}

#[tokio::test]
async fn objects_are_written_with_the_rules_of_optimistic_concurrency() {
    let (_server, client) = start().await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let created = api.create(&PostParams::default(), &config_map("a")).await.unwrap();
    assert!(created.metadata.uid.is_some() && created.metadata.creation_timestamp.is_some());
    assert_eq!(
        code(api.create(&PostParams::default(), &config_map("a")).await),
        (409, "AlreadyExists".into())
    );
    assert_eq!(code(api.get("missing").await), (404, "NotFound".into()));

    let mut changed = created.clone();
    changed.data = Some([("k".to_owned(), "v".to_owned())].into());
    let newer = api.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(newer.metadata.resource_version, created.metadata.resource_version);
    assert_eq!(code(api.replace("a", &PostParams::default(), &changed).await), (409, "Conflict".into()));

    let patch =
        json!({"metadata": {"resourceVersion": created.metadata.resource_version}, "data": {"k": "w"}});
    let stale = api.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await;
    assert_eq!(code(stale), (409, "Conflict".into()));
    let same =
        api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "v"}}))).await.unwrap();
    assert_eq!(
        same.metadata.resource_version, newer.metadata.resource_version,
        "nothing changed, nothing written"
    );

    let other = Api::<ConfigMap>::namespaced(client, "nowhere");
    assert_eq!(code(other.create(&PostParams::default(), &config_map("a")).await).0, 404);
    let wrong = DeleteParams::default()
        .preconditions(kube::api::Preconditions { uid: Some("other".into()), resource_version: None });
    assert_eq!(code(api.delete("a", &wrong).await), (409, "Conflict".into()));
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(api.get("a").await).0, 404);
}

#[tokio::test]
async fn lists_come_in_pages_and_watches_go_on_from_them() {
    let (_server, client) = start().await;
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &config_map(name)).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.items.len(), 2);
    let token = first.metadata.continue_.unwrap();
    let second = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(second.items.len(), 1);
    assert_eq!(api.list(&ListParams::default().labels("app in (b,c)")).await.unwrap().items.len(), 2);
    assert_eq!(api.list(&ListParams::default().fields("metadata.name=a")).await.unwrap().items.len(), 1);

    let version = second.metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("app=a").timeout(5);
    let mut events = api.watch(&params, &version).await.unwrap().boxed();
    let relabel = |app: &str| json!({"metadata": {"labels": {"app": app}}});
    api.patch("b", &PatchParams::default(), &Patch::Merge(relabel("a"))).await.unwrap();
    api.patch("a", &PatchParams::default(), &Patch::Merge(relabel("z"))).await.unwrap();
    assert!(
        matches!(events.try_next().await.unwrap(), Some(WatchEvent::Added(found)) if found.metadata.name.as_deref() == Some("b"))
    );
    assert!(
        matches!(events.try_next().await.unwrap(), Some(WatchEvent::Deleted(found)) if found.metadata.name.as_deref() == Some("a"))
    );
}

#[tokio::test]
async fn a_watch_that_is_too_old_is_told_410() {
    let (server, client) = start().await;
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    api.create(&PostParams::default(), &config_map("a")).await.unwrap();
    server.compact();
    let mut events = api.watch(&WatchParams::default(), "2").await.unwrap().boxed();
    assert!(
        matches!(events.try_next().await.unwrap(), Some(WatchEvent::Error(status)) if status.code == 410)
    );
}

#[tokio::test]
async fn pods_get_defaults_and_resize_follows_its_rules() {
    let (_server, client) = start().await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let created = pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let spec = created.spec.unwrap();
    let requests = spec.containers[0].resources.as_ref().unwrap().requests.as_ref().unwrap();
    assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("500m", "1Gi"));
    assert_eq!(created.status.unwrap().qos_class.as_deref(), Some("Burstable"));
    assert_eq!(created.metadata.generation, Some(1));

    let bigger = json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]}});
    let direct = pods.patch("p", &PatchParams::default(), &Patch::Strategic(&bigger)).await;
    assert_eq!(code(direct), (422, "Invalid".into()));
    let resized = pods
        .patch_subresource("resize", "p", &PatchParams::default(), &Patch::Strategic(&bigger))
        .await
        .unwrap();
    assert_eq!(resized.metadata.generation, Some(2));
    assert_eq!(
        resized.spec.unwrap().containers[0].resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"].0,
        "1"
    );
    let guaranteed = json!({"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}});
    let changed =
        pods.patch_subresource("resize", "p", &PatchParams::default(), &Patch::Strategic(&guaranteed)).await;
    assert_eq!(code(changed), (422, "Invalid".into()));
}

#[tokio::test]
async fn evictions_ask_the_disruption_budget() {
    let (_server, client) = start().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let budgets: Api<DynamicObject> = Api::namespaced_with(
        client,
        "default",
        &ApiResource::from_gvk_with_plural(
            &kube::api::GroupVersionKind::gvk("policy", "v1", "PodDisruptionBudget"),
            "poddisruptionbudgets",
        ),
    );
    budgets
        .create(&PostParams::default(), &typed(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}})))
        .await
        .unwrap();
    for name in ["p", "q"] {
        pods.create(&PostParams::default(), &pod(name)).await.unwrap();
        let running =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(running)).await.unwrap();
    }
    let unseen = pods.evict("p", &EvictParams::default()).await;
    assert_eq!(code(unseen), (429, "TooManyRequests".into()));
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1}});
    budgets.patch_status("web", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let dry = EvictParams {
        post_options: PostParams { dry_run: true, ..Default::default() },
        ..Default::default()
    };
    pods.evict("p", &dry).await.unwrap();
    pods.evict("p", &EvictParams::default()).await.unwrap();
    assert_eq!(code(pods.get("p").await).0, 404, "a pod without a node goes at once");
    match pods.evict("q", &EvictParams::default()).await.unwrap_err() {
        kube::Error::Api(status) => {
            let causes = &status.details.as_ref().unwrap().causes;
            assert_eq!((status.code, causes[0].reason.as_str()), (429, "DisruptionBudget"));
            assert!(causes[0].message.contains("does not allow evicting pods"), "{}", causes[0].message);
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn definitions_are_served_checked_and_removed() {
    let (_server, client) = start().await;
    let crds: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk_with_plural(
            &kube::api::GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
            "customresourcedefinitions",
        ),
    );
    let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object", "properties": {
        "mode": {"type": "string", "enum": ["A", "B"]}}}, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}]}});
    crds.create(&PostParams::default(), &typed(crd)).await.unwrap();
    let things: Api<DynamicObject> = Api::namespaced_with(
        client.clone(),
        "default",
        &ApiResource::from_gvk_with_plural(
            &kube::api::GroupVersionKind::gvk("example.com", "v1", "Thing"),
            "things",
        ),
    );
    let thing = |mode: &str| {
        typed::<DynamicObject>(json!({"apiVersion": "example.com/v1", "kind": "Thing",
        "metadata": {"name": "t"}, "spec": {"mode": mode, "unknown": 1}, "status": {"x": 1}}))
    };
    let refused = things.create(&PostParams::default(), &thing("C")).await;
    assert_eq!(code(refused), (422, "Invalid".into()));
    let created = things.create(&PostParams::default(), &thing("A")).await.unwrap();
    assert_eq!(created.data["spec"], json!({"mode": "A"}));
    assert!(created.data.get("status").is_none(), "the status has its own door");
    let status = json!({"status": {"y": 2}, "spec": {"mode": "B"}});
    let after = things.patch_status("t", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!((after.data["spec"]["mode"].as_str(), &after.data["status"]), (Some("A"), &json!({"y": 2})));
    assert_eq!(after.metadata.generation, Some(1));
    let resources = client.list_api_group_resources("example.com/v1").await.unwrap();
    assert!(resources.resources.iter().any(|found| found.name == "things/status"));
    crds.delete("things.example.com", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(things.get("t").await).0, 404);
}

#[tokio::test]
async fn scale_and_garbage_collection() {
    let (_server, client) = start().await;
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let deployment = api
        .create(
            &PostParams::default(),
            &typed(json!({"metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": "x"}]}}}})),
        )
        .await
        .unwrap();
    let scale = api.get_scale("d").await.unwrap();
    assert_eq!(
        (scale.spec.unwrap().replicas, scale.status.unwrap().selector.as_deref()),
        (Some(1), Some("app=d"))
    );
    api.patch_scale("d", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 3}})))
        .await
        .unwrap();
    assert_eq!(api.get("d").await.unwrap().spec.unwrap().replicas, Some(3));

    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut owned = config_map("owned");
    owned.metadata = ObjectMeta {
        owner_references: Some(vec![typed(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": deployment.metadata.uid}),
        )]),
        ..owned.metadata
    };
    maps.create(&PostParams::default(), &owned).await.unwrap();
    api.delete("d", &DeleteParams::default()).await.unwrap();
    for _ in 0..100 {
        if maps.get_opt("owned").await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what the deployment owned is still there");
}

#[tokio::test]
async fn events_of_both_apis_are_the_same() {
    let (_server, client) = start().await;
    let new: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(client.clone(), "default");
    new.create(&PostParams::default(), &typed(json!({"metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "c", "reportingInstance": "i", "action": "Do", "reason": "Why", "type": "Normal",
        "note": "text", "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}})))
        .await
        .unwrap();
    let old: Api<Event> = Api::namespaced(client, "default");
    let found = old.list(&ListParams::default().fields("involvedObject.name=p,reason=Why")).await.unwrap();
    assert_eq!(found.items[0].message.as_deref(), Some("text"));
}

#[tokio::test]
async fn service_accounts_are_held_to_their_roles() {
    let (server, admin) = start().await;
    let user = client(&server.service_account_kubeconfig("default", "robot").unwrap()).await;
    let leases: Api<Lease> = Api::namespaced(user.clone(), "default");
    assert_eq!(code(leases.get("l").await), (403, "Forbidden".into()));
    let roles = Api::<k8s_openapi::api::rbac::v1::Role>::namespaced(admin.clone(), "default");
    roles
        .create(
            &PostParams::default(),
            &typed(json!({"metadata": {"name": "r"}, "rules": [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]}]})),
        )
        .await
        .unwrap();
    let bindings = Api::<k8s_openapi::api::rbac::v1::RoleBinding>::namespaced(admin, "default");
    bindings
        .create(
            &PostParams::default(),
            &typed(json!({"metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]})),
        )
        .await
        .unwrap();
    assert_eq!(code(leases.get("l").await), (404, "NotFound".into()));
    assert_eq!(code(leases.list(&ListParams::default()).await).0, 403);
    let reviews: Api<k8s_openapi::api::authorization::v1::SelfSubjectAccessReview> = Api::all(user);
    let review = |verb: &str| {
        typed(json!({"metadata": {}, "spec": {"resourceAttributes": {
        "group": "coordination.k8s.io", "resource": "leases", "verb": verb, "namespace": "default"}}}))
    };
    for (verb, expected) in [("get", true), ("update", false)] {
        let answer = reviews.create(&PostParams::default(), &review(verb)).await.unwrap();
        assert_eq!(answer.status.unwrap().allowed, expected, "{verb}");
    }
}

#[tokio::test]
async fn the_watcher_of_kube_follows_in_both_of_its_ways() {
    use kube::runtime::watcher::{self, Event, watcher};
    let (server, client) = start().await;
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    api.create(&PostParams::default(), &config_map("old")).await.unwrap();
    for (index, config) in
        [watcher::Config::default().page_size(1), watcher::Config::default().streaming_lists()]
            .into_iter()
            .enumerate()
    {
        let mut events = watcher(api.clone(), config).boxed();
        while !matches!(events.try_next().await.unwrap(), Some(Event::InitDone)) {}
        let name = format!("new-{index}");
        api.create(&PostParams::default(), &config_map(&name)).await.unwrap();
        assert!(
            matches!(events.try_next().await.unwrap(), Some(Event::Apply(found)) if found.metadata.name == Some(name.clone()))
        );
        // After a compaction it is told 410, lists again and goes on.
        server.compact();
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        let mut seen = Vec::new();
        loop {
            match events.next().await.unwrap() {
                Ok(Event::InitApply(found)) => seen.push(found.metadata.name.unwrap()),
                Ok(Event::InitDone) => break,
                Ok(_) | Err(_) => {}
            }
        }
        assert_eq!(seen, ["old"], "way {index}");
    }
}
