//! Certificates in a volume that the kubelet changes, under load: clients with new and with kept connections, who trust what
//! is registered as late as API servers do, see no failure.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use vpa_admission_controller::certificates::{Certificates, Source};

mod support;

use support::{Known, Serving, review};

const HOST: &str = "vpa-webhook.kube-system.svc";
/// Time between two looks at the files; the program takes longer.
const LOOK: Duration = Duration::from_millis(20);
/// How much later than the program an API server knows what it has to trust.
const LATE: Duration = Duration::from_millis(100);

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Changes all files of the volume in one step, as the kubelet does.
fn swap(volume: &Path, version: &str, (certificate, key): &(String, String), bundle: &str) {
    let folder = volume.join(version);
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in [("tls.crt", certificate.as_str()), ("tls.key", key), ("ca.crt", bundle)] {
        std::fs::write(folder.join(name), text).unwrap();
        if !volume.join(name).exists() {
            let _ = symlink(format!("..data/{name}"), volume.join(name));
        }
    }
    symlink(version, volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

fn spawn(work: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(work))
}

/// Sends a review and reads its answer, on a connection that stays.
async fn ask(stream: &mut TlsStream<TcpStream>) -> Result<(), String> {
    let body = review("u");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // The patch comes last, and with it the end of the answer.
    while !answer.ends_with(b"}}") {
        match stream.read_buf(&mut answer).await {
            Ok(0) => return Err(format!("ended after {:?}", String::from_utf8_lossy(&answer))),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    if text.starts_with("HTTP/1.1 200") && text.contains("JSONPatch") {
        Ok(())
    } else {
        Err(text.into_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_load_fails_no_request() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let both = format!("{}{}", first.pem, second.pem);
    let volume = tempfile::tempdir().unwrap();
    swap(volume.path(), "..1", &first.sign(), &first.pem);
    let file = |name: &str| volume.path().join(name);
    let (certificate, key, authority) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
    let certificates = Certificates::load(Source::Files { certificate, key, authority }).unwrap();

    let Serving { address, task, .. } = support::serve(Known, &certificates).await;
    let _server = AbortOnDropHandle::new(task);
    let changes = Arc::new(AtomicU64::new(0));
    let _watch = spawn({
        let (certificates, changes) = (certificates.clone(), changes.clone());
        async move {
            loop {
                // What does not fit is passed over.
                if certificates.refresh(vpa_runtime::clock::wall()).unwrap_or_default() {
                    changes.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    });
    let trusted = Arc::new(Mutex::new(certificates.served().authority.clone()));
    let _api_server = spawn({
        let (certificates, trusted) = (certificates.clone(), trusted.clone());
        async move {
            loop {
                let bundle = certificates.served().authority.clone();
                tokio::time::sleep(LATE).await;
                *trusted.lock() = bundle;
            }
        }
    });

    let failures = Arc::<Mutex<Vec<String>>>::default();
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let mut load = Vec::new();
    for client in 0..4 {
        let (trusted, failures, counts) = (trusted.clone(), failures.clone(), counts.clone());
        load.push(spawn(async move {
            // Half of them keep their connection.
            let kept = client % 2;
            let mut stream = None;
            loop {
                let bundle = trusted.lock().clone();
                let result = async {
                    let mut open = match stream.take() {
                        Some(stream) => stream,
                        None => support::connect(address, HOST, &bundle).await?,
                    };
                    ask(&mut open).await?;
                    Ok::<_, String>(open)
                };
                match result.await {
                    Ok(open) => stream = (kept == 1).then_some(open),
                    Err(error) => failures.lock().push(error),
                }
                counts[kept].fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }));
    }

    let pause = || tokio::time::sleep(4 * LATE);
    // Certificates by the same authority, then another authority as cert-manager's users do it: trusted first.
    swap(volume.path(), "..2", &first.sign(), &first.pem);
    pause().await;
    swap(volume.path(), "..3", &first.sign(), &both);
    pause().await;
    swap(volume.path(), "..4", &second.sign(), &both);
    pause().await;
    // Somebody writes the files one after the other, with time in between.
    let (certificate, key) = second.sign();
    let data = volume.path().join("..4");
    std::fs::write(data.join("tls.crt"), &certificate).unwrap();
    pause().await;
    std::fs::write(data.join("tls.key"), "").unwrap();
    pause().await;
    std::fs::write(data.join("tls.key"), &key).unwrap();
    pause().await;
    swap(volume.path(), "..5", &second.sign(), &second.pem);
    pause().await;

    drop(load);
    let failures = std::mem::take(&mut *failures.lock());
    let counts = [0, 1].map(|kind: usize| counts[kind].load(Ordering::Relaxed));
    println!("{counts:?} reviews over new and over kept connections");
    assert!(failures.is_empty(), "{} failures, such as {:?}", failures.len(), failures.first());
    assert_eq!(changes.load(Ordering::Relaxed), 5);
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}
