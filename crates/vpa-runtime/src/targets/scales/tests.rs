use super::*;
use crate::testing::{Answer, Api};

fn key(kind: &str, name: &str) -> ControllerKey {
    ControllerKey {
        namespace: "ns".into(),
        api_version: "example.com/v1".into(),
        kind: kind.into(),
        name: name.into(),
    }
}

fn served() -> Api {
    Api::new(|path| match path {
        "/apis/example.com" => Answer::ok(
            r#"{"versions":[{"version":"v1"},{"version":"v2"}],"preferredVersion":{"version":"v2"}}"#,
        ),
        "/apis/example.com/v2" => {
            Answer::ok(r#"{"resources":[{"name":"foos/scale","kind":"Foo"},{"name":"foos","kind":"Foo"}]}"#)
        }
        "/apis/example.com/v1" => Answer::ok(r#"{"resources":[{"name":"olds","kind":"Old"}]}"#),
        "/apis/example.com/v2/namespaces/ns/foos/a/scale" => Answer::ok(
            r#"{"metadata":{"name":"a","uid":"u"},"spec":{"replicas":3},"status":{"replicas":3,"selector":"app=a"}}"#,
        ),
        "/apis/example.com/v2/namespaces/ns/foos/secret/scale" => Answer::status(403, "Forbidden"),
        "/apis/example.com/v2/namespaces/ns/foos/broken/scale" => Answer::status(422, "Invalid"),
        _ => Answer::status(404, "NotFound"),
    })
}

/// The answer once it is settled.
async fn settled(scales: &Scales, key: &ControllerKey) -> Lookup {
    for _ in 0..100 {
        match scales.get(key) {
            Lookup::Pending => tokio::time::sleep(Duration::from_millis(10)).await,
            other => return other,
        }
    }
    panic!("{key} stays pending");
}

#[tokio::test(start_paused = true)]
async fn answers_come_by_discovery_and_scale() {
    let api = served();
    let scales = Scales::new(api.client());
    tokio::spawn(scales.clone().run());
    assert_eq!(scales.get(&key("Foo", "a")), Lookup::Pending);
    let Lookup::Found(found) = settled(&scales, &key("Foo", "a")).await else { panic!("not found") };
    assert_eq!((found.replicas, found.uid.as_deref()), (Some(3), Some("u")));
    assert_eq!(found.key.api_version, "example.com/v2", "the preferred version, whatever the reference says");
    assert_eq!(settled(&scales, &key("Foo", "b")).await, Lookup::NotFound);
    assert_eq!(settled(&scales, &key("Foo", "secret")).await, Lookup::Forbidden);
    assert!(matches!(settled(&scales, &key("Foo", "broken")).await, Lookup::Failed(_)));
    assert_eq!(settled(&scales, &key("Bar", "a")).await, Lookup::UnknownKind);
    let old = settled(&scales, &key("Old", "x")).await;
    assert_eq!(old, Lookup::NotFound, "found under another version than the preferred one");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_while_it_is_looked_up_again_and_when_that_fails() {
    let api = served();
    let scales = Scales::new(api.client());
    tokio::spawn(scales.clone().run());
    settled(&scales, &key("Foo", "a")).await;
    let asked = api.count("/apis/example.com/v2/namespaces/ns/foos/a/scale");
    tokio::time::advance(FRESH / 2).await;
    scales.get(&key("Foo", "a"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        api.count("/apis/example.com/v2/namespaces/ns/foos/a/scale"),
        asked,
        "asked again while fresh"
    );
    api.answer_all(Answer::status(500, "InternalError"));
    tokio::time::advance(FRESH * 2).await;
    for _ in 0..20 {
        assert!(matches!(scales.get(&key("Foo", "a")), Lookup::Found(_)), "lost by a failure");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(api.total() > asked + 2, "not asked again");
    api.answer_all(Answer::status(404, "NotFound"));
    for _ in 0..300 {
        scales.get(&key("Foo", "a"));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(scales.get(&key("Foo", "a")), Lookup::UnknownKind, "gone for good");
}

#[test]
fn a_segment_stays_within_its_place() {
    for (text, want) in
        [("a-b.c", "a-b.c"), ("../x", "..%2Fx"), ("..", "%2E%2E"), ("a?b#c", "a%3Fb%23c"), ("ä", "%C3%A4")]
    {
        assert_eq!(segment(text), want);
    }
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let scales = Scales::new(served().client());
    for number in 0..ENTRIES_MAX + 50 {
        scales.get(&key("Foo", &number.to_string()));
    }
    assert!(scales.0.entries.lock().len() <= ENTRIES_MAX);
}
