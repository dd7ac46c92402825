//! Which authorities the webhook configuration has to trust.

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::certificates::x509;

/// How long an authority stays in the configuration that this replica did not ask for. Others may still serve what it
/// signed: in a rollout from other certificates, or where a mounted secret reaches pods minutes apart. An hour is
/// longer than a rollout takes, and a mistake (or an attack) does not stay for good.
const OVERLAP: SignedDuration = SignedDuration::from_hours(1);

/// Authorities in a configuration: more than any rollout leaves, and old ones must not pile up.
pub(super) const AUTHORITIES_MAX: usize = 8;

/// Remembers authorities of others: since when each is there, and whether it was taken out.
#[derive(Debug, Default)]
pub(crate) struct Overlap(Vec<Foreign>);

/// When a bundle is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Time by a clock that never steps.
    pub(crate) steady: Timestamp,
    /// Time as certificates tell it.
    pub(crate) wall: Timestamp,
    /// This replica's certificate is in no place that others read: theirs are there to stay.
    pub(crate) alone: bool,
}

#[derive(Debug)]
struct Foreign {
    certificate: CertificateDer<'static>,
    since: Timestamp,
    /// It was taken out, so if it is there again somebody needs it: two replicas must not write in turns.
    taken_out: bool,
}

impl Overlap {
    /// The bundle to write, in PEM, given the one that is there and this replica's own. Where nothing has to change, what is
    /// there comes back as it is.
    pub(crate) fn merge(&mut self, there: &[u8], own: &[u8], moment: Moment) -> Vec<u8> {
        // Without an own authority somebody else takes care of the bundle: cert-manager does it, for one.
        let own = match x509::split(own) {
            Ok(own) if !own.is_empty() => own,
            _ => return there.to_vec(),
        };
        // One that cannot be read is no bundle, and API servers trust nobody by it.
        let found = x509::split(there).unwrap_or_default();
        let others: Vec<CertificateDer<'static>> =
            found.iter().filter(|certificate| !own.contains(certificate)).cloned().collect();
        self.0.retain(|foreign| foreign.taken_out || others.contains(&foreign.certificate));
        let room = AUTHORITIES_MAX.saturating_sub(own.len());
        let kept: Vec<CertificateDer<'static>> =
            others.into_iter().filter(|other| self.keeps(other, moment)).take(room).collect();
        let wanted = || own.iter().chain(&kept);
        let same = found.len() == own.len() + kept.len() && wanted().all(|one| found.contains(one));
        if same { there.to_vec() } else { x509::pem(wanted()).into_bytes() }
    }

    fn keeps(&mut self, other: &CertificateDer<'static>, moment: Moment) -> bool {
        let Moment { steady, wall, alone } = moment;
        if x509::facts(other).is_ok_and(|facts| facts.valid.1 < wall) {
            return false;
        }
        if let Some(foreign) = self.0.iter_mut().find(|foreign| foreign.certificate == *other) {
            let stays = alone || foreign.taken_out || steady.duration_since(foreign.since) < OVERLAP;
            foreign.taken_out = !stays || foreign.taken_out;
            return stays;
        }
        // As many as fit into a bundle are remembered several times over; beyond that somebody makes up authorities.
        if self.0.len() >= 8 * AUTHORITIES_MAX {
            return false;
        }
        self.0.push(Foreign { certificate: other.clone(), since: steady, taken_out: false });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::kept::Content;

    fn authority(now: Timestamp) -> Vec<u8> {
        Content::new(&["localhost".to_owned()], now).unwrap().bundle()
    }

    fn at(minutes: i64, wall: Timestamp) -> Moment {
        let steady = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        Moment { steady, wall, alone: false }
    }

    #[test]
    fn an_authority_of_others_stays_for_an_hour() {
        let wall = vpa_runtime::clock::wall();
        let (own, other) = (authority(wall), authority(wall));
        let mut overlap = Overlap::default();
        let both = overlap.merge(&other, &own, at(0, wall));
        assert_eq!(x509::split(&both).unwrap().len(), 2);
        assert_eq!(overlap.merge(&both, &own, at(59, wall)), both, "nothing to write");
        assert_eq!(overlap.merge(&both, &own, at(60, wall)), own);
        assert_eq!(overlap.merge(&both, &own, at(61, wall)), both, "who put it back needs it");
        assert_eq!(overlap.merge(&both, &own, at(300, wall)), both);
    }

    #[test]
    fn the_order_is_no_difference() {
        let wall = vpa_runtime::clock::wall();
        let (a, b) = (authority(wall), authority(wall));
        let (ab, ba) = ([a.clone(), b.clone()].concat(), [b.clone(), a].concat());
        assert_eq!(Overlap::default().merge(&ab, &ba, at(0, wall)), ab);
        assert_eq!(Overlap::default().merge(&ab, &b, at(0, wall)), ab);
    }

    #[test]
    fn what_is_no_use_goes_at_once() {
        let wall = vpa_runtime::clock::wall();
        let (own, old) = (authority(wall), authority(wall - SignedDuration::from_hours(6 * 365 * 24)));
        for there in [old, b"-----BEGIN CERTIFICATE-----\nno".to_vec(), b"no".to_vec(), Vec::new()] {
            assert_eq!(Overlap::default().merge(&there, &own, at(0, wall)), own);
        }
    }

    #[test]
    fn without_an_own_authority_the_bundle_is_left_alone() {
        let there = authority(vpa_runtime::clock::wall());
        for own in [&b""[..], b"no"] {
            let wall = vpa_runtime::clock::wall();
            assert_eq!(Overlap::default().merge(&there, own, at(0, wall)), there);
        }
    }

    #[test]
    fn replicas_with_their_own_authorities_do_not_write_in_turns() {
        let wall = vpa_runtime::clock::wall();
        // `alone`, each joins once and no more is written. Else (each with files of its own) each takes each of the others
        // out at most once.
        for (alone, most) in [(true, 6), (false, 6 + 2 * 6 * 5)] {
            let mut replicas: Vec<(Vec<u8>, Overlap)> =
                (0..6).map(|_| (authority(wall), Overlap::default())).collect();
            let (mut there, mut writes) = (Vec::new(), 0);
            for minute in 0..200 {
                for (own, overlap) in &mut replicas {
                    let wanted = overlap.merge(&there, own, Moment { alone, ..at(minute, wall) });
                    writes += usize::from(wanted != there);
                    there = wanted;
                }
            }
            assert_eq!(x509::split(&there).unwrap().len(), 6);
            assert!(writes <= most, "{writes} writes, alone: {alone}");
        }
    }

    #[test]
    fn authorities_do_not_pile_up() {
        let wall = vpa_runtime::clock::wall();
        let mut there = Vec::new();
        let mut overlap = Overlap::default();
        for minute in 0..20 {
            let own = authority(wall);
            there = overlap.merge(&there, &own, at(minute, wall));
            let bundle = x509::split(&there).unwrap();
            assert!(bundle.len() <= AUTHORITIES_MAX && bundle.contains(&x509::split(&own).unwrap()[0]));
        }
    }
}
