//! Admission webhooks: called over TLS as the API server calls them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::convert::to_version;
use super::error::{ApiError, ApiResult};
use super::names;
use super::patch::{self, Format};
use super::selector::from_label_selector;
use super::state::{Call, State};
use super::store::Key;
use super::value::{items, meta, text};

/// Largest answer that is read; a patch of a pod stays far below.
const ANSWER_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Longest time that a webhook may ask for, as in the API server.
const TIMEOUT_MAX_S: u64 = 30;

/// What happens to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
        }
    }
}

/// What is to be reviewed, besides the object itself.
pub(crate) struct Review<'a> {
    pub(crate) operation: Operation,
    /// Subresource, or empty.
    pub(crate) part: &'a str,
    /// The object before; null for creations.
    pub(crate) old: &'a Value,
}

/// Calls webhooks.
#[derive(Debug, Default)]
pub(crate) struct WebhookCaller {
    /// Address (`host:port`) by `namespace/name` of a Service that is not of type `ExternalName`.
    pub(crate) services: BTreeMap<String, String>,
}

/// Where a webhook is.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    address: String,
    server_name: String,
    path: String,
}

impl WebhookCaller {
    /// Lets all fitting mutating, then validating webhooks review the object.
    pub(crate) async fn mutate(
        &self,
        state: &State,
        call: &Call,
        review: &Review<'_>,
        object: Value,
    ) -> ApiResult<Value> {
        // As in the API server, webhooks never see their own configurations.
        if call.kind.group == "admissionregistration.k8s.io" {
            return Ok(object);
        }
        let mut object = object;
        for table in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
            let table = format!("{table}.admissionregistration.k8s.io");
            let configurations = state.store.list(&table, "", None, usize::MAX, |_| true);
            for configuration in configurations.objects {
                for webhook in items(&configuration["webhooks"]) {
                    if fits(state, webhook, call, review, &object) {
                        let reviewed = self.review(state, webhook, call, review, object.clone()).await?;
                        if table.starts_with("mutating") {
                            object = reviewed;
                        }
                    }
                }
            }
        }
        Ok(object)
    }

    async fn review(
        &self,
        state: &State,
        webhook: &Value,
        call: &Call,
        review: &Review<'_>,
        object: Value,
    ) -> ApiResult<Value> {
        let name = text(webhook, &["name"]).to_owned();
        let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, TIMEOUT_MAX_S);
        let request = request_of(call, review, &object);
        let uid = text(&request, &["request", "uid"]).to_owned();
        let asked = async {
            let endpoint = self.endpoint(state, &webhook["clientConfig"])?;
            ask(&endpoint, text(webhook, &["clientConfig", "caBundle"]), &request).await
        };
        let answer = match tokio::time::timeout(Duration::from_secs(seconds), asked).await {
            Ok(answer) => answer.and_then(|answer| check_answer(answer, &uid)),
            Err(_) => Err("context deadline exceeded".to_owned()),
        };
        match answer {
            Ok(answer) => apply_answer(call, &name, &answer, object),
            Err(why) if text(webhook, &["failurePolicy"]) == "Ignore" => {
                tracing::debug!(webhook = %name, error = %why, "failed open");
                Ok(object)
            }
            Err(why) => Err(ApiError::internal(format!("failed calling webhook \"{name}\": {why}"))),
        }
    }

    /// Where to call, from `url` or from `service`.
    fn endpoint(&self, state: &State, client: &Value) -> Result<Endpoint, String> {
        if let Some(url) = client["url"].as_str() {
            let uri: http::Uri = url.parse().map_err(|error| format!("url {url:?}: {error}"))?;
            let host = uri.host().ok_or_else(|| format!("url {url:?} has no host"))?;
            let port = uri.port_u16().unwrap_or(443);
            return Ok(Endpoint {
                address: format!("{host}:{port}"),
                server_name: host.trim_matches(['[', ']']).to_owned(),
                path: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned(),
            });
        }
        let service = &client["service"];
        let (namespace, name) = (text(service, &["namespace"]), text(service, &["name"]));
        let port = service["port"].as_u64().unwrap_or(443);
        let path = match text(service, &["path"]) {
            "" => "/",
            path => path,
        };
        let found = state.store.get("services", &Key::new(namespace, name));
        let external = found.as_deref().map_or("", |found| text(found, &["spec", "externalName"]));
        let address = match self.services.get(&format!("{namespace}/{name}")) {
            Some(address) => address.clone(),
            None if !external.is_empty() => format!("{external}:{port}"),
            None if found.is_none() => return Err(format!("service \"{name}\" not found")),
            None => return Err(format!("no endpoints available for service \"{name}\"")),
        };
        Ok(Endpoint { address, server_name: format!("{name}.{namespace}.svc"), path: path.to_owned() })
    }
}

fn fits(state: &State, webhook: &Value, call: &Call, review: &Review<'_>, object: &Value) -> bool {
    let rule_fits = |rule: &Value| {
        let holds = |list: &str, wanted: &str| {
            items(&rule[list])
                .iter()
                .any(|found| found.as_str().is_some_and(|found| found == "*" || found == wanted))
        };
        let resource = if review.part.is_empty() {
            call.kind.plural.clone()
        } else {
            format!("{}/{}", call.kind.plural, review.part)
        };
        let resource_fits = holds("resources", &resource)
            || items(&rule["resources"]).iter().any(|found| found == "*/*")
            || (!review.part.is_empty() && holds("resources", &format!("{}/*", call.kind.plural)));
        let scope_fits = match text(rule, &["scope"]) {
            "Namespaced" => call.kind.namespaced,
            "Cluster" => !call.kind.namespaced,
            _ => true,
        };
        holds("operations", review.operation.name())
            && holds("apiGroups", &call.kind.group)
            && holds("apiVersions", &call.path.version)
            && resource_fits
            && scope_fits
    };
    if !items(&webhook["rules"]).iter().any(rule_fits) {
        return false;
    }
    let namespace_fits = !call.kind.namespaced || {
        let namespace = state.store.get("namespaces", &Key::new("", call.path.namespace.clone()));
        let selector = from_label_selector(&webhook["namespaceSelector"]);
        namespace.is_none_or(|namespace| selector.matches(&namespace))
    };
    let selector = from_label_selector(&webhook["objectSelector"]);
    namespace_fits && (selector.matches(object) || (!review.old.is_null() && selector.matches(review.old)))
}

fn request_of(call: &Call, review: &Review<'_>, object: &Value) -> Value {
    let version = |object: &Value| {
        if object.is_null() {
            Value::Null
        } else {
            to_version(&call.kind, &call.path.version, object).into_owned()
        }
    };
    let kind = json!({"group": call.kind.group, "version": call.path.version, "kind": call.kind.kind});
    let resource =
        json!({"group": call.kind.group, "version": call.path.version, "resource": call.kind.plural});
    let options = match review.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
    };
    let mut request = json!({
        "uid": names::uid(), "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
        "name": meta(object, "name"), "operation": review.operation.name(),
        "userInfo": {"username": call.user.name, "groups": call.user.groups},
        "object": version(object), "oldObject": version(review.old),
        "dryRun": call.query.dry_run().unwrap_or(false),
        "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
    });
    if call.kind.namespaced {
        request["namespace"] = json!(call.path.namespace);
    }
    if !review.part.is_empty() {
        request["subResource"] = json!(review.part);
        request["requestSubResource"] = json!(review.part);
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

fn check_answer(answer: Value, uid: &str) -> Result<Value, String> {
    if answer["response"].is_null() {
        return Err("webhook response did not contain a response".to_owned());
    }
    let found = text(&answer, &["response", "uid"]);
    if found == uid { Ok(answer) } else { Err(format!("expected response.uid={uid:?}, got {found:?}")) }
}

fn apply_answer(call: &Call, name: &str, answer: &Value, object: Value) -> ApiResult<Value> {
    let response = &answer["response"];
    items(&response["warnings"]).iter().filter_map(Value::as_str).for_each(|text| call.warnings.add(text));
    if response["allowed"] != true {
        let status = &response["status"];
        let why = match text(status, &["message"]) {
            "" => match text(status, &["reason"]) {
                "" => "without explanation".to_owned(),
                reason => reason.to_owned(),
            },
            message => format!(": {message}").trim_start_matches(": ").to_owned(),
        };
        let code =
            status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
        let reason = match text(status, &["reason"]) {
            "" => "Forbidden",
            reason => reason,
        };
        let message = format!("admission webhook \"{name}\" denied the request: {why}");
        return Err(ApiError::new(code.unwrap_or(403), reason, message));
    }
    let Some(encoded) = response["patch"].as_str() else { return Ok(object) };
    let bad = |why: String| ApiError::internal(format!("failed calling webhook \"{name}\": {why}"));
    if text(response, &["patchType"]) != "JSONPatch" {
        return Err(bad("unsupported patch type".to_owned()));
    }
    let decoded = STANDARD.decode(encoded).map_err(|error| bad(error.to_string()))?;
    let operations: Value = serde_json::from_slice(&decoded).map_err(|error| bad(error.to_string()))?;
    let version = to_version(&call.kind, &call.path.version, &object);
    let patched = patch::apply(Format::Json, &version, &operations).map_err(|error| bad(error.message))?;
    Ok(super::convert::to_storage(&call.kind, patched))
}

/// Sends a review and reads the answer.
async fn ask(endpoint: &Endpoint, ca_bundle: &str, review: &Value) -> Result<Value, String> {
    let config = client_config(ca_bundle)?;
    let tcp = TcpStream::connect(&endpoint.address)
        .await
        .map_err(|error| format!("dial {}: {error}", endpoint.address))?;
    let server_name = ServerName::try_from(endpoint.server_name.clone())
        .map_err(|error| format!("server name {:?}: {error}", endpoint.server_name))?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(server_name, tcp)
        .await
        .map_err(|error| format!("tls: failed to verify certificate: {error}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|error| error.to_string())?;
    // Ends with the sender, at the end of this function.
    tokio::spawn(connection);
    let request = http::Request::post(&endpoint.path)
        .header(header::HOST, &endpoint.server_name)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(review.to_string())))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    if !status.is_success() {
        let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        return Err(format!("the server answered {status}: {text}"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("the answer is no review: {error}"))
}

fn client_config(ca_bundle: &str) -> Result<rustls::ClientConfig, String> {
    let pem = STANDARD.decode(ca_bundle).map_err(|error| format!("caBundle: {error}"))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("caBundle: {error}"))?;
        roots.add(certificate).map_err(|error| format!("caBundle: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
