use serde_json::json;

use super::reach::host;
use super::*;
use crate::args::ReachFlags;

fn by_url(address: &str) -> ReachFlags {
    ReachFlags {
        register_by_url: true,
        webhook_service: "vpa-webhook".into(),
        webhook_address: address.into(),
        webhook_port: "8443".into(),
    }
}

fn by_service() -> ReachFlags {
    ReachFlags { register_by_url: false, ..by_url("") }
}

fn flags() -> RegistrationFlags {
    RegistrationFlags {
        register_webhook: true,
        reach: by_url("https://127.0.0.1"),
        webhook_timeout_seconds: 10,
        webhook_failure_policy_fail: false,
        webhook_labels: "a:b".into(),
    }
}

fn registration(flags: &RegistrationFlags) -> Registration {
    Registration::new(flags, "kube-system", &Scope::default()).unwrap()
}

#[test]
fn the_configuration_says_what_the_flags_say() {
    let by_url = json(&registration(&flags()).wanted(None, b"authority".to_vec()));
    let webhook = &by_url["webhooks"][0];
    assert_eq!(webhook["clientConfig"]["url"], "https://127.0.0.1:8443");
    assert_eq!(webhook["clientConfig"]["caBundle"], "YXV0aG9yaXR5");
    assert_eq!(webhook["failurePolicy"], "Ignore");
    assert_eq!(webhook["timeoutSeconds"], 10);
    assert_eq!(webhook["namespaceSelector"], json!({}));
    assert_eq!(by_url["metadata"]["labels"], json!({ "a": "b" }));

    let flags = RegistrationFlags { reach: by_service(), webhook_failure_policy_fail: true, ..flags() };
    let scope = Scope { namespace: None, ignored: ["x".to_owned()].into() };
    let by_service = json(&Registration::new(&flags, "suite", &scope).unwrap().wanted(None, vec![]));
    let webhook = &by_service["webhooks"][0];
    assert_eq!(
        webhook["clientConfig"],
        json!({ "service": { "name": "vpa-webhook", "namespace": "suite" } })
    );
    assert_eq!(webhook["failurePolicy"], "Fail");
    let expression = &webhook["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(
        *expression,
        json!({
            "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "suite", "x"],
        })
    );
}

/// What the API server fills in.
fn stored(registration: &Registration, authority: &[u8]) -> MutatingWebhookConfiguration {
    let mut stored = json(&registration.wanted(None, authority.to_vec()));
    let webhook = &mut stored["webhooks"][0];
    webhook["matchPolicy"] = "Equivalent".into();
    webhook["objectSelector"] = json!({});
    webhook["reinvocationPolicy"] = "Never".into();
    for rule in webhook["rules"].as_array_mut().unwrap() {
        rule["scope"] = "*".into();
    }
    if webhook["clientConfig"]["service"].is_object() {
        webhook["clientConfig"]["service"]["port"] = 443.into();
    }
    serde_json::from_value(stored).unwrap()
}

#[test]
fn what_is_as_it_should_be_is_not_written() {
    for reach in [by_url("https://127.0.0.1"), by_service()] {
        let registration = registration(&RegistrationFlags { reach, ..flags() });
        let stored = stored(&registration, b"authority");
        let wanted = registration.wanted(Some(&stored), b"authority".to_vec());
        assert_eq!(patch::diff(&json(&stored), &json(&wanted)), None);
        let renewed = registration.wanted(Some(&stored), b"other".to_vec());
        assert!(patch::diff(&json(&stored), &json(&renewed)).is_some());
    }
}

#[test]
fn what_an_operator_added_stays() {
    let registration = registration(&flags());
    let mut stored = stored(&registration, b"authority");
    stored.metadata.labels.get_or_insert_default().insert("team".into(), "x".into());
    let webhooks = stored.webhooks.get_or_insert_default();
    webhooks[0].object_selector = Some(LabelSelector {
        match_labels: Some([("k".into(), "v".into())].into()),
        match_expressions: None,
    });
    webhooks.push(MutatingWebhook { name: "other.example.com".into(), ..MutatingWebhook::default() });
    let wanted = registration.wanted(Some(&stored), b"other".to_vec());
    assert_eq!(wanted.metadata.labels.as_ref().unwrap()["team"], "x");
    let webhooks = wanted.webhooks.as_ref().unwrap();
    assert_eq!(webhooks.len(), 2);
    assert!(webhooks[0].object_selector.is_some());
}

#[test]
fn with_the_failure_policy_fail_the_cluster_can_always_come_back() {
    let fail = RegistrationFlags { webhook_failure_policy_fail: true, ..flags() };
    for (namespace, ignored, excluded) in [
        (None, None, Some("kube-system suite")),
        (None, Some("x"), Some("kube-system suite x")),
        (Some("shop"), None, Some("kube-system suite")),
        (Some("suite"), None, None),
        (Some("kube-system"), None, None),
    ] {
        let scope = Scope {
            namespace: namespace.map(str::to_owned),
            ignored: ignored.map(str::to_owned).into_iter().collect(),
        };
        let found = Registration::new(&fail, "suite", &scope);
        let found = found.map(|found| Vec::from_iter(found.without().iter().cloned()).join(" "));
        assert_eq!(found.as_deref().ok(), excluded, "{namespace:?} {ignored:?}");
        // With Ignore pods are created in any case, and those of the cluster itself are sized as in the Go suite.
        let open = Registration::new(&flags(), "suite", &scope).unwrap();
        assert_eq!(open.without(), &scope.ignored);
    }
}

#[test]
fn a_configuration_that_leads_elsewhere_is_told_apart() {
    let client = |json: serde_json::Value| serde_json::from_value::<WebhookClientConfig>(json).unwrap();
    let service = |namespace: &str, name: &str| {
        client(json!({ "service": { "namespace": namespace, "name": name, "port": 443 } }))
    };
    let url = |url: &str| client(json!({ "url": url }));
    let of = |flags: &ReachFlags| Reach::new(flags, "suite").unwrap();
    let (by_service, by_url) = (of(&by_service()), of(&by_url("https://127.0.0.1")));
    assert!(by_service.is_in(&service("suite", "vpa-webhook")));
    assert!(!by_service.is_in(&service("kube-system", "vpa-webhook")));
    assert!(!by_service.is_in(&service("suite", "other")));
    assert!(!by_service.is_in(&url("https://127.0.0.1:8443")));
    assert!(by_url.is_in(&url("https://127.0.0.1:8443")) && by_url.is_in(&url("https://127.0.0.1:8443/")));
    assert!(!by_url.is_in(&url("https://127.0.0.1:8444")) && !by_url.is_in(&service("suite", "vpa-webhook")));
    assert_eq!(by_service.host().as_deref(), Some("vpa-webhook.suite.svc"));
    assert_eq!(by_url.host().as_deref(), Some("127.0.0.1"));
}

#[test]
fn flags_that_cannot_be_are_named() {
    for (flags, flag) in [
        (RegistrationFlags { reach: by_url("127.0.0.1"), ..flags() }, "webhook-address"),
        (RegistrationFlags { webhook_timeout_seconds: 31, ..flags() }, "webhook-timeout-seconds"),
        (RegistrationFlags { webhook_labels: "a".into(), ..flags() }, "webhook-labels"),
    ] {
        let error = Registration::new(&flags, "ns", &Scope::default()).unwrap_err();
        assert_eq!(error.flag, flag);
    }
}

#[test]
fn hosts_of_urls() {
    assert_eq!(host("https://127.0.0.1:8443/x").as_deref(), Some("127.0.0.1"));
    assert_eq!(host("https://[::1]:8443").as_deref(), Some("::1"));
    assert_eq!(host("https://example.com").as_deref(), Some("example.com"));
    assert_eq!(host("https://"), None);
}
