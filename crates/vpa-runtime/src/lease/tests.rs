use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::flags::{GoDuration, LeaderElectFlags};
use crate::testing::{Answer, Api, Call};
use crate::{Component, Error, Shell};

const COMPONENT: Component =
    Component { name: "vpa-test", about: "A test.", default_address: ":0", lease_name: Some("lease") };

/// A lease in an API server with optimistic locking.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    /// Answer to everything with this code.
    broken: Option<u16>,
}

impl Server {
    fn answer(&mut self, call: &Call) -> Answer {
        if let Some(code) = self.broken {
            let verb = match call.method.as_str() {
                "GET" => "get",
                "POST" => "create",
                _ => "update",
            };
            return Answer::status(code, &format!("leases is forbidden: user cannot {verb} resource"));
        }
        match (call.method.as_str(), &self.lease) {
            ("GET", Some(lease)) => Answer::ok(lease.to_string()),
            ("GET", None) => Answer::status(404, "NotFound"),
            ("POST", None) => self.store(call),
            ("PUT", Some(lease)) => {
                let sent: Value = serde_json::from_str(&call.body).unwrap();
                let same = sent["metadata"]["resourceVersion"] == lease["metadata"]["resourceVersion"];
                if same { self.store(call) } else { Answer::status(409, "Conflict") }
            }
            ("POST", Some(_)) => Answer::status(409, "AlreadyExists"),
            other => panic!("not expected: {other:?}"),
        }
    }

    fn store(&mut self, call: &Call) -> Answer {
        self.version += 1;
        let mut lease: Value = serde_json::from_str(&call.body).unwrap();
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        Answer::ok(lease.to_string())
    }
}

fn serve() -> (Arc<Mutex<Server>>, Api) {
    let server = Arc::new(Mutex::new(Server::default()));
    let answering = server.clone();
    (server, Api::scripted(move |call| answering.lock().answer(call)))
}

/// Short times: the election goes by the steady clock, which does not follow tokio's paused time.
fn flags(elect: bool) -> LeaderElectFlags {
    LeaderElectFlags {
        leader_elect: elect,
        leader_elect_lease_duration: GoDuration::from_secs(4),
        leader_elect_renew_deadline: GoDuration::from_secs(3),
        leader_elect_retry_period: GoDuration::from_millis(50),
        leader_elect_resource_lock: "leases".into(),
        leader_elect_resource_name: "lease".into(),
        leader_elect_resource_namespace: "ns".into(),
    }
}

fn holder(server: &Mutex<Server>) -> String {
    server
        .lock()
        .lease
        .as_ref()
        .map_or_else(String::new, |lease| lease["spec"]["holderIdentity"].as_str().unwrap().into())
}

#[tokio::test]
async fn without_election_leadership_holds() {
    let (server, api) = serve();
    let (shell, _deaths) = Shell::new(&COMPONENT).unwrap();
    let leadership = shell.lead(&api.cluster(), &flags(false)).await.unwrap().unwrap();
    assert!(leadership.holds() && !leadership.token().is_cancelled());
    leadership.release().await;
    assert!(server.lock().lease.is_none());
    assert_eq!(shell.metrics().leading.get(), 1);
}

#[tokio::test]
async fn one_leads_and_the_other_takes_over_at_once_after_a_release() {
    let (server, api) = serve();
    let (first, _deaths) = Shell::new(&COMPONENT).unwrap();
    let leader = first.lead(&api.cluster(), &flags(true)).await.unwrap().unwrap();
    assert!(leader.holds());
    let first_holder = holder(&server);
    assert!(first_holder.starts_with(&format!("{}_", host_name())), "{first_holder}");

    let (second, _deaths) = Shell::new(&COMPONENT).unwrap();
    let waiting = second.clone();
    let cluster = api.cluster();
    let follower = tokio::spawn(async move { waiting.lead(&cluster, &flags(true)).await });
    tokio::time::sleep(Duration::from_millis(4300)).await;
    assert!(leader.holds() && !follower.is_finished(), "renewed beyond the lease's duration");
    let labels = [("lease", "ns/lease"), ("holder", first_holder.as_str())];
    assert_eq!(second.metrics().lease_holder.with_label_values(&labels.map(|(_, value)| value)).get(), 1);

    let token = leader.token();
    leader.release().await;
    assert!(token.is_cancelled());
    let began = std::time::Instant::now();
    let taken = follower.await.unwrap().unwrap().unwrap();
    assert!(taken.holds() && began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_ne!(holder(&server), first_holder);
    let transitions = server.lock().lease.as_ref().unwrap()["spec"]["leaseTransitions"].clone();
    assert_eq!(transitions, json!(1));
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_others_may_take_over() {
    let (server, api) = serve();
    let (shell, mut deaths) = Shell::new(&COMPONENT).unwrap();
    let leadership = shell.lead(&api.cluster(), &flags(true)).await.unwrap().unwrap();
    server.lock().broken = Some(500);
    let began = std::time::Instant::now();
    leadership.token().cancelled().await;
    assert!(!leadership.holds());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let death = deaths.recv().await.unwrap();
    assert!(matches!(&death, Error::LeadershipLost { lease, .. } if lease == "ns/lease"), "{death}");
    assert_eq!((death.exit_code(), shell.metrics().leading.get()), (1, 0));
}

#[tokio::test]
async fn a_lease_written_over_by_another_one_ends_leadership() {
    let (server, api) = serve();
    let (shell, mut deaths) = Shell::new(&COMPONENT).unwrap();
    let leadership = shell.lead(&api.cluster(), &flags(true)).await.unwrap().unwrap();
    {
        let mut server = server.lock();
        server.version += 1;
        let version = server.version.to_string();
        server.lease =
            Some(json!({"metadata": {"name": "lease", "namespace": "ns", "resourceVersion": version},
            "spec": {"holderIdentity": "thief", "leaseDurationSeconds": 15, "leaseTransitions": 7}}));
    }
    leadership.token().cancelled().await;
    let death = deaths.recv().await.unwrap();
    assert!(death.to_string().contains("thief holds it"), "{death}");
    assert_eq!(holder(&server), "thief", "it is left to its holder");
}

#[tokio::test]
async fn a_missing_right_is_named_and_ends_the_wait() {
    let (server, api) = serve();
    server.lock().broken = Some(403);
    let (shell, _deaths) = Shell::new(&COMPONENT).unwrap();
    let error = shell.lead(&api.cluster(), &flags(true)).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit_code(), 5, "{text}");
    assert!(text.contains("get leases.coordination.k8s.io in namespace ns"), "{text}");
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_leadership() {
    let (server, api) = serve();
    server.lock().broken = Some(500);
    let (shell, _deaths) = Shell::new(&COMPONENT).unwrap();
    shell.stopping().cancel();
    assert!(shell.lead(&api.cluster(), &flags(true)).await.unwrap().is_none());
}

#[tokio::test]
async fn what_others_wrote_into_the_lease_stays() {
    let (server, api) = serve();
    server.lock().lease =
        Some(json!({"metadata": {"name": "lease", "namespace": "ns", "resourceVersion": "5",
        "labels": {"team": "a"}}, "spec": {"holderIdentity": ""}}));
    server.lock().version = 5;
    let (shell, _deaths) = Shell::new(&COMPONENT).unwrap();
    let leadership = shell.lead(&api.cluster(), &flags(true)).await.unwrap().unwrap();
    assert_eq!(server.lock().lease.as_ref().unwrap()["metadata"]["labels"], json!({"team": "a"}));
    leadership.release().await;
    assert_eq!(holder(&server), "");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_beats_while_its_program_is_fit() {
    let (server, api) = serve();
    let writer = HeartbeatWriter::new(&api.cluster(), "ns", "beat", Duration::from_secs(10));
    let fit = Arc::new(Mutex::new(Ok(())));
    let asked = fit.clone();
    let stop = CancellationToken::new();
    let task = tokio::spawn(writer.run(stop.clone(), move || std::future::ready(asked.lock().clone())));
    let version = || server.lock().version;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(version(), 1, "the first beat comes at once");
    let spec = server.lock().lease.as_ref().unwrap()["spec"].clone();
    assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!(host_name()), &json!(10)));
    assert!(spec["renewTime"].is_string() && spec.get("leaseTransitions").is_none(), "{spec}");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(version(), 3);
    *fit.lock() = Err("the certificate has expired".to_owned());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(version(), 3, "no beat without fitness");
    *fit.lock() = Ok(());
    server.lock().broken = Some(500);
    tokio::time::sleep(Duration::from_secs(30)).await;
    server.lock().broken = None;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(version(), 4, "it goes on after a failure");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_say_whether_it_is_fit_has_no_heartbeat() {
    let (server, api) = serve();
    let writer = HeartbeatWriter::new(&api.cluster(), "ns", "beat", Duration::from_secs(10));
    let stop = CancellationToken::new();
    let task = tokio::spawn(writer.run(stop.clone(), std::future::pending));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(server.lock().version, 0);
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(15), task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_heartbeat_is_read() {
    let (server, api) = serve();
    let mut reader = HeartbeatReader::new(&api.cluster(), "ns", "beat", Duration::from_secs(60));
    assert_eq!(reader.read().await, HeartbeatState::Missing);
    let lease = |renewed: jiff::Timestamp, version: u64| {
        json!({"metadata": {"name": "beat", "namespace": "ns", "resourceVersion": version.to_string()},
            "spec": {"holderIdentity": "a", "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()}})
    };
    let ago = |seconds: i64| crate::clock::wall() - jiff::SignedDuration::from_secs(seconds);
    server.lock().lease = Some(lease(ago(90), 1));
    assert!(matches!(reader.read().await, HeartbeatState::Stale(age) if age.as_secs() >= 89));
    server.lock().lease = Some(lease(ago(85), 2));
    assert!(reader.read().await.is_alive(), "it has changed, so it lives, wrong clock or not");
    server.lock().broken = Some(500);
    assert!(matches!(reader.read().await, HeartbeatState::Unknown(reason) if reason.contains("forbidden")));
    server.lock().broken = None;
    server.lock().lease = Some(
        json!({"metadata": {"name": "beat", "creationTimestamp": ago(5).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}, "spec": {}}),
    );
    let mut fresh = HeartbeatReader::new(&api.cluster(), "ns", "beat", Duration::from_secs(60));
    assert!(fresh.read().await.is_alive(), "made a moment ago");
}
