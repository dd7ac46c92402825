//! A change of everything, under load: two replicas with a listener each, the webhook configuration, and clients that
//! trust what it says, as late as API servers do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use jiff::SignedDuration;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::DeleteParams;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::args::Args;
use crate::certificates::x509;
use crate::registration::{self, Overlap, Reach, Registration};
use crate::self_review::{SelfReview, client};
use crate::testing::{NAMESPACE, Sim, serve};

const HOST: &str = "vpa-webhook.kube-system.svc";
const NAME: &str = "vpa-webhook-certificates";
/// Time between two looks of a replica, of the registration and of an API server.
const LOOK: Duration = Duration::from_millis(50);
/// How long the next authority has to have been trusted; several looks of an API server.
const SETTLE: Duration = Duration::from_secs(1);

/// Runs for as long as it is held.
type Task = AbortOnDropHandle<()>;

fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Task {
    AbortOnDropHandle::new(tokio::spawn(work))
}

/// What replicas go by that the test changes while they run.
struct Script {
    /// Added to the time of day.
    ahead: Mutex<SignedDuration>,
    /// Names for the certificate.
    names: Mutex<Vec<String>>,
}

struct Replica {
    address: SocketAddr,
    certificates: Certificates,
    _tasks: [Task; 2],
}

async fn replica(sim: &Sim, script: &Arc<Script>) -> Replica {
    let known = Known::default();
    let place = Place::new(&sim.cluster, NAMESPACE, NAME);
    let names = script.names.lock().clone();
    let (mut keeper, _) = Keeper::open(Some(place), names, Some(known.clone())).await.unwrap();
    keeper.settle = SETTLE;
    let certificates = keeper.certificates().clone();
    let registration = registration();
    let (cluster, registered, script) = (sim.cluster.clone(), certificates.clone(), script.clone());
    let mut overlap = Overlap::default();
    registration.apply(&cluster, &registered, true, &mut overlap, &known).await.unwrap();
    let address = serve(&certificates).await;
    let register = spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            registration.apply(&cluster, &registered, true, &mut overlap, &known).await.unwrap();
        }
    });
    let keep = spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = clock::wall() + *script.ahead.lock();
            keeper.names = script.names.lock().clone();
            keeper.look(now).await.unwrap();
        }
    });
    Replica { address, certificates, _tasks: [register, keep] }
}

fn registration() -> Registration {
    let parsed = vpa_runtime::flags::parse::<Args>(&crate::program::COMPONENT, ["x".into()]);
    let flags = parsed.unwrap().unwrap().args.registration;
    Registration::new(&flags, NAMESPACE, &Default::default()).unwrap()
}

/// The caBundle as an API server knows it.
fn api_server(sim: &Sim) -> (Arc<Mutex<Vec<u8>>>, Task) {
    let (bundle, cluster) = (Arc::<Mutex<Vec<u8>>>::default(), sim.cluster.clone());
    let seen = bundle.clone();
    let task = spawn(async move {
        let api: Api<MutatingWebhookConfiguration> = Api::all(cluster.client);
        loop {
            let found = api.get(registration::CONFIGURATION).await.unwrap();
            let webhook = found.webhooks.unwrap().remove(0);
            tokio::time::sleep(LOOK).await;
            *seen.lock() = webhook.client_config.ca_bundle.unwrap().0;
        }
    });
    (bundle, task)
}

#[derive(Default)]
struct Count {
    new: AtomicU64,
    kept: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Reviews over new connections, one after the other.
fn over_new_connections(replica: &Replica, bundle: &Arc<Mutex<Vec<u8>>>, count: &Arc<Count>) -> Task {
    let review = SelfReview::new(replica.address, Some(HOST.to_owned()), NAMESPACE);
    let (certificates, bundle, count) = (replica.certificates.clone(), bundle.clone(), count.clone());
    spawn(async move {
        loop {
            let trusted = bundle.lock().clone();
            match review.send(&certificates.served(), &trusted, Duration::from_secs(5)).await {
                Ok(()) => drop(count.new.fetch_add(1, Ordering::Relaxed)),
                Err(error) => count.failures.lock().push(format!("new connection: {error}")),
            }
        }
    })
}

/// Reviews over one connection that is kept.
fn over_a_kept_connection(replica: &Replica, bundle: Vec<u8>, count: &Arc<Count>) -> Task {
    let (address, count) = (replica.address, count.clone());
    spawn(async move {
        let trust = x509::Trust::new(x509::split(&bundle).unwrap());
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client(trust).unwrap()));
        let stream = connector.connect(HOST.try_into().unwrap(), stream).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let _connection = spawn(async move { drop(connection.await) });
        loop {
            let body = Full::new(Bytes::from_static(br#"{"request":{"uid":"u","operation":"DELETE"}}"#));
            let request =
                http::Request::post("/").header("host", HOST).header("content-type", "application/json");
            let answer = async {
                sender.ready().await?;
                let answer = sender.send_request(request.body(body).unwrap()).await?;
                Ok::<_, hyper::Error>(answer.into_body().collect().await?.to_bytes())
            };
            match answer.await {
                Ok(body) if body.starts_with(b"{\"kind\":\"AdmissionReview\"") => {
                    count.kept.fetch_add(1, Ordering::Relaxed);
                }
                other => count.failures.lock().push(format!("kept connection: {other:?}")),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

/// Waits for a state of the Secret that both replicas serve.
async fn until(sim: &Sim, replicas: &[Replica; 2], what: &str, wanted: impl Fn(&Content) -> bool) -> Content {
    let api = Place::new(&sim.cluster, NAMESPACE, NAME).api;
    let began = std::time::Instant::now();
    loop {
        let found = api.get_opt(NAME).await.unwrap().and_then(|secret| kept::read(&secret.data?).whole());
        let serve = |content: &Content| {
            let leaf: Option<&CertificateDer<'_>> = content.leaf.chain.first();
            replicas.iter().all(|replica| replica.certificates.served().leaf() == leaf)
        };
        match found {
            Some(content) if wanted(&content) && serve(&content) => return content,
            _ => assert!(began.elapsed() < Duration::from_secs(30), "{what} does not come"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_all_certificates_fails_no_request() {
    let sim = Sim::start().await;
    let script = Arc::new(Script {
        ahead: Mutex::default(),
        names: Mutex::new(vec![HOST.to_owned(), "other".to_owned()]),
    });
    let replicas = [replica(&sim, &script).await, replica(&sim, &script).await];
    let (bundle, _api_server) = api_server(&sim);
    let first = until(&sim, &replicas, "the first", |_| true).await;
    while bundle.lock().is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    let count = Arc::<Count>::default();
    let mut load: Vec<Task> = Vec::new();
    for replica in &replicas {
        load.push(over_new_connections(replica, &bundle, &count));
        load.push(over_a_kept_connection(replica, first.bundle(), &count));
    }

    // Another certificate by the same authority.
    script.names.lock().push("third".to_owned());
    let renewed = until(&sim, &replicas, "another certificate", |content| content.leaf != first.leaf).await;
    assert_eq!(renewed.authority, first.authority);
    // Another authority, since somebody deleted the Secret.
    let secrets: Api<Secret> = Api::namespaced(sim.cluster.client.clone(), NAMESPACE);
    secrets.delete(NAME, &DeleteParams::default()).await.unwrap();
    let announced = until(&sim, &replicas, "the next authority", |content| content.next.is_some()).await;
    assert_eq!(announced.authority, first.authority);
    let switched =
        until(&sim, &replicas, "its signature", |content| content.authority != first.authority).await;
    assert_eq!(switched.previous.first(), Some(&first.authority.certificate));
    // And a day later the one before is gone from the bundle.
    *script.ahead.lock() = SignedDuration::from_hours(25);
    until(&sim, &replicas, "the end of the first authority", |content| content.previous.is_empty()).await;
    tokio::time::sleep(10 * LOOK).await;

    drop(load);
    let failures: BTreeSet<String> = count.failures.lock().drain(..).collect();
    let counts = [&count.new, &count.kept].map(|count| count.load(Ordering::Relaxed));
    println!("{counts:?} reviews over new and over kept connections");
    assert!(failures.is_empty(), "{failures:?}");
    // A busy machine does a few dozen in this time, an idle one thousands.
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    // The registration still trusts the first one for an hour, whoever may serve by it.
    assert!(x509::split(&bundle.lock()).unwrap().contains(&first.authority.certificate));
    let removed = Reach::remove(registration().reach(), &sim.cluster).await.unwrap();
    assert_eq!(removed, registration::Removed::Whole);
}
