//! Certificates of one run: authorities, servers and clients, made in memory and gone with it.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::error::{Error, OnFile, Result};

/// A certificate with its key, both as PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS#8).
    pub key: String,
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key` into `dir`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, dir: &Path, name: &str) -> Result<()> {
        write(&dir.join(format!("{name}.crt")), &self.certificate)?;
        write(&dir.join(format!("{name}.key")), &self.key)
    }
}

/// A certificate authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority called `name`.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn new(name: &str) -> Result<Self> {
        let make = || -> Result<Self, rcgen::Error> {
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?.pem();
            Ok(Self { certificate, issuer: Issuer::new(params, key) })
        };
        make().map_err(|source| Error::Certificate { subject: name.to_owned(), source })
    }

    /// Its own certificate, for those who are to trust it.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a server that is reached under `hosts` (names or addresses).
    ///
    /// # Errors
    /// If a host is neither a name nor an address.
    pub fn server(&self, name: &str, hosts: &[&str]) -> Result<Pair> {
        self.issue(name, None, hosts, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client; Kubernetes takes `name` as the user and `group` as its group.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn client(&self, name: &str, group: Option<&str>) -> Result<Pair> {
        self.issue(name, group, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        name: &str,
        group: Option<&str>,
        hosts: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        let make = || -> Result<Pair, rcgen::Error> {
            let mut params =
                CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            params.distinguished_name.push(DnType::CommonName, name);
            if let Some(group) = group {
                params.distinguished_name.push(DnType::OrganizationName, group);
            }
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?.pem();
            Ok(Pair { certificate, key: key.serialize_pem() })
        };
        make().map_err(|source| Error::Certificate { subject: name.to_owned(), source })
    }
}

/// A private key alone, as PEM (PKCS#8): signs service-account tokens.
///
/// # Errors
/// If no key can be generated.
pub fn signing_key() -> Result<KeyPair> {
    KeyPair::generate()
        .map_err(|source| Error::Certificate { subject: "service-account tokens".to_owned(), source })
}

/// Writes a text file.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).on_file(path, "write")
}
