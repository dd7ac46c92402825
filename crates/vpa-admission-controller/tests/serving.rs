//! The HTTPS server on a real socket: trust, renewal of the certificate, and its end.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use vpa_admission_controller::certificates::{Certificates, Source};
use vpa_admission_controller::webhook::{View, Views};
use vpa_core::target::{ControllerKey, ControllerSource, Lookup};

mod support;

use support::{Known, Serving, review};

/// A cluster with one StatefulSet, which is known only after it was waited for.
#[derive(Clone, Default)]
struct Slow {
    known: Arc<AtomicBool>,
    asked: Arc<tokio::sync::Notify>,
}

impl ControllerSource for Slow {
    fn get(&self, key: &ControllerKey) -> Lookup {
        if !self.known.load(Ordering::SeqCst) {
            return Lookup::Pending;
        }
        Known.get(key)
    }
}

impl Views for Slow {
    fn view(&self) -> View {
        View { controllers: Arc::new(self.clone()), ..Known.view() }
    }

    fn resolve<'a>(&'a self, _: &'a ControllerKey) -> BoxFuture<'a, ()> {
        Box::pin(async {
            self.asked.notify_one();
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.known.store(true, Ordering::SeqCst);
        })
    }
}

struct Server {
    address: SocketAddr,
    certificates: Certificates,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(views: Slow, source: Source) -> Server {
    let certificates = Certificates::load(source).unwrap();
    let Serving { address, registry: _, stop, task } = support::serve(views, &certificates).await;
    Server { address, certificates, stop, task }
}

fn self_made() -> Source {
    Source::SelfMade(vec!["127.0.0.1".to_owned(), "vpa-webhook.kube-system.svc".to_owned()])
}

/// Sends a review as the name `host`, trusting `authority` alone; the answer with its head.
async fn send(address: SocketAddr, host: &str, authority: &[u8]) -> Result<String, String> {
    let mut stream = support::connect(address, host, authority).await?;
    let body = review("u");
    let head = format!(
        "POST /?timeout=10s HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.map_err(|error| error.to_string())?;
    Ok(support::read(&mut stream).await)
}

#[tokio::test]
async fn a_certificate_made_here_is_trusted_by_its_authority_alone() {
    let server = start(Slow::default(), self_made()).await;
    let authority = server.certificates.served().authority.clone();
    for host in ["127.0.0.1", "vpa-webhook.kube-system.svc"] {
        let answer = send(server.address, host, &authority).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("JSONPatch"), "{answer}");
    }
    assert!(send(server.address, "other.example.com", &authority).await.is_err());
    let stranger = Certificates::load(self_made()).unwrap().served().authority.clone();
    assert!(send(server.address, "127.0.0.1", &stranger).await.is_err());
}

#[tokio::test]
async fn another_certificate_is_served_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let write = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(file("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(file("tls.key"), made.signing_key.serialize_pem()).unwrap();
        made.cert.pem().into_bytes()
    };
    let first = write();
    let source =
        Source::Files { certificate: file("tls.crt"), key: file("tls.key"), authority: file("ca.crt") };
    let server = start(Slow::default(), source).await;
    assert!(send(server.address, "localhost", &first).await.is_ok());
    let second = write();
    assert!(server.certificates.refresh(vpa_runtime::clock::wall()).unwrap());
    assert!(send(server.address, "localhost", &second).await.is_ok());
    assert!(send(server.address, "localhost", &first).await.is_err());
}

#[tokio::test]
async fn what_is_under_way_is_finished_at_the_end() {
    let views = Slow::default();
    let server = start(views.clone(), self_made()).await;
    let authority = server.certificates.served().authority.clone();
    let address = server.address;
    let under_way = tokio::spawn({
        let authority = authority.clone();
        async move { send(address, "127.0.0.1", &authority).await }
    });
    views.asked.notified().await;
    server.stop.cancel();
    let answer = under_way.await.unwrap().unwrap();
    assert!(answer.contains("JSONPatch"), "{answer}");
    tokio::time::timeout(Duration::from_secs(5), server.task).await.unwrap().unwrap();
    assert!(send(address, "127.0.0.1", &authority).await.is_err());
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_the_end() {
    let server = start(Slow::default(), self_made()).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop.cancel();
    tokio::time::timeout(Duration::from_secs(3), server.task).await.unwrap().unwrap();
}
