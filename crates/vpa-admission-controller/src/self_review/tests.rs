use jiff::SignedDuration;
use tokio::net::TcpListener;
use vpa_runtime::clock;

use super::*;
use crate::certificates::Certificates;
use crate::certificates::kept::Content;
use crate::testing::serve;

const HOST: &str = "vpa-webhook.kube-system.svc";

fn content(hours_ago: i64) -> Content {
    Content::new(&[HOST.to_owned()], clock::wall() - SignedDuration::from_hours(hours_ago)).unwrap()
}

async fn send(content: &Content, host: Option<&str>, bundle: &[u8]) -> Result<(), String> {
    let certificates = Certificates::serving(content.served().unwrap());
    let address = serve(&certificates).await;
    let review = SelfReview::new(address, host.map(str::to_owned), "kube-system");
    review.send(&certificates.served(), bundle, REVIEW_MAX).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_webhook_that_works_answers() {
    let (content, other) = (content(0), content(0).bundle());
    let own = content.bundle();
    assert_eq!(send(&content, Some(HOST), &own).await, Ok(()));
    assert_eq!(send(&content, Some(HOST), &[other, own].concat()).await, Ok(()));
    // Where it is not known what API servers trust, or by which name they call.
    assert_eq!(send(&content, Some(HOST), b"").await, Ok(()));
    assert_eq!(send(&content, None, &content.bundle()).await, Ok(()));
}

#[tokio::test]
async fn a_certificate_that_api_servers_refuse_is_no_good() {
    let (fresh, ended, early) = (content(0), content(91 * 24), content(-48));
    for (what, content, host, bundle, named) in [
        ("another authority", &fresh, HOST, content(0).bundle(), "invalid peer certificate"),
        ("another name", &fresh, "other.kube-system.svc", fresh.bundle(), "other.kube-system.svc"),
        ("ended", &ended, HOST, ended.bundle(), "expired"),
        ("not begun", &early, HOST, early.bundle(), "not valid yet"),
    ] {
        let error = send(content, Some(host), &bundle).await.unwrap_err();
        assert!(error.contains(named) && error.contains("cannot trust the webhook"), "{what}: {error}");
    }
}

/// A certificate that is its own authority, and marked as one, as `openssl req -x509` makes it: API servers take it.
#[tokio::test]
async fn a_certificate_that_is_trusted_itself_is_good() {
    let mut params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let source = crate::certificates::Source::Files {
        certificate: file("a", made.pem()),
        key: file("b", key.serialize_pem()),
        authority: file("c", made.pem()),
    };
    let certificates = Certificates::load(source).unwrap();
    let review = SelfReview::new(serve(&certificates).await, Some(HOST.to_owned()), "kube-system");
    let served = certificates.served();
    review.send(&served, &served.authority, REVIEW_MAX).await.unwrap();
    let other = SelfReview { host: Some("other".to_owned()), ..review };
    assert!(other.send(&served, &served.authority, REVIEW_MAX).await.is_err());
}

#[tokio::test]
async fn a_listener_that_does_not_answer_is_no_good() {
    let content = content(0);
    let served = content.served().unwrap();
    // It takes connections and says nothing.
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let review = SelfReview::new(hung.local_addr().unwrap(), Some(HOST.to_owned()), "kube-system");
    let patience = Duration::from_millis(200);
    let error = review.send(&served, &content.bundle(), patience).await.unwrap_err();
    assert!(matches!(error, Broken::Timeout(within) if within == patience), "{error}");
    drop(hung);
    let error = review.send(&served, &content.bundle(), patience).await.unwrap_err();
    assert!(matches!(error, Broken::Connect { .. }), "{error}");
}

#[test]
fn a_listener_on_all_addresses_is_reached_by_loopback() {
    let of = |text: &str| {
        let all = addresses(text.parse().unwrap());
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of("0.0.0.0:8000"), "127.0.0.1:8000");
    assert_eq!(of("[::]:8000"), "[::1]:8000 127.0.0.1:8000");
    assert_eq!(of("10.0.0.1:8000"), "10.0.0.1:8000");
}

#[test]
fn an_answer_has_to_be_the_one_to_the_question() {
    let answer = |uid: &str, allowed: bool| {
        json!({ "response": { "uid": uid, "allowed": allowed, "status": { "message": "no" } } }).to_string()
    };
    assert!(check(answer("a", true).as_bytes(), "a").is_ok());
    for (body, text) in [
        (answer("b", true), "another review"),
        (answer("a", false), "refusal"),
        ("busy".to_owned(), "no JSON"),
        ("{}".to_owned(), "another review"),
    ] {
        let error = check(body.as_bytes(), "a").unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}
