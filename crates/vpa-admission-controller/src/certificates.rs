//! The server's certificate: from files, read again when they change, or made here.

mod expiry;
mod files;
mod issue;
pub(crate) mod kept;
pub mod secret;
pub(crate) mod x509;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::sync::Notify;

pub use expiry::{Alarm, Warning};

/// Time between two looks at the files or the Secret. Kubernetes itself takes a minute to put a changed secret into a
/// pod.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{flag} {path}: {source}")]
    File {
        /// Flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{flag} {path}: {reason}")]
    Content {
        /// Flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key does not belong to the certificate.
    #[error("--tls-private-key {key} is not the key of --tls-cert-file {certificate}")]
    Mismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// A certificate could not be made.
    #[error("making a certificate: {0}")]
    Making(String),
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From files.
    Files {
        /// Certificate chain.
        certificate: PathBuf,
        /// Key.
        key: PathBuf,
        /// Certificate of the authority.
        authority: PathBuf,
    },
    /// Made here, for these names and addresses, with an authority of its own, and kept in memory alone.
    SelfMade(Vec<String>),
}

/// What is served at present.
#[derive(Clone, Debug)]
pub struct Served {
    key: Arc<CertifiedKey>,
    /// What the API server has to trust, in PEM; empty where there is no such file.
    pub authority: Vec<u8>,
    /// Start and end of the certificate's validity.
    pub valid: (Timestamp, Timestamp),
}

impl Served {
    /// The certificate itself.
    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }

    /// Whether there are authorities that go with the certificate, and none of them has signed it.
    pub(crate) fn of_a_stranger(&self) -> bool {
        !self.authority.is_empty() && !self.signed_by(&x509::split(&self.authority).unwrap_or_default())
    }

    /// Whether one of these authorities has signed the certificate, or is the certificate itself.
    pub(crate) fn signed_by(&self, authorities: &[CertificateDer<'static>]) -> bool {
        let Some((leaf, between)) = self.key.cert.split_first() else { return false };
        let name = x509::facts(leaf).ok().and_then(|facts| facts.names.into_iter().next());
        // A name with a star is none; any of those that it stands for does.
        let name = name.map(|name| name.replacen("*.", "webhook.", 1));
        let Some(Ok(name)) = name.map(ServerName::try_from) else { return false };
        let seconds = u64::try_from(self.valid.0.as_second()).unwrap_or_default();
        let begin = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let trusts = |time| x509::Trust::new(authorities.to_vec()).check(leaf, between, &name, time).is_ok();
        // An authority that was made after the certificate, or that has ended since, has signed it all the same.
        trusts(UnixTime::now()) || trusts(begin)
    }
}

/// The certificate. Cheap to clone; all clones serve the same.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// None where somebody else says what is served.
    source: Option<Source>,
    served: Arc<ArcSwap<Served>>,
    changed: Arc<Notify>,
    alone: Arc<AtomicBool>,
}

impl Certificates {
    /// Loads or makes the certificate.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn load(source: Source) -> Result<Self, CertificateError> {
        let served = match &source {
            Source::Files { certificate, key, authority } => files::read(certificate, key, authority)?,
            Source::SelfMade(names) => kept::Content::new(names, vpa_runtime::clock::wall())
                .and_then(|content| content.served())
                .map_err(CertificateError::Making)?,
        };
        Ok(Self { source: Some(source), ..Self::serving(served) })
    }

    /// Serves what is given, until [`Self::serve`] is called.
    pub(crate) fn serving(served: Served) -> Self {
        let served = Arc::new(ArcSwap::from_pointee(served));
        Self { source: None, served, changed: Arc::default(), alone: Arc::default() }
    }

    /// What is served at present.
    pub fn served(&self) -> Arc<Served> {
        self.served.load_full()
    }

    /// Serves another certificate from now on.
    pub(crate) fn serve(&self, served: Served) {
        self.served.store(Arc::new(served));
        self.changed.notify_one();
    }

    /// Goes on serving the same certificate, while the API server has to trust these from now on.
    pub(crate) fn trusting(&self, authority: Vec<u8>) {
        self.serve(Served { authority, ..(*self.served()).clone() });
    }

    /// Whether other replicas have certificates of their own, which API servers have to trust as well.
    pub fn alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// Says so.
    pub(crate) fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Relaxed);
    }

    /// Waits until another certificate or authority is served; for one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether the certificate is valid now.
    ///
    /// # Errors
    /// Since when or until when it is not.
    pub fn check(&self, now: Timestamp) -> Result<(), String> {
        let (from, to) = self.served.load().valid;
        if now < from {
            return Err(format!("the certificate is not valid before {from}"));
        }
        if now > to { Err(format!("the certificate expired at {to}")) } else { Ok(()) }
    }

    /// Looks at the files. True when another certificate or authority is served from now on. What is there goes on being
    /// served where the new one is no good, or has ended while the old one has not.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn refresh(&self, now: Timestamp) -> Result<bool, CertificateError> {
        let Some(Source::Files { certificate, key, authority }) = &self.source else { return Ok(false) };
        let old = self.served();
        let new = files::read(certificate, key, authority)?;
        if new.authority.is_empty() && !old.authority.is_empty() {
            return Err(files::gone(authority));
        }
        if new.key.cert == old.key.cert && new.authority == old.authority {
            return Ok(false);
        }
        if new.valid.1 < now && old.valid.1 >= now {
            return Err(files::ended(certificate, new.valid.1));
        }
        self.serve(new);
        Ok(true)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.served.load().key.clone())
    }
}

/// A certificate with its key, as the TLS library takes them.
///
/// # Errors
/// What is wrong with the key.
pub(crate) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
) -> Result<Arc<CertifiedKey>, String> {
    let private =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("holds no private key: {error}"))?;
    let signer = any_supported_type(&private).map_err(|error| format!("the key cannot be used: {error}"))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(_) => Err(NOT_ITS_KEY.to_owned()),
    }
}

/// What [`certified`] says of the key of another certificate.
const NOT_ITS_KEY: &str = "not the key of the certificate";

#[cfg(test)]
mod tests;
