//! Certificates from files.

use std::path::Path;

use jiff::Timestamp;

use super::{CertificateError, NOT_ITS_KEY, Served, certified, x509};

const AUTHORITY: &str = "--client-ca-file";
const CERTIFICATE: &str = "--tls-cert-file";
const KEY: &str = "--tls-private-key";

/// Reads the files. A file for the authority that is not there is no error: without self-registration nobody needs it.
///
/// # Errors
/// What is wrong with them. Kubernetes swaps all files of a volume at once, but they are read one after the other, and
/// others write them one after the other: a certificate with the key of another one is such a moment.
pub(super) fn read(certificate: &Path, key: &Path, authority: &Path) -> Result<Served, CertificateError> {
    let chain = x509::split(&file(CERTIFICATE, certificate)?)
        .map_err(|reason| content(CERTIFICATE, certificate, reason))?;
    let Some(leaf) = chain.first() else {
        return Err(content(CERTIFICATE, certificate, "holds no certificate".to_owned()));
    };
    let valid = x509::facts(leaf).map_err(|reason| content(CERTIFICATE, certificate, reason))?.valid;
    let certified = certified(chain, &file(KEY, key)?).map_err(|reason| {
        if reason == NOT_ITS_KEY {
            CertificateError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        } else {
            content(KEY, key, reason)
        }
    })?;
    Ok(Served { key: certified, authority: read_authority(authority)?, valid })
}

fn read_authority(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(CertificateError::File { flag: AUTHORITY, path: path.to_owned(), source }),
    };
    // An empty file is one that is just being written, and an empty bundle would make API servers trust the wrong ones.
    match x509::split(&text) {
        Ok(certificates) if certificates.is_empty() => {
            Err(content(AUTHORITY, path, "holds no certificate".to_owned()))
        }
        Ok(_) => Ok(text),
        Err(reason) => Err(content(AUTHORITY, path, reason)),
    }
}

/// Says that the authority's file has gone.
pub(super) fn gone(path: &Path) -> CertificateError {
    content(AUTHORITY, path, "is not there any more".to_owned())
}

/// Says that a certificate has ended.
pub(super) fn ended(path: &Path, end: Timestamp) -> CertificateError {
    content(CERTIFICATE, path, format!("ended at {end}"))
}

fn file(flag: &'static str, path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::File { flag, path: path.to_owned(), source })
}

fn content(flag: &'static str, path: &Path, reason: String) -> CertificateError {
    CertificateError::Content { flag, path: path.to_owned(), reason }
}
