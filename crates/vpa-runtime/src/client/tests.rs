use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api as KubeApi, Client};
use prometheus::Registry;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::Pacer;
use crate::testing::{Answer, Api, Call};

/// A client with all layers over a scripted API.
fn layered(api: &Api, qps: f64, burst: f64) -> (Client, Arc<RuntimeMetrics>) {
    let metrics = Arc::new(RuntimeMetrics::new(&Registry::new()).unwrap());
    let rate = Rate::new(qps, burst).unwrap();
    (Client::new(stack(api.service(), rate, Pacer::default(), metrics.clone()), "ns"), metrics)
}

/// Answers `code` so many times, then an empty list.
fn failing(times: usize, code: u16, retry_after: Option<&'static str>) -> Api {
    let mut left = times;
    Api::scripted(move |_: &Call| {
        if left == 0 {
            return Answer::ok(r#"{"metadata":{},"items":[]}"#);
        }
        left -= 1;
        let answer = Answer::status(code, "Failed");
        match retry_after {
            Some(seconds) => answer.header("retry-after", seconds),
            None => answer,
        }
    })
}

fn config_maps(client: Client) -> KubeApi<ConfigMap> {
    KubeApi::namespaced(client, "ns")
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_call_has_its_own_number_of_attempts() {
    // Code, then attempts of: read, patch, create, replace, evict.
    let cases = [
        (429, [5, 4, 3, 1, 1]),
        (500, [5, 1, 1, 1, 1]),
        (503, [5, 4, 1, 1, 1]),
        (504, [5, 4, 1, 1, 1]),
        (404, [1, 1, 1, 1, 1]),
        (409, [1, 1, 1, 1, 1]),
        (403, [1, 1, 1, 1, 1]),
    ];
    for (code, attempts) in cases {
        for (kind, want) in ["read", "patch", "create", "replace", "evict"].into_iter().zip(attempts) {
            let api = failing(usize::MAX, code, None);
            let (client, metrics) = layered(&api, 0.0, 1.0);
            let maps = config_maps(client.clone());
            let object = ConfigMap {
                metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
                ..Default::default()
            };
            let error = match kind {
                "read" => maps.list(&ListParams::default()).await.err(),
                "patch" => maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({}))).await.err(),
                "create" => maps.create(&PostParams::default(), &object).await.err(),
                "replace" => maps.replace("a", &PostParams::default(), &object).await.err(),
                _ => {
                    let pods: KubeApi<k8s_openapi::api::core::v1::Pod> = KubeApi::namespaced(client, "ns");
                    pods.evict("a", &EvictParams::default()).await.err()
                }
            };
            assert!(matches!(error, Some(kube::Error::Api(status)) if status.code == code), "{kind} {code}");
            assert_eq!(api.total(), want, "{kind} after {code}");
            let counted = metrics.requests.with_label_values(&[kind, &code.to_string()]).get();
            assert_eq!(counted, want as u64, "attempts of {kind} after {code} in the metric");
            assert_eq!(
                metrics.request_seconds.with_label_values(&[kind]).get_sample_count(),
                1,
                "one request"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_respected_within_bounds() {
    for (asked, waited_ms) in
        [(Some("3"), 3_000), (Some("600"), 10_000), (Some("0"), 250), (Some("soon"), 250), (None, 250)]
    {
        let api = failing(1, 429, asked);
        let (client, _) = layered(&api, 0.0, 1.0);
        let began = Instant::now();
        config_maps(client).list(&ListParams::default()).await.unwrap();
        assert_eq!(began.elapsed().as_millis(), waited_ms, "Retry-After {asked:?}");
        assert_eq!(api.total(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn waits_double() {
    let api = failing(4, 503, None);
    let (client, _) = layered(&api, 0.0, 1.0);
    let began = Instant::now();
    config_maps(client).list(&ListParams::default()).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_millis(250 + 500 + 1000 + 2000));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_paid_for() {
    // One token, then one in 20 s: the second and third attempt of one read wait for theirs, far beyond the backoff.
    let api = failing(2, 503, None);
    let (client, metrics) = layered(&api, 0.05, 1.0);
    let began = Instant::now();
    config_maps(client).list(&ListParams::default()).await.unwrap();
    assert_eq!((api.total(), began.elapsed().as_secs()), (3, 40));
    let throttled = metrics.throttled_seconds.get();
    assert!((throttled - (40.0 - 0.75)).abs() < 0.01, "{throttled} s throttled");
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_shared_and_first_come_first_served() {
    let api = failing(0, 0, None);
    let (client, _) = layered(&api, 2.0, 3.0);
    let began = Instant::now();
    let reads = (0..7).map(|_| {
        let maps = config_maps(client.clone());
        async move { maps.list(&ListParams::default()).await.map(|_| began.elapsed().as_millis()) }
    });
    let done: Vec<u128> = futures::future::try_join_all(reads).await.unwrap();
    // Timers tick in whole milliseconds, up to one late each.
    for (place, (done, want)) in done.iter().zip([0, 0, 0, 500, 1000, 1500, 2000]).enumerate() {
        assert!((want..want + 5).contains(done), "request {place} after {done} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn leases_do_not_wait_behind_writes() {
    use k8s_openapi::api::coordination::v1::Lease;
    let api = Api::scripted(|call: &Call| match call.path.contains("/leases/") {
        true => Answer::ok(r#"{"metadata":{"name":"a"}}"#),
        false => Answer::ok(r#"{"metadata":{},"items":[]}"#),
    });
    let (client, _) = layered(&api, 0.1, 1.0);
    let maps = config_maps(client.clone());
    let writes = (0..5).map(|_| {
        let maps = maps.clone();
        tokio::spawn(async move { maps.list(&ListParams::default()).await.map(drop) })
    });
    let writes: Vec<_> = writes.collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let leases: KubeApi<Lease> = KubeApi::namespaced(client, "ns");
    let began = Instant::now();
    leases.get("a").await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!writes.last().unwrap().is_finished(), "the writes wait their turn");
}

/// A service that never answers.
fn silent() -> impl tower::Service<
    http::Request<kube::client::Body>,
    Response = http::Response<kube::client::Body>,
    Error = std::io::Error,
    Future = impl Future<Output = std::io::Result<http::Response<kube::client::Body>>> + Send + 'static,
> + Send
+ 'static {
    tower::service_fn(|_| std::future::pending())
}

#[tokio::test(start_paused = true)]
async fn no_request_lasts_for_ever() {
    let metrics = Arc::new(RuntimeMetrics::new(&Registry::new()).unwrap());
    let rate = Rate::new(0.0, 0.0).unwrap();
    let client = Client::new(stack(silent(), rate, Pacer::default(), metrics.clone()), "ns");
    let began = Instant::now();
    let object = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
        ..Default::default()
    };
    let error = config_maps(client.clone()).replace("a", &PostParams::default(), &object).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 5, "one attempt");
    assert!(chain(&error).contains("no answer within 5 s"), "{}", chain(&error));
    config_maps(client).list(&ListParams::default()).await.unwrap_err();
    assert_eq!(metrics.requests.with_label_values(&["read", "0"]).get(), 5, "silence is tried again");
}

/// The order of the layers seen from below, with the tower mock: nothing is sent that was not asked for.
#[tokio::test(start_paused = true)]
async fn an_eviction_goes_out_once() {
    let (service, mut below) =
        tower_test::mock::pair::<http::Request<kube::client::Body>, http::Response<kube::client::Body>>();
    let metrics = Arc::new(RuntimeMetrics::new(&Registry::new()).unwrap());
    let client = Client::new(stack(service, Rate::new(0.0, 0.0).unwrap(), Pacer::default(), metrics), "ns");
    let pods: KubeApi<k8s_openapi::api::core::v1::Pod> = KubeApi::namespaced(client, "ns");
    let eviction = tokio::spawn(async move { pods.evict("a", &EvictParams::default()).await });
    let (request, send) = below.next_request().await.unwrap();
    assert_eq!(request.uri().path(), "/api/v1/namespaces/ns/pods/a/eviction");
    let body = Answer::status(429, "TooManyRequests").body.into_bytes();
    send.send_response(
        http::Response::builder()
            .status(429)
            .header("retry-after", "1")
            .body(kube::client::Body::from(body))
            .unwrap(),
    );
    let error = eviction.await.unwrap().unwrap_err();
    assert!(matches!(Failure::of(&error), Failure::TooMany(_)));
    let more = tokio::time::timeout(Duration::from_secs(3600), below.next_request()).await;
    assert!(!matches!(more, Ok(Some(_))), "sent again");
}

#[test]
fn a_rate_needs_a_burst() {
    assert_eq!(Rate::new(5.0, 0.9).unwrap_err().flag, "kube-api-burst");
    assert_eq!(Rate::new(1e-12, 1.0).unwrap_err().flag, "kube-api-qps");
    assert!(Rate::new(0.0, 0.0).is_ok());
}

#[tokio::test]
async fn a_kubeconfig_that_is_not_there_is_named() {
    let flags =
        KubeFlags { kubeconfig: Some("/nowhere/kubeconfig".into()), kube_api_qps: 0.0, kube_api_burst: 1.0 };
    let metrics = Arc::new(RuntimeMetrics::new(&Registry::new()).unwrap());
    let error = connect(&flags, "test", &metrics).await.unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("/nowhere/kubeconfig"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn only_answers_to_writes_set_the_pace_and_a_disruption_budget_does_not() {
    // Code, then the pace after a write of each kind: read, patch, create, replace, evict. It starts at 4 and each
    // attempt that fails halves it, once a second.
    let cases =
        [(200, [4, 5, 5, 4, 5]), (404, [4, 5, 5, 4, 5]), (429, [4, 2, 2, 4, 5]), (503, [4, 2, 2, 4, 2])];
    for (code, paces) in cases {
        for (kind, want) in ["read", "patch", "create", "replace", "evict"].into_iter().zip(paces) {
            let api = Api::scripted(move |_: &Call| match code {
                200 => Answer::ok(r#"{"metadata":{},"items":[]}"#),
                code => Answer::status(code, "Failed"),
            });
            let metrics = Arc::new(RuntimeMetrics::new(&Registry::new()).unwrap());
            let pace = Pacer::default();
            let stack = stack(api.service(), Rate::new(0.0, 0.0).unwrap(), pace.clone(), metrics);
            let client = Client::new(stack, "ns");
            let object = ConfigMap {
                metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
                ..Default::default()
            };
            let maps = config_maps(client.clone());
            let call = async {
                match kind {
                    "read" => maps.list(&ListParams::default()).await.map(drop),
                    "patch" => {
                        let patch = Patch::Merge(json!({}));
                        maps.patch("a", &PatchParams::default(), &patch).await.map(drop)
                    }
                    "create" => maps.create(&PostParams::default(), &object).await.map(drop),
                    "replace" => maps.replace("a", &PostParams::default(), &object).await.map(drop),
                    _ => {
                        let pods: KubeApi<k8s_openapi::api::core::v1::Pod> =
                            KubeApi::namespaced(client.clone(), "ns");
                        pods.evict("a", &EvictParams::default()).await.map(drop)
                    }
                }
            };
            // Up to the second attempt.
            let _ = tokio::time::timeout(Duration::from_millis(200), call).await;
            assert_eq!(pace.limit(), want, "{code} on {kind}");
        }
    }
}

#[test]
fn versions_of_distributions_are_read() {
    for (text, want) in [
        ("v1.34.1", Some((1, 34))),
        ("v1.33.4+k3s1", Some((1, 33))),
        ("v1.35-gke.5", Some((1, 35))),
        ("1.36", Some((1, 36))),
        ("v2", None),
        ("", None),
        ("v1.x", None),
    ] {
        assert_eq!(version(text), want, "{text}");
    }
}
