//! The server's certificate: from files, read again when they change, or made here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Time between two looks at the files. Kubernetes itself takes a minute to put a changed secret into a pod.
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
    /// Made here, for these names and addresses, with an authority of its own.
    SelfMade(Vec<String>),
}

/// What is served at present.
#[derive(Debug)]
pub struct Served {
    key: Arc<CertifiedKey>,
    /// What the API server has to trust, in PEM; empty where there is no such file.
    pub authority: Vec<u8>,
    /// Start and end of the certificate's validity.
    pub valid: (Timestamp, Timestamp),
}

/// The certificate. Cheap to clone; all clones serve the same.
#[derive(Clone, Debug)]
pub struct Certificates {
    source: Source,
    served: Arc<ArcSwap<Served>>,
}

impl Certificates {
    /// Loads or makes the certificate.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn load(source: Source) -> Result<Self, CertificateError> {
        let served = read(&source)?;
        Ok(Self { source, served: Arc::new(ArcSwap::from_pointee(served)) })
    }

    /// What is served at present.
    pub fn served(&self) -> Arc<Served> {
        self.served.load_full()
    }

    /// Whether the certificate was made here.
    pub fn self_made(&self) -> bool {
        matches!(self.source, Source::SelfMade(_))
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

    /// Looks at the files, or makes a new certificate when a third of the old one's time is left. True when another
    /// certificate or authority is served from now on. What is there goes on being served where the new one is no good.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn refresh(&self, now: Timestamp) -> Result<bool, CertificateError> {
        let old = self.served();
        if self.self_made() {
            let (from, to) = old.valid;
            let third = to.duration_since(from) / 3;
            if to.duration_since(now) > third {
                return Ok(false);
            }
        }
        let new = read(&self.source)?;
        if new.key.cert == old.key.cert && new.authority == old.authority {
            return Ok(false);
        }
        self.served.store(Arc::new(new));
        Ok(true)
    }

    /// Calls [`Self::refresh`] every [`LOOK_EVERY`], for ever, and `changed` after each change.
    pub async fn watch(&self, changed: impl Fn()) {
        let mut trouble = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.refresh(vpa_runtime::clock::wall()) {
                Ok(false) => trouble = None,
                Ok(true) => {
                    tracing::info!(valid_until = %self.served().valid.1, "serving another certificate");
                    trouble = None;
                    changed();
                }
                Err(error) => {
                    // While files are being replaced they do not fit for a moment; said once for each state.
                    let text = error.to_string();
                    if trouble.as_ref() != Some(&text) {
                        tracing::warn!(
                            error = text,
                            "certificate files are not usable; the old certificate is served on"
                        );
                        trouble = Some(text);
                    }
                }
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.served.load().key.clone())
    }
}

fn read(source: &Source) -> Result<Served, CertificateError> {
    match source {
        Source::Files { certificate, key, authority } => read_files(certificate, key, authority),
        Source::SelfMade(names) => make(names).map_err(CertificateError::Making),
    }
}

fn read_files(certificate: &Path, key: &Path, authority: &Path) -> Result<Served, CertificateError> {
    let file = |flag, path: &Path| {
        std::fs::read(path).map_err(|source| CertificateError::File { flag, path: path.to_owned(), source })
    };
    let content =
        |flag, path: &Path, reason: String| CertificateError::Content { flag, path: path.to_owned(), reason };
    const CERTIFICATE: &str = "--tls-cert-file";
    const KEY: &str = "--tls-private-key";
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&file(CERTIFICATE, certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|error| content(CERTIFICATE, certificate, format!("not PEM: {error}")))?;
    let Some(leaf) = chain.first() else {
        return Err(content(CERTIFICATE, certificate, "holds no certificate".to_owned()));
    };
    let valid = validity(leaf).map_err(|reason| content(CERTIFICATE, certificate, reason))?;
    let private = PrivateKeyDer::from_pem_slice(&file(KEY, key)?)
        .map_err(|error| content(KEY, key, format!("holds no private key: {error}")))?;
    let signer = any_supported_type(&private)
        .map_err(|error| content(KEY, key, format!("the key cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => {
            return Err(CertificateError::Mismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            });
        }
    }
    // The authority is needed for the registration only, which says so when it is missing.
    let authority = std::fs::read(authority).unwrap_or_default();
    Ok(Served { key: Arc::new(certified), authority, valid })
}

fn validity(leaf: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(leaf).map_err(|error| format!("not a certificate: {error}"))?;
    let time =
        |seconds: i64| Timestamp::from_second(seconds).map_err(|error| format!("its validity: {error}"));
    let validity = parsed.validity();
    Ok((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

/// Years that a certificate made here is valid. It lives in the memory of one process, which makes a new one in time.
const SELF_MADE_YEARS: i32 = 1;

fn make(names: &[String]) -> Result<Served, String> {
    let text = |error: rcgen::Error| error.to_string();
    let today = vpa_runtime::clock::wall().to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = |date: jiff::civil::Date| {
        let month = u8::try_from(date.month()).unwrap_or(1);
        // Valid in each year, which the 29th of February is not.
        let day = u8::try_from(date.day()).unwrap_or(1).min(28);
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    // Clocks of API servers may be behind.
    let from = date(today.yesterday().unwrap_or(today));
    let to = date(today.saturating_add(jiff::Span::new().years(SELF_MADE_YEARS)));

    let mut authority = CertificateParams::new(Vec::new()).map_err(text)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.distinguished_name.push(DnType::CommonName, "vpa-admission-controller authority");
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    (authority.not_before, authority.not_after) = (from, to);
    let authority_key = KeyPair::generate().map_err(text)?;
    let authority_certificate = authority.self_signed(&authority_key).map_err(text)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut leaf = CertificateParams::new(names.to_vec()).map_err(text)?;
    leaf.distinguished_name.push(DnType::CommonName, "vpa-admission-controller");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (from, to);
    let leaf_key = KeyPair::generate().map_err(text)?;
    let leaf = leaf.signed_by(&leaf_key, &issuer).map_err(text)?;

    let private = PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(str::to_owned)?;
    let signer = any_supported_type(&private).map_err(|error| error.to_string())?;
    let valid = validity(leaf.der())?;
    let key = Arc::new(CertifiedKey::new(vec![leaf.der().clone()], signer));
    Ok(Served { key, authority: authority_certificate.pem().into_bytes(), valid })
}

#[cfg(test)]
mod tests;
