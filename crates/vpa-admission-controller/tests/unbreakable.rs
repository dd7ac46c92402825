//! What comes in that should not, on a real socket: each gets its answer, and none hinders the reviews beside it.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

mod support;

use support::{Client, Known, review, start};

/// The status of an answer.
fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// The review in an answer.
fn body(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_default()
}

fn post(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /?timeout=10s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn each_wrong_request_gets_its_status() {
    let server = start(Known).await;
    let client = Client::of(&server);
    let json = "Content-Type: application/json\r\n";
    let cases: [(&str, String, u16); 9] = [
        ("another path", format!("POST /pods HTTP/1.1\r\n{json}Content-Length: 0\r\n"), 404),
        ("another method", "GET / HTTP/1.1\r\n".to_owned(), 405),
        ("no HTTP", "hello".to_owned(), 400),
        ("no version", "POST /\r\n".to_owned(), 400),
        ("a bad length", format!("POST / HTTP/1.1\r\n{json}Content-Length: many\r\n"), 400),
        ("two lengths", format!("POST / HTTP/1.1\r\n{json}Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        ("too large", format!("POST / HTTP/1.1\r\n{json}Content-Length: 99999999999\r\n"), 413),
        ("a huge head", format!("POST / HTTP/1.1\r\nX: {}\r\n", "x".repeat(1 << 20)), 431),
        ("a bad chunk", format!("POST / HTTP/1.1\r\n{json}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 400),
    ];
    for (what, request, want) in cases {
        let answer = client.exchange(&format!("{request}Connection: close\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.as_deref().map(status), Ok(want), "{what}: {answer:?}");
    }
    assert!(client.exchange(&post(&review("u"))).await.unwrap().contains("JSONPatch"));
}

#[tokio::test]
async fn what_is_no_review_is_admitted() {
    let server = start(Known).await;
    let client = Client::of(&server);
    let deep = "[".repeat(200_000);
    let many = format!("{{{}\"a\":0}}", "\"a\":0,".repeat(100_000));
    let deep_pod =
        review("u").replace("\"containers\"", &format!("\"x\":{deep}{},\"containers\"", "]".repeat(200_000)));
    let cases = [
        ("nothing", "", ""),
        ("no JSON", "{", ""),
        ("deep JSON", &deep, ""),
        ("many members", &many, ""),
        ("no request", "{}", ""),
        (
            "no object",
            r#"{"request":{"uid":"u","resource":{"version":"v1","resource":"pods"},"operation":"CREATE"}}"#,
            "u",
        ),
        ("a deep pod", &deep_pod, "u"),
    ];
    for (what, text, uid) in cases {
        let answer = client.exchange(&post(text)).await.unwrap();
        assert_eq!(status(&answer), 200, "{what}: {answer}");
        let response = &body(&answer)["response"];
        assert_eq!((&response["allowed"], &response["uid"]), (&json!(true), &json!(uid)), "{what}: {answer}");
    }
    // What is deep in a part that nobody reads does not matter.
    assert!(client.exchange(&post(&deep_pod)).await.unwrap().contains("JSONPatch"));
}

#[tokio::test]
async fn slow_and_silent_callers_do_not_hinder_others() {
    let server = start(Known).await;
    let client = Client::of(&server);
    let mut slow = Vec::new();
    for i in 0..100 {
        let mut stream = client.connect().await.unwrap();
        let part = match i % 3 {
            0 => "",
            1 => "POST / HT",
            _ => {
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
            }
        };
        stream.write_all(part.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        slow.push(stream);
    }
    let began = Instant::now();
    let reviews = join_all((0..50).map(|i| {
        let client = client.clone();
        async move { client.exchange(&post(&review(&format!("u{i}")))).await.unwrap() }
    }));
    for answer in reviews.await {
        assert!(answer.contains("JSONPatch"), "{answer}");
    }
    assert!(began.elapsed() < Duration::from_secs(4), "they were waited for: {:?}", began.elapsed());
    // Those whose body does not come are told so, and their connection ends.
    let answer = support::read(&mut slow.swap_remove(2)).await;
    assert_eq!(status(&answer), 408, "{answer}");
}

#[tokio::test]
async fn a_flood_of_connections_takes_no_place_from_a_connection_that_is_used() {
    let server = start(Known).await;
    let client = Client::of(&server);
    let mut used = client.connect().await.unwrap();
    let keep = post(&review("u")).replace("Connection: close\r\n", "");
    let mut flood = Vec::new();
    for round in 0..3 {
        used.write_all(keep.as_bytes()).await.unwrap();
        used.flush().await.unwrap();
        let answer = support::read_one(&mut used).await;
        assert!(answer.contains("JSONPatch"), "round {round}: {answer}");
        flood.extend(join_all((0..500).map(|_| tokio::net::TcpStream::connect(server.address))).await);
    }
    assert!(client.exchange(&post(&review("u"))).await.unwrap().contains("JSONPatch"));
}

/// With a processor that does not keep up, what cannot be in time is admitted as it is, at once, and counted.
#[test]
fn overload_is_answered_early() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let beside = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(start(Known));
    let client = Client::of(&server);
    let exchange = || beside.block_on(client.exchange(&post(&review("u")))).unwrap();
    assert!(exchange().contains("JSONPatch"));
    // Nothing else runs on the only thread while this sleeps, as with a processor that is taken away.
    runtime.spawn(async { std::thread::sleep(Duration::from_millis(2500)) });
    std::thread::sleep(Duration::from_millis(200));
    let answer = exchange();
    let response = &body(&answer)["response"];
    assert_eq!((&response["allowed"], &response["uid"]), (&json!(true), &json!("u")), "{answer}");
    assert_eq!(response.get("patch"), None, "{answer}");
    assert_eq!(server.refused("overload"), 1);
    // And when there is time again, reviews are reviews again.
    std::thread::sleep(Duration::from_millis(500));
    assert!(exchange().contains("JSONPatch"));
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_crash_of_one_review_admits_its_pod() {
    let server = start(support::Crashing).await;
    let client = Client::of(&server);
    let answer = client.exchange(&post(&review("u"))).await.unwrap();
    assert_eq!(body(&answer)["response"], json!({ "uid": "u", "allowed": true }));
    drop(Arc::new(server));
}
