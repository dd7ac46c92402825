//! Clients for servers that are not the API server.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::AuthInfo;
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{CONNECT_TIMEOUT, chain, install_crypto};
use crate::Error;

/// What a client shows to the server.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// Nothing.
    #[default]
    None,
    /// User name and password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A bearer token.
    Token(String),
    /// A bearer token in a file, read again once a minute.
    TokenFile(String),
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Its address; paths of requests are appended to its path.
    pub address: http::Uri,
    /// Do not check its certificate.
    pub insecure: bool,
    /// Certificates, as PEM, that its own is checked against; those of the system where there is none.
    pub ca_file: Option<PathBuf>,
    /// What to show to it.
    pub login: Login,
    /// Longest time without a byte.
    pub silence_max: Duration,
}

impl Outside {
    /// A client without retries, limits and deadlines: these are the caller's. Sends nothing yet.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn client(self) -> Result<Client, Error> {
        install_crypto();
        let address = self.address.to_string();
        let failed = |what: String| Error::other(format!("a client for {address}"), what);
        let mut config = Config::new(self.address);
        config.default_retry = false;
        config.accept_invalid_certs = self.insecure;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(self.silence_max);
        if let Some(path) = self.ca_file {
            let certificates = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
            let certificates: Vec<CertificateDer<'_>> =
                certificates.map_err(|error| failed(format!("{}: {error}", path.display())))?;
            if certificates.is_empty() {
                return Err(failed(format!("{} has no certificate", path.display())));
            }
            config.root_cert = Some(certificates.iter().map(|certificate| certificate.to_vec()).collect());
        }
        config.auth_info = match self.login {
            Login::None => AuthInfo::default(),
            Login::Basic { username, password } => {
                AuthInfo { username: Some(username), password: Some(password.into()), ..AuthInfo::default() }
            }
            Login::Token(token) => AuthInfo { token: Some(token.into()), ..AuthInfo::default() },
            Login::TokenFile(path) => AuthInfo { token_file: Some(path), ..AuthInfo::default() },
        };
        Client::try_from(config).map_err(|error| failed(chain(&error)))
    }
}
