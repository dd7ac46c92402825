//! What is known of the webhook configuration in the cluster.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;

use crate::certificates::x509;

/// What the last looks found. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    looked: bool,
    /// Whether the configuration holds this webhook as it should be.
    present: bool,
    bundle: Vec<u8>,
    /// Authorities that it trusts, each since when it has done so at every look, by the steady clock.
    trusted: Vec<(CertificateDer<'static>, Timestamp)>,
    trouble: Option<String>,
}

impl Known {
    /// The configuration is as it should be and trusts these, in PEM.
    pub(crate) fn written(&self, bundle: &[u8], steady: Timestamp) {
        let mut state = self.0.lock();
        let since = |certificate: &CertificateDer<'static>| {
            let before = state.trusted.iter().find(|(trusted, _)| trusted == certificate);
            before.map_or(steady, |(_, since)| *since)
        };
        let trusted = x509::split(bundle).unwrap_or_default();
        let trusted =
            trusted.into_iter().map(|certificate| (certificate.clone(), since(&certificate))).collect();
        *state = State { looked: true, present: true, bundle: bundle.to_vec(), trusted, trouble: None };
    }

    /// The webhook is not there, or trusts others.
    pub(crate) fn not_written(&self) {
        let mut state = self.0.lock();
        state.looked = true;
        state.present = false;
        state.trusted.clear();
        state.bundle.clear();
    }

    /// A look failed. What was known stays known: the API server may be busy for a moment.
    pub(crate) fn failed(&self, reason: &str) {
        let mut state = self.0.lock();
        state.looked = true;
        state.trouble = Some(reason.to_owned());
    }

    /// Whether there has been a look, whatever came of it.
    pub fn looked(&self) -> bool {
        self.0.lock().looked
    }

    /// Whether the first attempt to have a configuration is over, with or without success.
    pub(crate) fn settled(&self) -> bool {
        let state = self.0.lock();
        state.present || state.trouble.is_some()
    }

    /// Whether the configuration is known to trust this authority.
    pub(crate) fn trusts(&self, authority: &CertificateDer<'_>) -> bool {
        self.0.lock().trusted.iter().any(|(trusted, _)| trusted.as_ref() == authority.as_ref())
    }

    /// For how long it is known to have done so.
    pub(crate) fn trusted_for(&self, authority: &CertificateDer<'_>, steady: Timestamp) -> Duration {
        let state = self.0.lock();
        let since = state.trusted.iter().find(|(trusted, _)| trusted.as_ref() == authority.as_ref());
        since.map_or(Duration::ZERO, |(_, since)| {
            Duration::try_from(steady.duration_since(*since)).unwrap_or_default()
        })
    }

    /// The bundle by which API servers judge the webhook; empty where they trust those of their system.
    ///
    /// # Errors
    /// They are not known to call it at all.
    pub fn bundle(&self) -> Result<Vec<u8>, String> {
        let state = self.0.lock();
        if state.present {
            return Ok(state.bundle.clone());
        }
        Err(match &state.trouble {
            Some(reason) => format!("the webhook is not registered: {reason}"),
            None => "the webhook is not registered yet".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::certificates::kept::Content;

    #[test]
    fn trust_counts_from_when_it_began_without_a_gap() {
        let at = |second: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let content = |_| Content::new(&["localhost".to_owned()], vpa_runtime::clock::wall()).unwrap();
        let [a, b] = [0, 1].map(content);
        let (first, second) = (&a.authority.certificate, &b.authority.certificate);
        let both = [a.bundle(), b.bundle()].concat();
        let known = Known::default();
        assert!(!known.looked() && known.bundle().unwrap_err().contains("not registered yet"));
        known.written(&a.bundle(), at(0));
        known.written(&both, at(10));
        known.failed("busy");
        assert_eq!(known.bundle().unwrap(), both, "a failed look changes nothing");
        assert_eq!(known.trusted_for(first, at(15)), Duration::from_secs(15));
        assert_eq!(known.trusted_for(second, at(15)), Duration::from_secs(5));
        known.written(&a.bundle(), at(20));
        assert!(known.trusts(first) && !known.trusts(second));
        known.written(&both, at(30));
        assert_eq!(known.trusted_for(second, at(31)), Duration::from_secs(1));
        known.not_written();
        known.failed("no permission");
        assert!(!known.trusts(first));
        assert!(known.bundle().unwrap_err().contains("no permission"));
    }
}
