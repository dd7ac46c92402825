//! A server that gives every review the same answer, over the HTTPS server of the admission controller: what of a
//! review's time is not the admission controller's. It runs in a process of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use axum::routing::post;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use vpa_admission_controller::tls;

use crate::error::{Error, OnFile, Result};
use crate::process::Process;

/// File with the answer, beside the certificate.
const ANSWER: &str = "answer.json";

/// Starts it as a process, with a certificate from `folder` and this answer.
///
/// # Errors
/// If it cannot be started.
pub(super) fn start(folder: &Path, port: u16, answer: &str, log: &Path) -> Result<Process> {
    crate::pki::write(&folder.join(ANSWER), answer)?;
    let own = std::env::current_exe();
    let own = own.map_err(|source| Error::Spawn { program: "bench".to_owned(), source })?;
    let mut command = Command::new(own);
    command.arg(format!("--constant={port}:{}", folder.display()));
    Process::start("constant-answer", command, log)
}

/// Serves until the process is ended. `what` is what [`start`] says on the command line: port and folder.
///
/// # Errors
/// If the files or the port cannot be used.
pub async fn serve(what: &str) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Error::expectation(format!("--constant {what}: {error}"));
    let (port, folder) = what.split_once(':').ok_or_else(|| failed(&"not PORT:FOLDER"))?;
    let (port, folder) = (port.parse::<u16>().map_err(|error| failed(&error))?, PathBuf::from(folder));
    let read = |name: &str| std::fs::read(folder.join(name)).on_file(folder.join(name), "read");
    let certificate = CertificateDer::pem_slice_iter(&read("webhook.crt")?).collect::<Result<Vec<_>, _>>();
    let certificate = certificate.map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&read("webhook.key")?).map_err(|error| failed(&error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificate, key))
        .map_err(|error| failed(&error))?;
    let answer = Bytes::from(read(ANSWER)?);
    // The whole review is read first, as it is by who has to know it.
    let router = Router::new().route("/", post(async move |_: Bytes| respond(answer.clone())));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| failed(&error))?;
    // As a task among the others, as the program does it.
    let served = tokio::spawn(tls::serve(listener, Arc::new(config), router, CancellationToken::new()));
    served.await.map_err(|error| failed(&error))
}

fn respond(answer: Bytes) -> Response {
    let mut response = Response::new(Body::from(answer));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
