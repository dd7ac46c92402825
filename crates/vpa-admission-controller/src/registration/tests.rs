use serde_json::json;

use super::*;

fn flags() -> RegistrationFlags {
    RegistrationFlags {
        register_webhook: true,
        register_by_url: true,
        webhook_service: "vpa-webhook".into(),
        webhook_address: "https://127.0.0.1".into(),
        webhook_port: "8443".into(),
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

    let flags = RegistrationFlags { register_by_url: false, webhook_failure_policy_fail: true, ..flags() };
    let scope = Scope { namespace: None, ignored: ["x".to_owned()].into() };
    let by_service = json(&Registration::new(&flags, "kube-system", &scope).unwrap().wanted(None, vec![]));
    let webhook = &by_service["webhooks"][0];
    assert_eq!(
        webhook["clientConfig"],
        json!({ "service": { "name": "vpa-webhook", "namespace": "kube-system" } })
    );
    assert_eq!(webhook["failurePolicy"], "Fail");
    let expression = &webhook["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(
        *expression,
        json!({ "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x"] })
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
    for by_url in [true, false] {
        let registration = registration(&RegistrationFlags { register_by_url: by_url, ..flags() });
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
fn replicas_with_their_own_authorities_do_not_write_in_turns() {
    let pem = |n: u8| format!("-----BEGIN CERTIFICATE-----\n{n}\n-----END CERTIFICATE-----\n");
    let registration = registration(&flags());
    let mut found = registration.wanted(None, bundle(None, pem(1).as_bytes()));
    for n in 2..=20 {
        let both = bundle(Some(&found), pem(n).as_bytes());
        found = registration.wanted(Some(&found), both.clone());
        let text = String::from_utf8(both.clone()).unwrap();
        assert!(text.contains(&pem(n)) && text.contains(&pem(n - 1)));
        assert!(text.matches("BEGIN").count() <= AUTHORITIES_MAX);
        assert_eq!(bundle(Some(&found), pem(n).as_bytes()), both);
        assert_eq!(bundle(Some(&found), pem(n - 1).as_bytes()), both);
    }
}

#[test]
fn flags_that_cannot_be_are_named() {
    for (flags, flag) in [
        (RegistrationFlags { webhook_address: "127.0.0.1".into(), ..flags() }, "webhook-address"),
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
