use std::collections::VecDeque;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::{Value, json};
use vpa_api::pod::Pod;

use super::*;
use crate::testing::{Answer, Api, Call, tally};

/// A pod of a name and version; a bad one cannot be decoded.
fn pod(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version.to_string(),
        "managedFields": [{"manager": "m"}], "labels": {"v": version.to_string()}}, "spec": {"containers": []}})
}

fn bad(name: &str, version: u64) -> Value {
    let mut pod = pod(name, version);
    pod["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": "lots"}}}]);
    pod
}

fn list(version: u64, next: &str, items: Vec<Value>) -> Answer {
    Answer::ok(
        json!({"metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": items})
            .to_string(),
    )
}

fn events(events: Vec<(&str, Value)>) -> Answer {
    Answer::ok(
        events
            .iter()
            .map(|(kind, object)| json!({"type": kind, "object": object}).to_string() + "\n")
            .collect::<String>(),
    )
}

fn bookmark(version: u64) -> Value {
    json!({"kind": "Pod", "metadata": {"resourceVersion": version.to_string()}})
}

fn expired() -> Value {
    json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"})
}

/// What the API answers, one by one; at the end watches stay empty.
struct Fixture {
    api: Api,
    store: Store<Pod>,
    metrics: Arc<RuntimeMetrics>,
    events: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
}

impl Fixture {
    fn new(answers: Vec<Answer>, options: StoreOptions<Pod>) -> Self {
        let mut answers = VecDeque::from(answers);
        let api = Api::scripted(move |_: &Call| answers.pop_front().unwrap_or_else(|| events(vec![])));
        let metrics = Arc::new(RuntimeMetrics::new(&Registry::new()).unwrap());
        let stop = CancellationToken::new();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = seen.clone();
        let name = |pod: &Arc<Pod>| {
            format!(
                "{}@{}",
                pod.metadata.name.as_deref().unwrap(),
                pod.metadata.resource_version.as_deref().unwrap()
            )
        };
        let options = options.on_event(move |event| {
            sink.lock().push(match event {
                StoreEvent::Applied { before: None, now } => format!("new {}", name(now)),
                StoreEvent::Applied { before: Some(before), now } => {
                    format!("{} -> {}", name(before), name(now))
                }
                StoreEvent::Deleted(pod) => format!("gone {}", name(pod)),
                StoreEvent::Synced => "synced".to_owned(),
            });
        });
        let (store, feed) = feed(&api.cluster(), options, metrics.clone(), stop.clone());
        tokio::spawn(feed);
        Self { api, store, metrics, events: seen, stop }
    }

    /// Lets the feed work for a while (of paused time).
    async fn run(answers: Vec<Answer>) -> Self {
        let fixture = Self::new(answers, StoreOptions::named("pods"));
        tokio::time::sleep(Duration::from_secs(120)).await;
        fixture.stop.cancel();
        fixture
    }

    fn names(&self) -> Vec<String> {
        let version = |pod: &Arc<Pod>| pod.metadata.resource_version.clone().unwrap();
        self.store
            .snapshot()
            .iter()
            .map(|pod| format!("{}@{}", pod.metadata.name.as_deref().unwrap(), version(pod)))
            .collect()
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().clone()
    }

    /// Lists and watches in order, as `list:CONTINUE` and `watch:VERSION`.
    fn asked(&self) -> Vec<String> {
        let value = |query: &str, key: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(&format!("{key}=")))
                .unwrap_or_default()
                .to_owned()
        };
        self.api
            .calls()
            .iter()
            .map(|call| match call.query.contains("watch=true") {
                true => format!("watch:{}", value(&call.query, "resourceVersion")),
                false => format!("list:{}", value(&call.query, "continue")),
            })
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn pages_then_changes_then_on_from_the_last_version() {
    let fixture = Fixture::run(vec![
        list(10, "next", vec![pod("b", 3), pod("a", 2)]),
        list(10, "", vec![pod("c", 4)]),
        events(vec![
            ("MODIFIED", pod("a", 11)),
            ("DELETED", pod("b", 12)),
            ("ADDED", pod("d", 13)),
            ("BOOKMARK", bookmark(20)),
            ("NEWTYPE", pod("x", 21)),
        ]),
        events(vec![("MODIFIED", pod("d", 22))]),
    ])
    .await;
    assert_eq!(fixture.names(), ["a@11", "c@4", "d@22"]);
    assert_eq!(fixture.asked()[..5], ["list:", "list:next", "watch:10", "watch:20", "watch:22"]);
    assert_eq!(
        fixture.events(),
        ["new b@3", "new a@2", "new c@4", "synced", "a@2 -> a@11", "gone b@3", "new d@13", "d@13 -> d@22"]
    );
    assert_eq!(fixture.metrics.store_objects.with_label_values(&["pods"]).get(), 3);
    assert_eq!(fixture.metrics.store_lists.with_label_values(&["pods"]).get(), 1);
    let kept = fixture.store.get("ns", "a").unwrap();
    assert_eq!(kept.metadata.managed_fields, None);
    assert!(fixture.store.get("ns", "b").is_none() && fixture.store.get("other", "a").is_none());
    assert_eq!(fixture.store.in_namespace("ns").len(), 3);
    assert!(fixture.store.in_namespace("other").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_is_listed_again_whether_as_event_or_as_code() {
    for gone in
        [events(vec![("MODIFIED", pod("a", 11)), ("ERROR", expired())]), Answer::status(410, "Expired")]
    {
        let fixture = Fixture::run(vec![
            list(10, "", vec![pod("a", 2), pod("b", 3)]),
            gone,
            list(30, "", vec![pod("a", 25), pod("c", 26)]),
            events(vec![("ADDED", pod("d", 31))]),
        ])
        .await;
        assert_eq!(fixture.names(), ["a@25", "c@26", "d@31"]);
        assert_eq!(fixture.asked()[..4], ["list:", "watch:10", "list:", "watch:30"]);
        assert!(fixture.events().contains(&"gone b@3".to_owned()));
        assert_eq!(tally(fixture.events()).get("synced"), Some(&1), "synced once");
        assert_eq!(fixture.metrics.store_errors.with_label_values(&["pods"]).get(), 0, "expiry is no error");
    }
}

#[tokio::test(start_paused = true)]
async fn a_continue_token_that_is_gone_starts_the_list_anew() {
    let fixture = Fixture::run(vec![
        list(10, "next", vec![pod("a", 2)]),
        Answer::status(410, "Expired"),
        list(12, "", vec![pod("b", 11)]),
    ])
    .await;
    assert_eq!(fixture.names(), ["b@11"]);
    assert!(fixture.store.synced());
}

#[tokio::test(start_paused = true)]
async fn a_bad_object_never_stops_the_others() {
    let fixture = Fixture::run(vec![
        list(10, "", vec![pod("a", 2), bad("x", 3), pod("b", 4)]),
        events(vec![
            ("MODIFIED", bad("x", 11)),
            ("MODIFIED", bad("a", 12)),
            ("ADDED", pod("c", 13)),
            ("MODIFIED", pod("x", 14)),
        ]),
    ])
    .await;
    assert_eq!(
        fixture.names(),
        ["a@2", "b@4", "c@13", "x@14"],
        "the last good state of a stays, x is taken in once good"
    );
    assert_eq!(fixture.metrics.store_bad_objects.with_label_values(&["pods"]).get(), 3);
    assert_eq!(fixture.asked()[2], "watch:14", "the watch went on");
    assert_eq!(fixture.metrics.store_errors.with_label_values(&["pods"]).get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_bad_object_that_is_listed_again_is_not_taken_for_gone() {
    let fixture = Fixture::run(vec![
        list(10, "", vec![pod("a", 2)]),
        events(vec![("MODIFIED", bad("a", 11)), ("ERROR", expired())]),
        list(30, "", vec![bad("a", 11)]),
        events(vec![("DELETED", bad("a", 31))]),
    ])
    .await;
    assert_eq!(fixture.events(), ["new a@2", "synced", "gone a@2"], "it goes when it is deleted");
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_are_told() {
    let fixture = Fixture::new(vec![Answer::status(403, "no right"); 4], StoreOptions::named("pods"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!fixture.store.synced());
    let reason = fixture.store.ready().unwrap_err();
    assert!(reason.contains("pods not listed yet") && reason.contains("no right"), "{reason}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    // 0.8, 1.6 and 3.2 s, with up to a fifth on top.
    assert!((3..=4).contains(&fixture.api.total()), "{} tries in 4 s", fixture.api.total());
    fixture.api.answer_all(list(1, "", vec![pod("a", 1)]));
    assert!(fixture.store.wait_synced(&fixture.stop).await);
    assert_eq!(fixture.store.ready(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_list_and_what_is_no_event_is_an_error_and_not_the_end() {
    for garbage in ["", "null", "[]", "<html>", r#"{"items":"x"}"#, r#"{"items":[]}"#] {
        let fixture = Fixture::run(vec![Answer::ok(garbage), list(5, "", vec![pod("a", 1)])]).await;
        assert_eq!(fixture.names(), ["a@1"], "after {garbage:?}");
        assert_eq!(fixture.metrics.store_errors.with_label_values(&["pods"]).get(), 1, "after {garbage:?}");
    }
    for garbage in ["nonsense\n", "[]\n", "\n\n", r#"{"type":"ADDED","object":{"metadata":{"na"#] {
        let fixture = Fixture::run(vec![
            list(5, "", vec![pod("a", 1)]),
            Answer::ok(garbage),
            events(vec![("ADDED", pod("b", 6))]),
        ])
        .await;
        assert_eq!(fixture.names(), ["a@1", "b@6"], "after {garbage:?}");
        assert_eq!(
            fixture.metrics.store_lists.with_label_values(&["pods"]).get(),
            1,
            "no new list after {garbage:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_watch_is_not_hammered() {
    let fixture = Fixture::run(vec![list(5, "", vec![])]).await;
    assert!(fixture.api.total() < 20, "{} requests in 2 min", fixture.api.total());
    assert!(fixture.store.synced());
}

#[tokio::test(start_paused = true)]
async fn selectors_and_the_namespace_are_asked_for() {
    let options = StoreOptions::named("pods")
        .namespace(Some("ns".to_owned()))
        .labels("app=a")
        .fields("status.phase!=Failed")
        .modify(|pod: &mut Pod| pod.metadata.labels = None);
    let fixture = Fixture::new(vec![list(5, "", vec![pod("a", 1)])], options);
    assert!(fixture.store.wait_synced(&fixture.stop).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for call in &fixture.api.calls()[..2] {
        assert_eq!(call.path, "/api/v1/namespaces/ns/pods");
        assert!(call.query.contains("labelSelector=app%3Da"), "{}", call.query);
        assert!(call.query.contains("fieldSelector=status.phase%21%3DFailed"), "{}", call.query);
    }
    assert_eq!(fixture.store.get("ns", "a").unwrap().metadata.labels, None);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_program() {
    let fixture = Fixture::new(vec![Answer::status(500, "broken"); 100], StoreOptions::named("pods"));
    let stop = fixture.stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(40)).await;
        stop.cancel();
    });
    assert!(!wait_all(&[&fixture.store], &fixture.stop).await);
    assert!(!fixture.store.wait_synced(&fixture.stop).await);
}

#[tokio::test]
async fn changes_wake_up_and_hands_can_feed() {
    let store: Store<ConfigMap> = Store::detached("maps");
    let mut changes = store.changes();
    store.apply(ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
        ..Default::default()
    });
    changes.changed().await.unwrap();
    assert!(store.get("", "a").is_some() && !store.is_empty());
    assert!(store.delete("", "a").is_some() && store.is_empty());
    store.mark_synced();
    assert_eq!(store.ready(), Ok(()));
}
