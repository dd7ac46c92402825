//! What a request's path and query ask for.

use std::collections::BTreeMap;

use super::error::{ApiError, ApiResult};

/// Segments of a resource path, as the API server reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    /// Empty for cluster-scoped resources and for lists over all namespaces.
    pub(crate) namespace: String,
    /// Empty for lists.
    pub(crate) name: String,
    /// Empty for the object itself; deeper paths stay joined by `/`.
    pub(crate) subresource: String,
}

impl ResourcePath {
    /// Reads `/api/v1/…` or `/apis/<group>/<version>/…`; `None` where it names no resource.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts: Vec<String> =
            path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect();
        let (group, version) = match parts.first().map(String::as_str) {
            Some("api") if parts.len() > 2 => {
                let rest = parts.split_off(2);
                let version = std::mem::replace(&mut parts, rest).pop()?;
                (String::new(), version)
            }
            Some("apis") if parts.len() > 3 => {
                let rest = parts.split_off(3);
                let mut head = std::mem::replace(&mut parts, rest);
                let version = head.pop()?;
                (head.pop()?, version)
            }
            _ => return None,
        };
        let mut found = Self { group, version, ..Self::default() };
        let in_namespace = parts.first().is_some_and(|part| part == "namespaces")
            && parts.len() > 2
            && !(parts.len() == 3 && matches!(parts[2].as_str(), "status" | "finalize"));
        if in_namespace {
            found.namespace = parts[1].clone();
            parts.drain(..2);
        }
        let mut parts = parts.into_iter();
        found.resource = parts.next()?;
        found.name = parts.next().unwrap_or_default();
        found.subresource = parts.collect::<Vec<_>>().join("/");
        Some(found)
    }
}

/// Undoes `%xx`; a broken escape stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escaped = (bytes[index] == b'%').then(|| text.get(index + 1..index + 3)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                index += 3;
            }
            None => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Query parameters; of a repeated one the last counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(&key.replace('+', " ")), percent_decode(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), "true" | "1")
    }

    /// A number, `None` where it is not given.
    pub(crate) fn number(&self, key: &str) -> ApiResult<Option<u64>> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            }),
        }
    }

    pub(crate) fn dry_run(&self) -> ApiResult<bool> {
        match self.get("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(ApiError::bad_request(format!("invalid dryRun {other:?}: only \"All\" is known"))),
        }
    }
}

/// What is to be done with the resource; decides the permission asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn of(method: &http::Method, path: &ResourcePath, query: &Query) -> ApiResult<Self> {
        let named = !path.name.is_empty();
        Ok(match *method {
            http::Method::GET | http::Method::HEAD if named => Self::Get,
            http::Method::GET | http::Method::HEAD if query.flag("watch") => Self::Watch,
            http::Method::GET | http::Method::HEAD => Self::List,
            http::Method::POST => Self::Create,
            http::Method::PUT if named => Self::Update,
            http::Method::PATCH if named => Self::Patch,
            http::Method::DELETE if named => Self::Delete,
            http::Method::DELETE => Self::DeleteCollection,
            _ => return Err(ApiError::method_not_allowed()),
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_the_api_server_reads_them() {
        let table = [
            ("/api/v1/pods", ["", "v1", "pods", "", "", ""]),
            ("/api/v1/namespaces", ["", "v1", "namespaces", "", "", ""]),
            ("/api/v1/namespaces/a", ["", "v1", "namespaces", "", "a", ""]),
            ("/api/v1/namespaces/a/status", ["", "v1", "namespaces", "", "a", "status"]),
            ("/api/v1/namespaces/a/pods", ["", "v1", "pods", "a", "", ""]),
            ("/api/v1/namespaces/a/pods/p/resize", ["", "v1", "pods", "a", "p", "resize"]),
            (
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                ["apps", "v1", "deployments", "a", "d", "scale"],
            ),
            ("/apis/g/v1/things/x%2Fy", ["g", "v1", "things", "", "x/y", ""]),
        ];
        for (path, [group, version, resource, namespace, name, subresource]) in table {
            let found = ResourcePath::parse(path).unwrap();
            let parts = [
                &found.group,
                &found.version,
                &found.resource,
                &found.namespace,
                &found.name,
                &found.subresource,
            ];
            assert_eq!(parts, [group, version, resource, namespace, name, subresource], "{path}");
        }
        for path in ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version"] {
            assert_eq!(ResourcePath::parse(path), None, "{path}");
        }
    }

    #[test]
    fn queries_decode_escapes() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+in+%28d%29&watch=1&limit=x");
        assert_eq!(query.get("labelSelector"), "a=b,c in (d)");
        assert!(query.flag("watch"));
        assert!(query.number("limit").is_err());
    }
}
