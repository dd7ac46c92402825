//! The configuration in an API server.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::*;
use crate::certificates::kept::Content;
use crate::testing::{NAMESPACE, Sim};

fn registration(args: &[&str]) -> Registration {
    let args = ["x"].iter().chain(args).map(Into::into);
    let parsed = vpa_runtime::flags::parse::<crate::args::Args>(&crate::program::COMPONENT, args);
    let flags = parsed.unwrap().unwrap().args.registration;
    Registration::new(&flags, NAMESPACE, &Default::default()).unwrap()
}

/// One look of a replica that has just started.
async fn look(sim: &Sim, registration: &Registration, may_create: bool) -> (Result<Look, String>, Known) {
    let content = Content::new(&registration.names(), clock::wall()).unwrap();
    let certificates = Certificates::serving(content.served().unwrap());
    let (mut overlap, known) = (Overlap::default(), Known::default());
    let result = registration.apply(&sim.cluster, &certificates, may_create, &mut overlap, &known).await;
    (result, known)
}

fn api(sim: &Sim) -> Api<MutatingWebhookConfiguration> {
    Api::all(sim.cluster.client.clone())
}

async fn change(sim: &Sim, patch: serde_json::Value) {
    api(sim).patch(CONFIGURATION, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn a_configuration_comes_back_as_it_was() {
    let sim = Sim::start().await;
    let registration = registration(&["--webhook-failure-policy-fail", "--webhook-labels=a:b"]);
    let (found, known) = look(&sim, &registration, false).await;
    assert_eq!(found, Ok(Look::Missing));
    assert!(known.bundle().is_err());
    assert_eq!(look(&sim, &registration, true).await.0, Ok(Look::Written));
    let before = api(&sim).get(CONFIGURATION).await.unwrap();
    let uid = before.metadata.uid.clone();
    let webhook = |change: serde_json::Value| {
        let mut webhook = serde_json::to_value(&before.webhooks.as_ref().unwrap()[0]).unwrap();
        json_patch::merge(&mut webhook, &change);
        json!({ "webhooks": [webhook] })
    };
    for damage in [
        json!({ "webhooks": null }),
        json!({ "metadata": { "labels": null } }),
        webhook(json!({ "failurePolicy": "Ignore", "timeoutSeconds": 1, "rules": [] })),
        webhook(json!({ "clientConfig": { "service": { "name": "other" } } })),
        webhook(json!({ "clientConfig": { "service": null, "url": "https://example.com" } })),
        webhook(json!({ "namespaceSelector": { "matchLabels": { "a": "b" } } })),
    ] {
        change(&sim, damage.clone()).await;
        let (found, known) = look(&sim, &registration, false).await;
        assert_eq!(found, Ok(Look::Written), "{damage}");
        assert!(known.bundle().is_ok());
        let mut after = api(&sim).get(CONFIGURATION).await.unwrap();
        assert_eq!(after.metadata.uid, uid, "it was never deleted");
        assert_eq!(after.metadata.labels, before.metadata.labels);
        // Each look is that of another replica, with an authority of its own.
        let bundle = before.webhooks.as_ref().unwrap()[0].client_config.ca_bundle.clone();
        after.webhooks.as_mut().unwrap()[0].client_config.ca_bundle = bundle;
        assert_eq!(after.webhooks, before.webhooks, "{damage}");
    }
}

#[tokio::test]
async fn one_that_cannot_be_written_is_known_by_what_it_says() {
    let sim = Sim::start().await;
    let registration = registration(&[]);
    sim.refuse("create", "mutatingwebhookconfigurations", 403);
    let (found, known) = look(&sim, &registration, true).await;
    assert!(found.unwrap_err().contains("no permission to create mutatingwebhookconfigurations"));
    assert!(known.bundle().is_err());
    sim.server.clear_faults();
    look(&sim, &registration, true).await.0.unwrap();
    change(&sim, json!({ "webhooks": null })).await;
    sim.refuse("patch", "mutatingwebhookconfigurations", 403);
    let (found, known) = look(&sim, &registration, true).await;
    assert!(found.unwrap_err().contains("no permission to patch"));
    assert!(known.bundle().is_err());
}

#[tokio::test]
async fn what_is_ours_is_removed_and_nothing_else() {
    let sim = Sim::start().await;
    let registration = registration(&[]);
    let remove = || registration.reach().remove(&sim.cluster);
    assert_eq!(remove().await.unwrap(), Removed::Nothing);
    look(&sim, &registration, true).await.0.unwrap();
    assert_eq!(remove().await.unwrap(), Removed::Whole);
    assert!(api(&sim).get_opt(CONFIGURATION).await.unwrap().is_none());
    assert_eq!(remove().await.unwrap(), Removed::Nothing);

    // Another installation has taken over.
    let args = ["--webhook-service=other"];
    let other = self::registration(&args);
    look(&sim, &other, true).await.0.unwrap();
    assert_eq!(remove().await.unwrap(), Removed::Foreign("service kube-system/other".to_owned()));
    assert!(api(&sim).get_opt(CONFIGURATION).await.unwrap().is_some());

    // Somebody has put a webhook of his own into the configuration.
    look(&sim, &registration, true).await.0.unwrap();
    let mut found = api(&sim).get(CONFIGURATION).await.unwrap();
    let mut webhook = found.webhooks.as_ref().unwrap()[0].clone();
    webhook.name = "other.example.com".to_owned();
    found.webhooks.as_mut().unwrap().push(webhook);
    change(&sim, json!({ "webhooks": found.webhooks })).await;
    assert_eq!(remove().await.unwrap(), Removed::Webhook);
    let found = api(&sim).get(CONFIGURATION).await.unwrap().webhooks.unwrap();
    assert_eq!(found.iter().map(|webhook| webhook.name.as_str()).collect::<Vec<_>>(), ["other.example.com"]);
    assert_eq!(remove().await.unwrap(), Removed::Nothing);
}

/// A file with another authority than the one that signed the certificate.
#[tokio::test]
async fn a_wrong_authority_does_not_undo_what_works() {
    let content = |_| Content::new(&["localhost".to_owned()], clock::wall()).unwrap();
    let [good, wrong, other] = [0, 1, 2].map(content);
    let mut served = good.served().unwrap();
    served.authority = wrong.bundle();
    assert!(served.of_a_stranger() && !good.served().unwrap().of_a_stranger());
    let there = [other.bundle(), good.bundle()].concat();
    assert_eq!(own_authorities(&served, &there), [wrong.bundle(), good.bundle()].concat());
    assert_eq!(own_authorities(&served, &other.bundle()), wrong.bundle());
    assert_eq!(own_authorities(&good.served().unwrap(), &there), good.bundle());
}
