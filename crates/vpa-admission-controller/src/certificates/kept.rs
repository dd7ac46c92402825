//! Certificates that the program makes and keeps: what there is, and what has to be done about it.
//!
//! [`decide`] is the whole of the decision, with the time as an argument. An authority is followed by another in steps,
//! so that at each moment the API servers trust what each replica serves:
//!
//! ```text
//!  bundle [A]      leaf by A
//!     | a third of A's life is left                                     announce
//!  bundle [A, B]   leaf by A     the webhook configuration comes to trust both
//!     | it has trusted B for a while                                    switch (A's key is gone from here on)
//!  bundle [B, A]   leaf by B     each replica takes the new leaf at its next look
//!     | a day has passed                                                retire
//!  bundle [B]      leaf by B
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::issue::{self, Authority, BACKDATED, Leaf, PrivateKey};
use super::x509::{self, Trust};
use super::{Served, certified};

/// Keys of the Secret. Those of a TLS Secret where the meaning is the same, so that tools show and copy them.
pub(crate) const BUNDLE: &str = "ca.crt";
pub(crate) const AUTHORITY_KEY: &str = "ca.key";
pub(crate) const NEXT_KEY: &str = "next-ca.key";
pub(crate) const LEAF: &str = "tls.crt";
pub(crate) const LEAF_KEY: &str = "tls.key";

/// How long the webhook configuration has to have trusted the next authority before it signs. API servers learn of a change
/// within a second or two; one that is cut off from the others for longer than this serves no requests either.
pub(crate) const TRUST_SETTLE: Duration = Duration::from_secs(10 * 60);

/// So long before an authority's end the next one signs whether or not it is known to be trusted: without self-registration
/// nobody here can know, and after the end nothing works at all. An operator who copies the bundle by hand has
/// from a third of the authority's life until then.
pub(crate) const LAST_CALL: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long after the switch the authority before stays trusted. Replicas take the new leaf within seconds; one that cannot
/// read the Secret for a day is not ready either.
pub(crate) const RETIRE_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Names that a certificate collects from replicas that want different ones, as during a rollout that changes the service.
/// Beyond it the certificate has this replica's names only.
const NAMES_MAX: usize = 16;

/// What is kept: authorities and the certificate that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Signs certificates.
    pub(crate) authority: Authority,
    /// Will sign once it is trusted.
    pub(crate) next: Option<Authority>,
    /// Signed before; trusted until nothing that it signed is served any more.
    pub(crate) previous: Vec<CertificateDer<'static>>,
    /// What is served.
    pub(crate) leaf: Leaf,
}

impl Content {
    /// All of it new.
    ///
    /// # Errors
    /// A name that no certificate can carry, or no key can be made.
    pub(crate) fn new(names: &[String], now: Timestamp) -> Result<Self, String> {
        let authority = issue::authority(now)?;
        let leaf = authority.sign(names, now)?;
        Ok(Self { authority, next: None, previous: Vec::new(), leaf })
    }

    /// The authorities to trust, in PEM.
    pub(crate) fn bundle(&self) -> Vec<u8> {
        let next = self.next.iter().map(|next| &next.certificate);
        x509::pem(std::iter::once(&self.authority.certificate).chain(next).chain(&self.previous)).into_bytes()
    }

    /// As the Secret holds it.
    pub(crate) fn data(&self) -> BTreeMap<String, ByteString> {
        let Self { authority, next, previous: _, leaf } = self;
        let mut data = BTreeMap::from([
            (BUNDLE.to_owned(), ByteString(self.bundle())),
            (AUTHORITY_KEY.to_owned(), ByteString(authority.key.0.clone().into_bytes())),
            (LEAF.to_owned(), ByteString(x509::pem(&leaf.chain).into_bytes())),
            (LEAF_KEY.to_owned(), ByteString(leaf.key.0.clone().into_bytes())),
        ]);
        if let Some(next) = next {
            data.insert(NEXT_KEY.to_owned(), ByteString(next.key.0.clone().into_bytes()));
        }
        data
    }

    /// As the server presents it.
    ///
    /// # Errors
    /// The key cannot be used.
    pub(crate) fn served(&self) -> Result<Served, String> {
        let Leaf { chain, key, valid, names: _ } = &self.leaf;
        Ok(Served {
            key: certified(chain.clone(), key.0.as_bytes())?,
            authority: self.bundle(),
            valid: *valid,
        })
    }
}

/// What was found, part by part.
#[derive(Debug)]
pub(crate) struct Found {
    authority: Result<Authority, String>,
    next: Option<Authority>,
    previous: Vec<CertificateDer<'static>>,
    leaf: Result<Leaf, String>,
}

impl From<Content> for Found {
    fn from(content: Content) -> Self {
        let Content { authority, next, previous, leaf } = content;
        Self { authority: Ok(authority), next, previous, leaf: Ok(leaf) }
    }
}

impl Found {
    /// Nothing at all.
    pub(crate) fn nothing() -> Self {
        let missing = || "it does not exist".to_owned();
        Self { authority: Err(missing()), next: None, previous: Vec::new(), leaf: Err(missing()) }
    }

    /// The authority that is to follow.
    pub(crate) fn next(&self) -> Option<&Authority> {
        self.next.as_ref()
    }

    /// All of it, where every part is good.
    pub(crate) fn whole(self) -> Option<Content> {
        let Self { authority, next, previous, leaf } = self;
        Some(Content { authority: authority.ok()?, next, previous, leaf: leaf.ok()? })
    }
}

/// Reads what a Secret holds. Nothing in it is taken for granted: it may have been edited by hand.
pub(crate) fn read(data: &BTreeMap<String, ByteString>) -> Found {
    let mut certificates = match text(data, BUNDLE).and_then(|pem| x509::split(pem.as_bytes())) {
        Ok(certificates) => certificates,
        Err(reason) => {
            let reason = format!("{BUNDLE}: {reason}");
            return Found {
                authority: Err(reason.clone()),
                next: None,
                previous: Vec::new(),
                leaf: Err(reason),
            };
        }
    };
    let authority = take_authority(&mut certificates, data, AUTHORITY_KEY);
    // One that cannot be used is as good as none: another will be announced.
    let next = take_authority(&mut certificates, data, NEXT_KEY).ok();
    let leaf = match &authority {
        Ok(authority) => read_leaf(data, authority),
        Err(reason) => Err(reason.clone()),
    };
    Found { authority, next, previous: certificates, leaf }
}

/// Takes the certificate out that belongs to a key.
fn take_authority(
    certificates: &mut Vec<CertificateDer<'static>>,
    data: &BTreeMap<String, ByteString>,
    name: &str,
) -> Result<Authority, String> {
    let key = text(data, name)?;
    let pair = KeyPair::from_pem(key).map_err(|error| format!("{name}: {error}"))?;
    let public = pair.subject_public_key_info();
    for index in 0..certificates.len() {
        let facts = x509::facts(&certificates[index]).map_err(|reason| format!("{BUNDLE}: {reason}"))?;
        if facts.public_key != public {
            continue;
        }
        if !facts.authority {
            return Err(format!("{BUNDLE}: the certificate of {name} is not one of an authority"));
        }
        let certificate = certificates.remove(index);
        return Ok(Authority { certificate, key: PrivateKey(key.to_owned()), valid: facts.valid });
    }
    Err(format!("{BUNDLE}: holds no certificate of {name}"))
}

fn read_leaf(data: &BTreeMap<String, ByteString>, authority: &Authority) -> Result<Leaf, String> {
    let chain = text(data, LEAF)
        .and_then(|pem| x509::split(pem.as_bytes()))
        .map_err(|reason| format!("{LEAF}: {reason}"))?;
    let first = chain.first().ok_or_else(|| format!("{LEAF}: holds no certificate"))?;
    let x509::Facts { valid, names, .. } =
        x509::facts(first).map_err(|reason| format!("{LEAF}: {reason}"))?;
    let key = text(data, LEAF_KEY)?;
    certified(chain.clone(), key.as_bytes()).map_err(|reason| format!("{LEAF_KEY}: {reason}"))?;
    let name = names.first().ok_or_else(|| format!("{LEAF}: names no host"))?;
    let name =
        ServerName::try_from(name.as_str()).map_err(|_| format!("{LEAF}: the host {name:?} is no name"))?;
    // As of a moment when both are valid: their ends are seen to by the decision.
    let begin = valid.0.max(authority.valid.0).as_second();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(begin).unwrap_or_default()));
    Trust::new(vec![authority.certificate.clone()])
        .check(first, &chain[1..], &name, time)
        .map_err(|error| format!("{LEAF}: not signed by the authority of {AUTHORITY_KEY}: {error}"))?;
    Ok(Leaf { chain, key: PrivateKey(key.to_owned()), valid, names })
}

fn text<'a>(data: &'a BTreeMap<String, ByteString>, name: &str) -> Result<&'a str, String> {
    let ByteString(bytes) = data.get(name).ok_or_else(|| format!("{name} is missing"))?;
    std::str::from_utf8(bytes).map_err(|_| format!("{name} is not text"))
}

/// What has to be done. The texts say why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Keep,
    /// Sign another certificate.
    RenewLeaf(String),
    /// Make the next authority and have it trusted.
    Announce,
    /// Let the next authority sign.
    Switch(String),
    /// Trust the authority before no more.
    Retire,
    /// What is there is of no use.
    Replace(String),
}

/// What a decision looks at besides what was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    /// Time.
    pub(crate) now: Timestamp,
    /// Names and addresses that the certificate has to have.
    pub(crate) names: &'a [String],
    /// Whether the webhook configuration has trusted the next authority for [`TRUST_SETTLE`].
    pub(crate) next_trusted: bool,
}

/// Decides about what was found. Certificates that are not valid yet are left alone: it is
/// more likely that this clock is behind than that somebody made certificates for tomorrow.
pub(crate) fn decide(found: &Found, situation: &Situation<'_>) -> Step {
    let Situation { now, names, next_trusted } = *situation;
    let Found { authority, next, previous, leaf } = found;
    let authority = match authority {
        Ok(authority) => authority,
        Err(reason) => return Step::Replace(reason.clone()),
    };
    let end = authority.valid.1;
    let next = next.as_ref().filter(|next| next.valid.1 > now);
    match next {
        Some(_) if next_trusted => return Step::Switch("the next authority is trusted".to_owned()),
        Some(_) if end.duration_since(now) <= LAST_CALL => {
            return Step::Switch(format!("the authority ends at {end}"));
        }
        None if end <= now => return Step::Replace(format!("{BUNDLE}: the authority ended at {end}")),
        _ => {}
    }
    let leaf = match leaf {
        Ok(leaf) => leaf,
        Err(reason) => return Step::RenewLeaf(reason.clone()),
    };
    if let Some(name) = names.iter().find(|name| !has(leaf, name)) {
        return Step::RenewLeaf(format!("it is not for {name}"));
    }
    if due(leaf.valid, now) {
        return Step::RenewLeaf(format!("it ends at {}", leaf.valid.1));
    }
    if next.is_none() && due(authority.valid, now) {
        return Step::Announce;
    }
    let signed = leaf.valid.0.checked_add(BACKDATED).unwrap_or(Timestamp::MAX);
    if !previous.is_empty() && now.duration_since(signed) >= RETIRE_AFTER {
        return Step::Retire;
    }
    Step::Keep
}

/// Whether a third of a validity is left, or less.
fn due((from, to): (Timestamp, Timestamp), now: Timestamp) -> bool {
    to.duration_since(now) <= to.duration_since(from) / 3
}

fn has(leaf: &Leaf, name: &str) -> bool {
    let plain = |name: &str| name.parse::<IpAddr>().map_or_else(|_| name.to_lowercase(), |ip| ip.to_string());
    let name = plain(name);
    leaf.names.iter().any(|found| plain(found) == name)
}

/// Carries a step out. `held` is what this replica serves, where it does: what has to be replaced is then replaced by that,
/// with an authority to follow, so that the API servers trust at each moment what is served.
///
/// # Errors
/// A name that no certificate can carry, or no key can be made.
pub(crate) fn carry_out(
    step: &Step,
    found: Found,
    held: Option<&Content>,
    situation: &Situation<'_>,
) -> Result<Content, String> {
    let Situation { now, names, .. } = *situation;
    let from_held = || {
        let held = held.filter(|held| held.authority.valid.1 > now && held.leaf.valid.1 > now);
        let Some(held) = held else { return Content::new(names, now) };
        let next = match &held.next {
            Some(next) => next.clone(),
            None => issue::authority(now)?,
        };
        Ok(Content { next: Some(next), ..held.clone() })
    };
    let Found { authority: Ok(authority), next, previous, leaf } = found else { return from_held() };
    let next = next.filter(|next| next.valid.1 > now);
    Ok(match (step, next, leaf) {
        (Step::Replace(_), ..) => return from_held(),
        (Step::Switch(_), Some(next), _) => {
            let mut previous = previous;
            previous.insert(0, authority.certificate);
            let leaf = next.sign(names, now)?;
            Content { authority: next, next: None, previous, leaf }
        }
        (Step::RenewLeaf(_), next, leaf) => {
            let leaf = authority.sign(&collected(names, leaf.ok().as_ref()), now)?;
            Content { authority, next, previous, leaf }
        }
        (Step::Announce, _, Ok(leaf)) => {
            Content { authority, next: Some(issue::authority(now)?), previous, leaf }
        }
        (Step::Retire, next, Ok(leaf)) => Content { authority, next, previous: Vec::new(), leaf },
        (_, next, Ok(leaf)) => Content { authority, next, previous, leaf },
        (_, _, Err(_)) => return from_held(),
    })
}

/// The wanted names and those of the certificate before, which another replica may want: two that each made a
/// certificate without the other's names would do so for ever. They go with the next renewal that only time asks for.
fn collected(names: &[String], before: Option<&Leaf>) -> Vec<String> {
    let Some(before) = before.filter(|before| names.iter().any(|name| !has(before, name))) else {
        return names.to_vec();
    };
    let all: Vec<String> = names
        .iter()
        .cloned()
        .chain(before.names.iter().filter(|name| !names.contains(name)).cloned())
        .collect();
    if all.len() > NAMES_MAX { names.to_vec() } else { all }
}

#[cfg(test)]
mod tests;
