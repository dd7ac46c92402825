use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

async fn get(router: &Router, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_health_check_is_the_go_suites() {
    let health = Health::default();
    let router = router(Registry::new(), health.clone(), None);
    assert_eq!(get(&router, "/health-check").await, (200, "OK".into()));
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(get(&router, "/health-check").await.0, 200, "not watched yet");
    health.monitor(Duration::from_secs(300));
    tokio::time::advance(Duration::from_secs(300)).await;
    assert_eq!(get(&router, "/health-check").await.0, 200);
    assert_eq!(get(&router, "/healthz").await, (200, "ok".into()));
    tokio::time::advance(Duration::from_secs(1)).await;
    let (code, text) = get(&router, "/health-check").await;
    assert_eq!(code, 500);
    assert!(text.starts_with("Error: last activity more than 301 s ago"), "{text}");
    assert_eq!(get(&router, "/healthz").await.0, 503);
    health.active();
    assert_eq!(get(&router, "/health-check").await.0, 200);
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let health = Health::default();
    let router = router(Registry::new(), health.clone(), None);
    // Nothing has been checked yet.
    assert_eq!(get(&router, "/readyz").await, (503, "not ready\n".into()));
    health.check("pods", || Err("not listed yet".into()));
    health.check("crds", || Ok(()));
    health.phase("connecting");
    let (code, text) = get(&router, "/readyz").await;
    assert_eq!((code, text.as_str()), (503, "[+] crds ok\n[-] pods not listed yet\nnot ready: connecting\n"));
    health.check("pods", || Ok(()));
    assert_eq!(get(&router, "/readyz").await.0, 200);
}

#[tokio::test]
async fn metrics_and_the_rest() {
    let registry = Registry::new();
    crate::metrics::Metrics(&registry).counter("vpa_test_total", "A test.").unwrap().inc();
    let plain = router(registry.clone(), Health::default(), None);
    let (code, text) = get(&plain, "/metrics").await;
    assert_eq!(code, 200);
    assert!(text.contains("# TYPE vpa_test_total counter\nvpa_test_total 1"), "{text}");
    assert_eq!(get(&plain, "/debug/tasks").await.0, 404);
    assert_eq!(get(&plain, "/").await.0, 404);
    let profiled = router(registry, Health::default(), Some(Pages::default()));
    assert!(get(&profiled, "/debug/tasks").await.1.contains("alive tasks"));
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let first = listen(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let taken: ListenAddress = format!("127.0.0.1:{}", local(&first).unwrap().port()).parse().unwrap();
    let error = listen(&taken).await.unwrap_err();
    assert!(error.to_string().contains(taken.as_str()), "{error}");
    assert!(listen(&":0".parse().unwrap()).await.is_ok());
}

#[tokio::test]
async fn pages_get_what_was_asked_for_and_say_what_is_wrong() {
    let pages = Pages::default();
    pages.add("pods", |asked| match asked.get("vpa") {
        Some(vpa) => Ok(format!("{{\"vpa\":\"{vpa}\"}}")),
        None => Err("give ?vpa=".into()),
    });
    let router = router(Registry::new(), Health::default(), Some(pages));
    assert_eq!(get(&router, "/debug/pods?vpa=a%20b").await, (200, "{\"vpa\":\"a b\"}".into()));
    assert_eq!(get(&router, "/debug/pods").await, (400, "give ?vpa=\n".into()));
    let (code, text) = get(&router, "/debug/other").await;
    assert_eq!(code, 404);
    assert!(text.contains("/debug/pods\n"), "{text}");
    assert_eq!(get(&router, "/debug/tasks").await.0, 200);
}
