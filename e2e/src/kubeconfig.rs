//! Kubeconfig files, and clients made of them.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::error::{Error, Result};
use crate::pki;

/// Where an API server listens and what its certificate is signed by.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Base URL.
    pub url: String,
    /// PEM of the authority of its certificate; none for a plain-HTTP server.
    pub authority: Option<String>,
}

/// How a client proves who it is.
#[derive(Clone, Debug)]
pub enum Identity {
    /// With a client certificate.
    Certificate(pki::Pair),
    /// With a bearer token.
    Token(String),
    /// Not at all.
    Anonymous,
}

/// Writes a kubeconfig (as JSON, which is YAML too) with everything in it, so that no other file is needed.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, endpoint: &Endpoint, identity: &Identity) -> Result<()> {
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let mut cluster = json!({ "server": endpoint.url });
    if let Some(authority) = &endpoint.authority {
        cluster["certificate-authority-data"] = base64(authority).into();
    }
    let user = match identity {
        Identity::Certificate(pair) => json!({
            "client-certificate-data": base64(&pair.certificate),
            "client-key-data": base64(&pair.key),
        }),
        Identity::Token(token) => json!({ "token": token }),
        Identity::Anonymous => json!({}),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "e2e", "cluster": cluster }],
        "users": [{ "name": "e2e", "user": user }],
        "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": "e2e" } }],
        "current-context": "e2e",
    });
    pki::write(path, &format!("{config:#}\n"))
}

/// A client with what the kubeconfig says.
///
/// # Errors
/// If the file cannot be read or names nothing usable.
pub async fn client(path: &Path) -> Result<kube::Client> {
    let failed = |error: &dyn std::fmt::Display| Error::Client(format!("{}: {error}", path.display()));
    let config = Kubeconfig::read_from(path).map_err(|e| failed(&e))?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .map_err(|e| failed(&e))?;
    kube::Client::try_from(config).map_err(|e| failed(&e))
}

/// Path of the kubeconfig called `name` in `dir`.
pub fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.kubeconfig"))
}
