//! From an HTTP request to its answer.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};

use super::auth::{Access, User, authorize, may};
use super::error::{ApiError, ApiResult};
use super::faults::Fault;
use super::request::{Query, ResourcePath, Verb};
use super::state::{Call, Form, State};
use super::value::{at_mut, text};
use super::write::Part;
use super::{delete, discovery, eviction, pods, read, watch, write};

/// Where an administrator scripts faults: POST adds one, DELETE removes all.
const FAULTS_PATH: &str = "/vpa-sim/faults";

/// Answers any request.
pub(crate) async fn handle(state: Arc<State>, request: Request) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = respond(&state, request).await.unwrap_or_else(IntoResponse::into_response);
    tracing::debug!(%method, %path, status = response.status().as_u16(), "answered");
    response
}

fn json_response(code: StatusCode, body: &Value) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn text_header<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The whole body, if it is not too large.
async fn read_body(body: Body, bytes_max: usize) -> ApiResult<Bytes> {
    let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            let message = format!("limit is {bytes_max} bytes");
            ApiError::new(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
        } else {
            ApiError::bad_request(format!("the body could not be read: {error}"))
        }
    })?;
    Ok(body.to_bytes())
}

async fn respond(state: &Arc<State>, request: Request) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    let user = state.tokens.identify(text_header(&parts.headers, &header::AUTHORIZATION))?;
    let body = read_body(body, state.body_bytes_max).await?;
    let path = parts.uri.path();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let agent = text_header(&parts.headers, &header::USER_AGENT).unwrap_or_default();
    let Some(resource) = ResourcePath::parse(path) else {
        // A fault that fits everything must not hit the request that removes it.
        if path.trim_end_matches('/') != FAULTS_PATH {
            state.faults.pass(&ResourcePath::default(), Verb::Get, agent).await?;
        }
        return outside_resources(state, &parts.method, path, &user, &body);
    };
    let verb = Verb::of(&parts.method, &resource, &query)?;
    state.faults.pass(&resource, verb, agent).await?;
    match resource.group.as_str() {
        "metrics.k8s.io" | "external.metrics.k8s.io" => {
            authorize(&state.store, &user, &Access::of(&resource, verb))?;
            if !matches!(verb, Verb::Get | Verb::List) {
                return Err(ApiError::method_not_allowed());
            }
            if resource.group == "external.metrics.k8s.io" {
                return Ok(json_response(StatusCode::OK, &state.external.answer(&resource, &query)?));
            }
            let reply = state.metrics.respond(path, parts.uri.query());
            let code = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Ok(json_response(code, &reply.body));
        }
        "authorization.k8s.io" | "authentication.k8s.io" => {
            return Ok(json_response(StatusCode::CREATED, &review_access(state, &resource, &user, &body)?));
        }
        _ => {}
    }
    let kind = state.kinds.read().get(&resource.group, &resource.resource).cloned();
    let kind = match kind {
        Some(kind) => kind,
        None if state.kinds.read().serves(&resource.group, &resource.version) => {
            return Err(ApiError::unknown_path());
        }
        None => return Err(ApiError::page_not_found()),
    };
    if !kind.versions.contains_key(&resource.version) {
        return Err(ApiError::page_not_found());
    }
    authorize(&state.store, &user, &Access::of(&resource, verb))?;
    let call = Call {
        form: Form::of(text_header(&parts.headers, &header::ACCEPT).unwrap_or_default()),
        content_type: text_header(&parts.headers, &header::CONTENT_TYPE).unwrap_or_default().to_owned(),
        path: resource,
        query,
        verb,
        user,
        body,
        kind,
        warnings: Arc::default(),
    };
    Ok(serve_warning(state, call).await)
}

/// Answers a request for a resource that exists, with the warnings of webhooks: refused or not, the client is warned.
async fn serve_warning(state: &Arc<State>, call: Call) -> Response {
    let warnings = call.warnings.clone();
    let mut response = serve(state, call).await.unwrap_or_else(IntoResponse::into_response);
    warnings.write(response.headers_mut());
    response
}

async fn serve(state: &Arc<State>, call: Call) -> ApiResult<Response> {
    if call.verb == Verb::Create && call.kind.namespaced && call.path.namespace.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    let scoped = call.kind.namespaced || call.path.namespace.is_empty();
    let has_place = !call.kind.namespaced
        || !call.path.namespace.is_empty()
        || matches!(call.verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
    call.version()?;
    if !scoped || !has_place {
        return Err(ApiError::unknown_path());
    }
    if !call.path.subresource.is_empty() {
        return serve_subresource(state, &call).await;
    }
    let (code, body) = match call.verb {
        Verb::Watch => return watch::open(state, call),
        Verb::Get => (StatusCode::OK, read::get(state, &call)?),
        Verb::List => (StatusCode::OK, read::list(state, &call)?),
        // The name stands in the body; a name in the path has no meaning here.
        Verb::Create if !call.path.name.is_empty() => return Err(ApiError::method_not_allowed()),
        Verb::Create => (StatusCode::CREATED, write::create(state, &call).await?),
        Verb::Update => write::put(state, &call, Part::Main).await?,
        Verb::Patch => write::patch(state, &call, Part::Main).await?,
        Verb::Delete => (StatusCode::OK, delete::delete(state, &call)?),
        Verb::DeleteCollection => (StatusCode::OK, delete::delete_collection(state, &call)?),
    };
    Ok(json_response(code, &body))
}

async fn serve_subresource(state: &Arc<State>, call: &Call) -> ApiResult<Response> {
    let name = call.path.subresource.as_str();
    let version = call.version()?;
    let known = match name {
        "status" => version.status,
        "scale" => version.scale.is_some(),
        other => call.kind.extra.contains(&other),
    };
    if !known {
        return Err(if call.kind.custom { call.not_found() } else { ApiError::unknown_path() });
    }
    let (code, body) = match (name, call.verb) {
        ("eviction", Verb::Create) => (StatusCode::CREATED, eviction::evict(state, call)?),
        ("binding", Verb::Create) => (StatusCode::CREATED, pods::bind(state, call).await?),
        ("token", Verb::Create) => (StatusCode::CREATED, issue_token(state, call)?),
        ("eviction" | "binding" | "token", _) => return Err(ApiError::method_not_allowed()),
        ("scale", Verb::Get) => (StatusCode::OK, pods::scale(state, call, None).await?),
        ("scale", Verb::Update) => (StatusCode::OK, pods::scale(state, call, Some(call.json()?)).await?),
        ("scale", Verb::Patch) => {
            let format = super::patch::Format::of(&call.content_type)?;
            let patch = super::patch::decode(format, &call.body)?;
            let mut current = pods::scale(state, call, None).await?;
            // The patch is not tied to the version that was just read.
            *at_mut(&mut current, &["metadata", "resourceVersion"]) = Value::Null;
            let wanted = super::patch::apply(format, &current, &patch)?;
            (StatusCode::OK, pods::scale(state, call, Some(wanted)).await?)
        }
        (part, verb) => {
            let part = Part::of(part).ok_or_else(ApiError::unknown_path)?;
            match verb {
                Verb::Get => (StatusCode::OK, read::get(state, call)?),
                Verb::Update => write::put(state, call, part).await?,
                Verb::Patch => write::patch(state, call, part).await?,
                _ => return Err(ApiError::method_not_allowed()),
            }
        }
    };
    Ok(json_response(code, &body))
}

fn issue_token(state: &State, call: &Call) -> ApiResult<Value> {
    if state.store.get("serviceaccounts", &call.key()).is_none() {
        return Err(call.not_found());
    }
    let mut request = call.json()?;
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    let token = state
        .tokens
        .issue(User::service_account(&call.path.namespace, &call.path.name))
        .ok_or_else(|| ApiError::too_many_requests("too many tokens were issued", 0))?;
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds.clamp(600, 86_400));
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["status"] = json!({"token": token, "expirationTimestamp": super::value::time_text(expires)});
    Ok(request)
}

/// Access reviews and the like: answered at once, kept nowhere.
fn review_access(state: &State, path: &ResourcePath, user: &User, body: &Bytes) -> ApiResult<Value> {
    let mut review: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding the body: {error}")))?;
    let subject = match path.resource.as_str() {
        "selfsubjectaccessreviews" => user.clone(),
        "subjectaccessreviews" => User {
            name: text(&review, &["spec", "user"]).to_owned(),
            groups: super::value::items(&review["spec"]["groups"])
                .iter()
                .filter_map(|group| group.as_str().map(str::to_owned))
                .collect(),
        },
        "selfsubjectreviews" => {
            review["status"] = json!({"userInfo": {"username": user.name, "groups": user.groups}});
            return Ok(review);
        }
        _ => return Err(ApiError::unknown_path()),
    };
    let wanted = &review["spec"]["resourceAttributes"];
    let part = |key: &str| text(wanted, &[key]).to_owned();
    let mut access = Access {
        verb: part("verb"),
        group: part("group"),
        resource: part("resource"),
        subresource: part("subresource"),
        namespace: part("namespace"),
        name: part("name"),
        non_resource_path: String::new(),
    };
    if wanted.is_null() {
        access.verb = text(&review, &["spec", "nonResourceAttributes", "verb"]).to_owned();
        access.non_resource_path = text(&review, &["spec", "nonResourceAttributes", "path"]).to_owned();
    }
    let allowed = may(&state.store, &subject, &access);
    review["status"] = json!({"allowed": allowed});
    Ok(review)
}

/// Discovery, health, and the script of faults.
fn outside_resources(
    state: &State,
    method: &Method,
    path: &str,
    user: &User,
    body: &Bytes,
) -> ApiResult<Response> {
    match path.trim_end_matches('/') {
        "/readyz" | "/healthz" | "/livez" => return Ok((StatusCode::OK, "ok").into_response()),
        FAULTS_PATH if *user == User::admin() => return script_faults(state, method, body),
        _ => {}
    }
    if method != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    let answer = discovery::answer(&state.kinds.read(), path).ok_or_else(ApiError::page_not_found)?;
    Ok(json_response(StatusCode::OK, &answer))
}

fn script_faults(state: &State, method: &Method, body: &Bytes) -> ApiResult<Response> {
    match *method {
        Method::POST => {
            let fault: Fault = serde_json::from_slice(body)
                .map_err(|error| ApiError::bad_request(format!("the body is no fault: {error}")))?;
            if !state.faults.add(fault) {
                return Err(ApiError::too_many_requests("too many faults are scripted", 0));
            }
        }
        Method::DELETE => state.faults.clear(),
        _ => return Err(ApiError::method_not_allowed()),
    }
    Ok(json_response(StatusCode::OK, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})))
}
