use jiff::SignedDuration;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::*;
use crate::testing::{NAMESPACE, Sim};

const NAME: &str = "vpa-webhook-certificates";
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn place(sim: &Sim) -> Place {
    Place::new(&sim.cluster, NAMESPACE, NAME)
}

fn names() -> Vec<String> {
    vec!["vpa-webhook.kube-system.svc".to_owned()]
}

async fn open(sim: &Sim) -> Keeper {
    let (keeper, problem) = Keeper::open(Some(place(sim)), names(), None).await.unwrap();
    assert!(problem.is_none(), "{problem:?}");
    keeper
}

async fn stored(sim: &Sim) -> Secret {
    place(sim).api.get(NAME).await.unwrap()
}

async fn content(sim: &Sim) -> Content {
    kept::read(&stored(sim).await.data.unwrap()).whole().unwrap()
}

async fn change(sim: &Sim, patch: serde_json::Value) {
    place(sim).api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

fn leaf(keeper: &Keeper) -> rustls_pki_types::CertificateDer<'static> {
    keeper.certificates.served().leaf().unwrap().clone()
}

#[tokio::test]
async fn replicas_that_start_at_once_serve_the_same() {
    let sim = Sim::start().await;
    let opened = futures::future::join_all((0..5).map(|_| open(&sim))).await;
    let kept = content(&sim).await;
    for keeper in &opened {
        assert_eq!(leaf(keeper), kept.leaf.chain[0]);
        assert!(keeper.shared() && !keeper.certificates.alone());
    }
    let secret = stored(&sim).await;
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert_eq!(secret.metadata.labels.unwrap()[LABEL.0], LABEL.1);
    let keys: Vec<String> = secret.data.unwrap().into_keys().collect();
    assert_eq!(keys, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
}

#[tokio::test]
async fn what_one_replica_renews_the_others_serve() {
    let sim = Sim::start().await;
    let (mut first, mut second) = (open(&sim).await, open(&sim).await);
    let before = leaf(&first);
    let now = clock::wall();
    first.look(now).await.unwrap();
    assert_eq!(leaf(&first), before);
    // Both at the same moment: one of them comes second and takes what the other wrote.
    let late = now + DAY * 61;
    let (one, other) = tokio::join!(first.look(late), second.look(late));
    one.unwrap();
    other.unwrap();
    second.look(late).await.unwrap();
    first.look(late).await.unwrap();
    assert_ne!(leaf(&first), before);
    assert_eq!(leaf(&first), leaf(&second));
}

#[tokio::test]
async fn a_deleted_secret_comes_back_with_what_is_served_and_another_authority_to_follow() {
    let sim = Sim::start().await;
    let (mut first, mut second) = (open(&sim).await, open(&sim).await);
    let before = content(&sim).await;
    place(&sim).api.delete(NAME, &DeleteParams::default()).await.unwrap();
    let now = clock::wall();
    let (one, other) = tokio::join!(first.look(now), second.look(now));
    one.unwrap();
    other.unwrap();
    let after = content(&sim).await;
    assert_eq!((&after.authority, &after.leaf), (&before.authority, &before.leaf));
    assert!(after.next.is_some());
    second.look(now).await.unwrap();
    for keeper in [&first, &second] {
        let served = keeper.certificates.served();
        assert_eq!((served.leaf(), &served.authority), (before.leaf.chain.first(), &after.bundle()));
    }
}

#[tokio::test]
async fn a_damaged_secret_is_mended_and_keeps_what_others_added() {
    let sim = Sim::start().await;
    let mut keeper = open(&sim).await;
    let before = content(&sim).await;
    for damage in
        [json!({ "ca.key": null }), json!({ "ca.crt": "AAAA" }), json!({ "ca.crt": null, "tls.crt": null })]
    {
        change(&sim, json!({ "data": damage, "metadata": { "labels": { "team": "x" } } })).await;
        keeper.look(clock::wall()).await.unwrap();
        let after = content(&sim).await;
        assert_eq!((&after.authority, &after.leaf), (&before.authority, &before.leaf), "{damage}");
        assert_eq!(stored(&sim).await.metadata.labels.unwrap()["team"], "x");
    }
    change(&sim, json!({ "data": { "tls.key": "AAAA" } })).await;
    keeper.look(clock::wall()).await.unwrap();
    let after = content(&sim).await;
    assert_eq!(after.authority, before.authority);
    assert_ne!(after.leaf, before.leaf);
    assert_eq!(leaf(&keeper), after.leaf.chain[0]);
    // Even all of it, with the label.
    change(&sim, json!({ "data": null, "metadata": { "labels": null } })).await;
    keeper.look(clock::wall()).await.unwrap();
    assert_eq!(content(&sim).await.leaf, after.leaf);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() {
    let sim = Sim::start().await;
    let place = place(&sim);
    let foreign: Secret = serde_json::from_value(json!({
        "metadata": { "name": NAME, "namespace": NAMESPACE }, "data": { "password": "AAAA" },
    }))
    .unwrap();
    place.api.create(&PostParams::default(), &foreign).await.unwrap();
    let error = Keeper::open(Some(place), names(), None).await.unwrap_err();
    assert!(matches!(error, KeepError::Foreign { .. }));
    let text = error.to_string();
    assert!(text.contains("password") && text.contains("--certificate-secret-name"), "{text}");
    assert_eq!(stored(&sim).await.data, foreign.data);
}

#[tokio::test]
async fn without_the_right_each_replica_has_its_own_until_there_is_one() {
    let sim = Sim::start().await;
    sim.refuse("get", "secrets", 403);
    let (mut keeper, problem) = Keeper::open(Some(place(&sim)), names(), None).await.unwrap();
    let text = problem.unwrap().to_string();
    assert!(
        text.contains("Secret kube-system/vpa-webhook-certificates")
            && text.contains("verbs: [\"get\", \"update\"]"),
        "{text}"
    );
    assert!(!keeper.shared() && keeper.certificates.alone());
    let before = leaf(&keeper);
    let now = clock::wall();
    assert!(keeper.look(now).await.is_err());
    assert_eq!(leaf(&keeper), before);
    assert!(keeper.look(now + DAY * 61).await.is_err());
    let renewed = leaf(&keeper);
    assert_ne!(renewed, before, "renewed in memory");
    sim.server.clear_faults();
    keeper.look(now).await.unwrap();
    assert_eq!(content(&sim).await.leaf.chain[0], renewed, "what is served goes into the Secret as it is");
    assert!(content(&sim).await.next.is_none() && !keeper.certificates.alone());
}

#[tokio::test]
async fn a_failing_api_server_changes_nothing_before_it_has_to() {
    let sim = Sim::start().await;
    let mut keeper = open(&sim).await;
    let before = leaf(&keeper);
    sim.refuse("update", "secrets", 500);
    let now = clock::wall();
    let error = keeper.look(now + DAY * 61).await.unwrap_err().to_string();
    assert!(error.contains("update Secret kube-system/vpa-webhook-certificates"), "{error}");
    assert_eq!(leaf(&keeper), before, "others may still agree about another one");
    assert!(keeper.look(now + DAY * 91).await.is_err());
    assert_ne!(leaf(&keeper), before, "it had ended");
    assert!(keeper.shared());
}

/// Somebody put back a Secret of another time, with an authority that no API server trusts at present.
#[tokio::test]
async fn a_certificate_that_nobody_trusts_yet_waits() {
    let sim = Sim::start().await;
    let known = Known::default();
    let (mut keeper, _) = Keeper::open(Some(place(&sim)), names(), Some(known.clone())).await.unwrap();
    let before = content(&sim).await;
    known.written(&before.bundle(), clock::steady());
    let now = clock::wall();
    let other = Content::new(&names(), now).unwrap();
    let mut secret = stored(&sim).await;
    secret.data = Some(other.data());
    place(&sim).api.replace(NAME, &PostParams::default(), &secret).await.unwrap();
    keeper.look(now).await.unwrap();
    let served = keeper.certificates.served();
    assert_eq!(served.leaf(), before.leaf.chain.first());
    assert_eq!(served.authority, other.bundle(), "asked to be trusted");
    known.written(&[before.bundle(), other.bundle()].concat(), clock::steady());
    keeper.look(now).await.unwrap();
    assert_eq!(leaf(&keeper), other.leaf.chain[0]);
}

#[tokio::test]
async fn an_authority_follows_once_it_has_been_trusted_for_a_while() {
    let sim = Sim::start().await;
    let known = Known::default();
    let (mut keeper, _) = Keeper::open(Some(place(&sim)), names(), Some(known.clone())).await.unwrap();
    place(&sim).api.delete(NAME, &DeleteParams::default()).await.unwrap();
    let now = clock::wall();
    keeper.look(now).await.unwrap();
    let announced = content(&sim).await;
    known.written(&announced.bundle(), clock::steady());
    keeper.look(now).await.unwrap();
    assert_eq!(content(&sim).await, announced, "not at once");
    let settled = Duration::from_secs(11 * 60);
    let long_ago = Known::default();
    long_ago.written(&announced.bundle(), clock::steady() - settled);
    keeper.known = Some(long_ago);
    keeper.look(now).await.unwrap();
    let switched = content(&sim).await;
    assert_eq!(Some(&switched.authority), announced.next.as_ref());
    assert_eq!(leaf(&keeper), switched.leaf.chain[0]);
    assert_eq!(switched.previous, [announced.authority.certificate]);
}
