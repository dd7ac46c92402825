use std::net::SocketAddr;

use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::net::TcpListener;

use super::*;
use crate::certificates::kept::Content;
use crate::testing::{COMPONENT, NAMESPACE, Sim, serve};

const LEASE: &str = "vpa-admission-controller";
const HOST: &str = "vpa-webhook.kube-system.svc";
const INTERVAL: Duration = Duration::from_millis(100);

fn content(hours_ago: i64) -> Content {
    Content::new(&[HOST.to_owned()], clock::wall() - SignedDuration::from_hours(hours_ago)).unwrap()
}

/// A heartbeat of a webhook with a certificate and a listener.
struct Beating {
    sim: Sim,
    shell: Shell,
    certificates: Certificates,
    known: Known,
}

impl Beating {
    async fn start(listener: Option<SocketAddr>) -> Self {
        let sim = Sim::start().await;
        let (shell, _) = Shell::new(&COMPONENT).unwrap();
        let certificates = Certificates::serving(content(0).served().unwrap());
        let address = match listener {
            Some(address) => address,
            None => serve(&certificates).await,
        };
        let known = Known::default();
        known.written(&certificates.served().authority, clock::steady());
        let writer = HeartbeatWriter::new(&sim.cluster, NAMESPACE, LEASE, INTERVAL);
        let review = SelfReview::new(address, Some(HOST.to_owned()), NAMESPACE);
        beat(&shell, writer, INTERVAL, review, &certificates, Some(known.clone()));
        Self { sim, shell, certificates, known }
    }

    async fn version(&self) -> Option<String> {
        let api: Api<Lease> = Api::namespaced(self.sim.cluster.client.clone(), NAMESPACE);
        api.get_opt(LEASE).await.unwrap().and_then(|lease| lease.metadata.resource_version)
    }

    /// Whether it beats within a second or so.
    async fn beats(&self) -> bool {
        // One may be under way.
        tokio::time::sleep(2 * INTERVAL).await;
        let before = self.version().await;
        for _ in 0..20 {
            tokio::time::sleep(INTERVAL / 2).await;
            if self.version().await != before {
                return true;
            }
        }
        false
    }

    fn readiness(&self) -> String {
        self.shell.health().ready().1
    }
}

#[tokio::test]
async fn a_heart_beats_while_the_webhook_can_be_trusted() {
    let beating = Beating::start(None).await;
    assert!(beating.beats().await);
    assert!(beating.readiness().contains("[+] self-review ok"));
    let good = (*beating.certificates.served()).clone();

    beating.certificates.serve(content(91 * 24).served().unwrap());
    assert!(!beating.beats().await, "an expired certificate");
    assert!(
        beating.readiness().contains("[-] self-review the certificate expired at"),
        "{}",
        beating.readiness()
    );

    beating.certificates.serve(good.clone());
    assert!(beating.beats().await);
    assert!(beating.readiness().contains("[+] self-review ok"));

    beating.certificates.serve(content(0).served().unwrap());
    assert!(!beating.beats().await, "a certificate by an authority that is not registered");
    beating.certificates.serve(good);
    assert!(beating.beats().await);

    beating.known.not_written();
    beating.known.failed("no permission");
    assert!(!beating.beats().await, "a webhook that nobody calls");
    assert!(beating.readiness().contains("[+] self-review ok"), "another replica could do no better");
}

#[tokio::test]
async fn a_webhook_that_hangs_has_no_heartbeat() {
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let beating = Beating::start(Some(hung.local_addr().unwrap())).await;
    assert!(!beating.beats().await);
    assert_eq!(beating.version().await, None);
    assert!(beating.readiness().contains("[-] self-review"), "{}", beating.readiness());
}

#[test]
fn a_trouble_is_told_once_until_it_changes() {
    let mut trouble = Trouble::default();
    assert!(trouble.begins("a") && !trouble.begins("a") && trouble.begins("b") && trouble.begins("a"));
    trouble.over();
    assert!(trouble.begins("a"));
}
