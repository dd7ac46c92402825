//! What is read from certificates, and whom to trust.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;

/// Start and end of a validity.
pub(crate) type Validity = (Timestamp, Timestamp);

/// What a certificate says of itself.
#[derive(Debug)]
pub(crate) struct Facts {
    /// When it is valid.
    pub(crate) valid: Validity,
    /// Names and addresses that it is for.
    pub(crate) names: Vec<String>,
    /// The public key, as DER.
    pub(crate) public_key: Vec<u8>,
    /// Whether it may sign others.
    pub(crate) authority: bool,
}

/// The certificates of a PEM text, in order.
///
/// # Errors
/// It is not PEM.
pub(crate) fn split(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| format!("not PEM: {error}"))
}

/// Certificates as PEM, one after the other.
pub(crate) fn pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in BASE64_STANDARD.encode(certificate).as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// Reads a certificate.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| format!("not a certificate: {error}"))?;
    let time =
        |seconds: i64| Timestamp::from_second(seconds).map_err(|error| format!("its validity: {error}"));
    let validity = parsed.validity();
    let valid = (time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?);
    let alternatives =
        parsed.subject_alternative_name().map_err(|error| format!("its subjectAltName: {error}"))?;
    let names = alternatives.map_or(&[][..], |found| &found.value.general_names[..]);
    Ok(Facts {
        valid,
        names: names.iter().filter_map(name).collect(),
        public_key: parsed.public_key().raw.to_vec(),
        authority: parsed.is_ca(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// Trust in certificates, and in those that they signed, as API servers have it: a certificate that is trusted itself
/// is taken whether or not it is marked as an authority, which the TLS library alone would refuse.
#[derive(Debug)]
pub(crate) struct Trust {
    anchors: Vec<CertificateDer<'static>>,
    /// None where no anchor can sign others.
    chains: Option<Arc<WebPkiServerVerifier>>,
}

impl Trust {
    /// Trust in these alone.
    pub(crate) fn new(anchors: Vec<CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(anchors.iter().cloned());
        let provider = Arc::new(ring::default_provider());
        // Fails without anchors only.
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok();
        Self { anchors, chains }
    }

    /// Whether a server with this certificate is trusted to be `name` at `now`.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if self.anchors.iter().any(|anchor| anchor.as_ref() == leaf.as_ref()) {
            // Its time is looked at by `Certificates::check`.
            return verify_server_name(&ParsedCertificate::try_from(leaf)?, name);
        }
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let chains = self.chains.as_ref().ok_or(unknown)?;
        chains.verify_server_cert(leaf, intermediates, name, &[], now).map(drop)
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(leaf, intermediates, name, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
