//! Authorities and certificates that are made here.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;

use super::x509::Validity;

/// How long an authority is valid. It is changed without anybody noticing, but each change is a change of the webhook
/// configuration, so they are rare; and a cluster that is paused for a year still finds its authority valid.
pub(crate) const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(5 * 365 * 24);

/// How long a certificate is valid. With renewal at a third of it, an operator has a month to see to what keeps it from
/// being renewed, and a key that leaked is of use for three months at most.
pub(crate) const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Validity begins so long ago: clocks of API servers may be behind.
pub(crate) const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// A private key in PEM, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PrivateKey(pub(crate) String);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// A certificate authority with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// Its certificate, signed by itself.
    pub(crate) certificate: CertificateDer<'static>,
    /// Its private key.
    pub(crate) key: PrivateKey,
    /// When it is valid.
    pub(crate) valid: Validity,
}

/// A server's certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The certificate, then those between it and the authority.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub(crate) key: PrivateKey,
    /// When it is valid.
    pub(crate) valid: Validity,
    /// Names and addresses that it is for.
    pub(crate) names: Vec<String>,
}

/// Makes an authority.
///
/// # Errors
/// No key can be made.
pub(crate) fn authority(now: Timestamp) -> Result<Authority, String> {
    let text = |error: rcgen::Error| format!("making an authority: {error}");
    let valid = validity(now, AUTHORITY_LIFE);
    let mut params = CertificateParams::new(Vec::new()).map_err(text)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    // The time tells authorities that follow each other apart.
    let made = now.strftime("%Y-%m-%d %H:%M:%SZ");
    params.distinguished_name.push(DnType::CommonName, format!("vpa-admission-controller {made}"));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    (params.not_before, params.not_after) =
        (SystemTime::from(valid.0).into(), SystemTime::from(valid.1).into());
    let key = KeyPair::generate().map_err(text)?;
    let certificate = params.self_signed(&key).map_err(text)?.der().clone();
    Ok(Authority { certificate, key: PrivateKey(key.serialize_pem()), valid })
}

impl Authority {
    /// Signs a certificate for these names and addresses. It ends with the authority at the latest.
    ///
    /// # Errors
    /// A name that no certificate can carry, or no key can be made.
    pub(crate) fn sign(&self, names: &[String], now: Timestamp) -> Result<Leaf, String> {
        let text = |error: rcgen::Error| format!("making a certificate for {}: {error}", names.join(", "));
        let key = KeyPair::from_pem(&self.key.0).map_err(text)?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, key).map_err(text)?;
        let (from, to) = validity(now, LEAF_LIFE);
        let valid = (from, to.min(self.valid.1));
        let mut params = CertificateParams::new(names.to_vec()).map_err(text)?;
        params.distinguished_name.push(DnType::CommonName, "vpa-admission-controller");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) =
            (SystemTime::from(valid.0).into(), SystemTime::from(valid.1).into());
        let key = KeyPair::generate().map_err(text)?;
        let certificate = params.signed_by(&key, &issuer).map_err(text)?;
        Ok(Leaf {
            chain: vec![certificate.der().clone()],
            key: PrivateKey(key.serialize_pem()),
            valid,
            names: names.to_vec(),
        })
    }
}

/// Whole seconds, as certificates have them.
fn validity(now: Timestamp, life: SignedDuration) -> Validity {
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let from = whole.checked_sub(BACKDATED).unwrap_or(whole);
    (from, whole.checked_add(life).unwrap_or(Timestamp::MAX))
}
