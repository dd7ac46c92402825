use serde_json::{Value, json};

use super::*;
use crate::testing::{Answer, Api, Call};

/// An API server of version 1.36 that serves the CRDs in `plurals` and allows what `allowed` says.
fn serve(plurals: &'static [&'static str], allowed: impl Fn(&Value) -> bool + Send + 'static) -> Api {
    Api::scripted(move |call: &Call| match call.path.as_str() {
        "/version" => Answer::ok(r#"{"major":"1","minor":"36","gitVersion":"v1.36.3"}"#),
        "/apis/autoscaling.k8s.io/v1" if !plurals.is_empty() => {
            let resources: Vec<Value> =
                plurals.iter().map(|name| json!({"name": name, "kind": "K"})).collect();
            Answer::ok(json!({"kind": "APIResourceList", "resources": resources}).to_string())
        }
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            let mut review: Value = serde_json::from_str(&call.body).unwrap();
            let allowed = allowed(&review["spec"]["resourceAttributes"]);
            review["status"] = json!({"allowed": allowed});
            Answer::ok(review.to_string())
        }
        _ => Answer::status(404, "NotFound"),
    })
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_answers() {
    let api = serve(&["verticalpodautoscalers", "verticalpodautoscalercheckpoints"], |_| true);
    let cluster = api.cluster();
    assert_eq!(reachable(&cluster).await.unwrap(), "v1.36.3");
    crds(&cluster, &[VPA_CRD, CHECKPOINT_CRD]).await.unwrap();
    permissions(&cluster, &Permission::read("", "pods", "find pods")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_cluster_is_said() {
    for (answer, code, text) in [
        (Answer::status(404, "NotFound"), 3, "not a Kubernetes API server"),
        (Answer::ok("<html>"), 3, "not a Kubernetes API server"),
        (Answer::status(500, "broken"), 3, "out of reach: "),
        (Answer::status(401, "Unauthorized"), 3, "credentials"),
    ] {
        let api = Api::new(move |_| answer.clone());
        let error = reachable(&api.cluster()).await.unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.to_string().contains("http://scripted"), "{error}");
        assert!(!error.to_string().contains('\n'), "one line: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn missing_crds_are_named_after_a_while() {
    let api = serve(&["verticalpodautoscalers"], |_| true);
    let began = tokio::time::Instant::now();
    let error = crds(&api.cluster(), &[VPA_CRD, CHECKPOINT_CRD]).await.unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("verticalpodautoscalercheckpoints.autoscaling.k8s.io/v1"), "{error}");
    assert!(!error.to_string().contains("verticalpodautoscalers."), "{error}");
    assert!(began.elapsed() >= SETTLE_MAX, "they may have been applied a moment ago");
    let none = serve(&[], |_| true);
    assert_eq!(crds(&none.cluster(), &[VPA_CRD]).await.unwrap_err().exit_code(), 4);
}

#[tokio::test(start_paused = true)]
async fn missing_rights_are_all_named() {
    let api = serve(&[], |asked| {
        let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(text("namespace"), if text("resource") == "leases" { "kube-system" } else { "" });
        !(text("subresource") == "eviction" || text("verb") == "watch" || text("resource") == "events")
    });
    let wanted = Permission::read("", "pods", "find pods").into_iter().chain([
        Permission::new("create", "", "pods/eviction", "evict pods"),
        Permission::new("create", "", "events", "tell").optional(),
        Permission::new("get", "coordination.k8s.io", "leases", "lead").in_namespace(Some("kube-system")),
    ]);
    let error = permissions(&api.cluster(), &wanted.collect::<Vec<_>>()).await.unwrap_err();
    let Error::PermissionMissing(missing) = &error else { panic!("{error}") };
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [
            "watch pods in all namespaces (to find pods)",
            "create pods/eviction in all namespaces (to evict pods)"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn rights_that_come_a_moment_later_are_waited_for() {
    let mut asked = 0;
    let api = Api::scripted(move |call: &Call| {
        asked += 1;
        let mut review: Value = serde_json::from_str(&call.body).unwrap();
        review["status"] = json!({"allowed": asked > 3});
        Answer::ok(review.to_string())
    });
    permissions(&api.cluster(), &[Permission::new("get", "", "pods", "find pods")]).await.unwrap();
    // Where nobody answers such questions, rights count as there.
    let mute = Api::new(|_| Answer::status(404, "NotFound"));
    permissions(&mute.cluster(), &[Permission::new("get", "", "pods", "find pods")]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_question_about_a_right_outlives_a_failing_server() {
    let wanted = Permission::read("", "pods", "find pods");
    for code in [429, 500, 503, 504] {
        let mut asked = 0;
        let api = Api::scripted(move |call: &Call| {
            asked += 1;
            if asked % 5 == 0 || asked < 4 {
                return Answer::status(code, "Scripted");
            }
            let mut review: Value = serde_json::from_str(&call.body).unwrap();
            review["status"] = json!({"allowed": review["spec"]["resourceAttributes"]["verb"] != "watch"});
            Answer::ok(review.to_string())
        });
        let error = permissions(&api.cluster(), &wanted).await.unwrap_err();
        let Error::PermissionMissing(missing) = &error else { panic!("{code}: {error}") };
        assert_eq!(missing.len(), 1, "{code}: {error}");
    }
    // One that goes on failing is out of reach, after a bounded number of attempts.
    let api = Api::new(|_| Answer::status(503, "Scripted"));
    let error = permissions(&api.cluster(), &wanted[..1]).await.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert_eq!(api.calls().len(), 1 + REVIEW_WAITS.len());
}
