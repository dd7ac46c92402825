use std::collections::VecDeque;

use super::*;
use crate::certificates::issue::{AUTHORITY_LIFE, LEAF_LIFE};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn start() -> Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Made at the start, for the names of a service.
fn content() -> Content {
    Content::new(&names(&["vpa-webhook.kube-system.svc", "10.0.0.1"]), start()).unwrap()
}

/// In the midst of a change of the authority.
fn announced(at: Timestamp) -> Content {
    Content { next: Some(issue::authority(at).unwrap()), ..content() }
}

/// What is decided about this content, after a way through the Secret, so many days after the start.
fn decided(content: &Content, days: i64, next_trusted: bool) -> Step {
    decided_for(content, days, next_trusted, &["vpa-webhook.kube-system.svc"])
}

fn decided_for(content: &Content, days: i64, next_trusted: bool, wanted: &[&str]) -> Step {
    let found = read(&content.data());
    decide(&found, &Situation { now: start() + DAY * as_i32(days), names: &names(wanted), next_trusted })
}

fn as_i32(days: i64) -> i32 {
    i32::try_from(days).unwrap()
}

fn kind(step: &Step) -> &'static str {
    match step {
        Step::Keep => "keep",
        Step::RenewLeaf(_) => "renew",
        Step::Announce => "announce",
        Step::Switch(_) => "switch",
        Step::Retire => "retire",
        Step::Replace(_) => "replace",
    }
}

#[test]
fn what_was_written_is_read_as_it_was() {
    for content in [content(), announced(start())] {
        assert_eq!(read(&content.data()).whole().unwrap(), content);
    }
    let switched = {
        let found = read(&announced(start()).data());
        let situation = Situation { now: start(), names: &names(&["a"]), next_trusted: true };
        carry_out(&Step::Switch(String::new()), found, None, &situation).unwrap()
    };
    assert_eq!(switched.previous.len(), 1);
    assert_eq!(read(&switched.data()).whole().unwrap(), switched);
}

#[test]
fn each_moment_has_its_step() {
    let fresh = content();
    // A certificate that was renewed shortly before, by an authority of that age.
    let renewed = |days: i64| {
        let leaf = fresh.authority.sign(&fresh.leaf.names, start() + DAY * as_i32(days)).unwrap();
        Content { leaf, ..content_with(&fresh) }
    };
    let late = |days: i64, next: Option<i64>| {
        let next = next.map(|made| issue::authority(start() + DAY * as_i32(made)).unwrap());
        Content { next, ..renewed(days) }
    };
    let end = AUTHORITY_LIFE.as_hours() / 24;
    for (what, content, days, next_trusted, step) in [
        ("new", content(), 0, false, "keep"),
        ("two thirds of the certificate are left", content(), 30, false, "keep"),
        ("a little more than a third", content(), 58, false, "keep"),
        ("a third", content(), 60, false, "renew"),
        ("none", content(), 91, false, "renew"),
        ("two fifths of the authority", late(1000, None), 1001, false, "keep"),
        ("a third of the authority", late(1217, None), 1218, false, "announce"),
        ("announced", late(1217, Some(1217)), 1218, false, "keep"),
        ("announced and trusted", late(1217, Some(1217)), 1218, true, "switch"),
        ("announced long ago", late(end - 40, Some(1217)), end - 31, false, "keep"),
        ("the last call", late(end - 40, Some(1217)), end - 30, false, "switch"),
        ("the end of the authority, announced", late(end - 40, Some(1217)), end, false, "switch"),
        ("the end of the authority, not announced", late(end - 10, None), end, false, "replace"),
        ("the next one ended as well", late(end - 40, Some(0)), end + 1, true, "replace"),
    ] {
        let found = decided(&content, days, next_trusted);
        assert_eq!(kind(&found), step, "{what}: {found:?}");
    }
}

fn content_with(content: &Content) -> Content {
    content.clone()
}

#[test]
fn the_authority_before_stays_for_a_day() {
    let now = start() + DAY * 5;
    let situation = Situation { now, names: &names(&["a"]), next_trusted: true };
    let switched =
        carry_out(&Step::Switch(String::new()), read(&announced(start()).data()), None, &situation).unwrap();
    assert!(!switched.data().contains_key(NEXT_KEY), "the old key is gone, the new one is in its place");
    for (hours, step) in [(0, "keep"), (23, "keep"), (24, "retire")] {
        let now = now + SignedDuration::from_hours(hours);
        let found = decide(&read(&switched.data()), &Situation { now, ..situation });
        assert_eq!(kind(&found), step, "after {hours} h");
    }
    let found = read(&switched.data());
    let retired = carry_out(&Step::Retire, found, None, &situation).unwrap();
    assert_eq!(retired.bundle(), x509::pem([&switched.authority.certificate]).into_bytes());
}

#[test]
fn other_names_ask_for_another_certificate() {
    for (wanted, step) in [
        (&["vpa-webhook.kube-system.svc"][..], "keep"),
        (&["10.0.0.1", "VPA-Webhook.kube-system.svc"], "keep"),
        (&["vpa-webhook.kube-system.svc", "other.kube-system.svc"], "renew"),
        (&["10.0.0.2"], "renew"),
        (&["::1"], "renew"),
    ] {
        let found = decided_for(&content(), 1, false, wanted);
        assert_eq!(kind(&found), step, "{wanted:?}: {found:?}");
    }
}

#[test]
fn replicas_that_want_different_names_agree() {
    let wishes = [names(&["a.svc", "127.0.0.1"]), names(&["b.svc"])];
    let mut content = content();
    let mut writes = 0;
    for _ in 0..5 {
        for names in &wishes {
            let situation = Situation { now: start() + DAY, names, next_trusted: false };
            let found = read(&content.data());
            let step = decide(&found, &situation);
            if step != Step::Keep {
                content = carry_out(&step, found, None, &situation).unwrap();
                writes += 1;
            }
        }
    }
    assert_eq!(writes, 2);
    // And with the next renewal what nobody wants any more is gone.
    let situation = Situation { now: start() + DAY * 70, names: &wishes[1], next_trusted: false };
    let found = read(&content.data());
    let renewed = carry_out(&decide(&found, &situation), found, None, &situation).unwrap();
    assert_eq!(renewed.leaf.names, wishes[1]);
}

#[test]
fn damage_is_named_and_no_more_is_made_anew_than_has_to_be() {
    let set = |key: &str, value: &str| {
        let mut data = announced(start()).data();
        data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
        data
    };
    let without = |key: &str| {
        let mut data = announced(start()).data();
        data.remove(key);
        data
    };
    let other = content();
    let text = |key: &str| String::from_utf8(other.data()[key].0.clone()).unwrap();
    let of_leaf = {
        let mut data = content().data();
        data.insert(BUNDLE.to_owned(), data[LEAF].clone());
        data.insert(AUTHORITY_KEY.to_owned(), data[LEAF_KEY].clone());
        data
    };
    for (data, step, named) in [
        (BTreeMap::new(), "replace", "ca.crt is missing"),
        (without(BUNDLE), "replace", "ca.crt is missing"),
        (set(BUNDLE, "x"), "replace", "ca.crt: "),
        (
            set(BUNDLE, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "replace",
            "ca.crt: not a certificate",
        ),
        (set(BUNDLE, &text(BUNDLE)), "replace", "ca.crt: holds no certificate of ca.key"),
        (without(AUTHORITY_KEY), "replace", "ca.key is missing"),
        (set(AUTHORITY_KEY, "x"), "replace", "ca.key: "),
        (set(AUTHORITY_KEY, &text(AUTHORITY_KEY)), "replace", "ca.key"),
        (of_leaf, "replace", "not one of an authority"),
        (without(LEAF), "renew", "tls.crt is missing"),
        (set(LEAF, ""), "renew", "tls.crt: holds no certificate"),
        (set(LEAF, "x"), "renew", "tls.crt: "),
        (set(LEAF, &text(LEAF)), "renew", "tls.key: not the key"),
        (set(LEAF_KEY, "x"), "renew", "tls.key: "),
        (without(LEAF_KEY), "renew", "tls.key is missing"),
        // Of no use, so its certificate goes; another is announced when the time comes.
        (set(NEXT_KEY, "x"), "retire", ""),
        (without(NEXT_KEY), "retire", ""),
    ] {
        let found = read(&data);
        let situation = Situation {
            now: start() + DAY,
            names: &names(&["vpa-webhook.kube-system.svc"]),
            next_trusted: false,
        };
        let decided = decide(&found, &situation);
        let text = match &decided {
            Step::RenewLeaf(text) | Step::Replace(text) => text.as_str(),
            _ => "",
        };
        assert!(kind(&decided) == step && text.contains(named), "{named}: {decided:?}");
        let mended = carry_out(&decided, found, None, &situation).unwrap();
        assert_eq!(decide(&read(&mended.data()), &situation), Step::Keep, "{named}");
        let same = mended.authority == announced_authority(&data, &mended);
        assert_eq!(same, step != "replace", "{named}");
    }
    let mut both = content().data();
    both.insert(LEAF.to_owned(), other.data()[LEAF].clone());
    both.insert(LEAF_KEY.to_owned(), other.data()[LEAF_KEY].clone());
    let found = decide(&read(&both), &Situation { now: start(), names: &[], next_trusted: false });
    assert!(matches!(&found, Step::RenewLeaf(why) if why.contains("not signed by")), "{found:?}");
}

/// The authority that was there, or anything else where there was none.
fn announced_authority(data: &BTreeMap<String, ByteString>, other: &Content) -> Authority {
    read(data)
        .authority
        .unwrap_or_else(|_| Authority { key: PrivateKey(String::new()), ..other.authority.clone() })
}

#[test]
fn what_is_replaced_while_it_is_served_goes_on_being_trusted() {
    let held = content();
    let situation = Situation { now: start() + DAY, names: &held.leaf.names, next_trusted: false };
    let step = Step::Replace(String::new());
    let anew = carry_out(&step, Found::nothing(), Some(&held), &situation).unwrap();
    assert_eq!((&anew.authority, &anew.leaf), (&held.authority, &held.leaf));
    assert!(anew.next.is_some(), "and another authority follows");
    let ended = Situation { now: start() + DAY * 100, ..situation };
    let anew = carry_out(&step, Found::nothing(), Some(&held), &ended).unwrap();
    assert_ne!(anew.authority, held.authority);
}

/// Fifteen years, hour by hour, with replicas that see the Secret late, and a webhook configuration that is written late and
/// reaches API servers late: what any replica serves is trusted by any API server.
#[test]
fn over_the_years_what_is_served_is_trusted() {
    /// Hours that replicas and API servers are behind. Longer than in truth, where it is seconds.
    const BEHIND: usize = 3;
    let names = names(&["vpa-webhook.kube-system.svc"]);
    let mut content = Content::new(&names, start()).unwrap();
    let mut secrets = VecDeque::from(vec![content.clone(); BEHIND]);
    let mut bundles = VecDeque::from(vec![content.bundle(); BEHIND]);
    let mut trusted_since: Option<(CertificateDer<'static>, Timestamp)> = None;
    let mut steps = BTreeMap::<&str, u32>::new();
    // Trust is checked when something has changed.
    let mut checked = None;
    for hour in 0..15 * 365 * 24 {
        let now = start() + SignedDuration::from_hours(hour);
        let next = content.next.as_ref().map(|next| next.certificate.clone());
        if trusted_since.as_ref().map(|(certificate, _)| certificate) != next.as_ref() {
            trusted_since = next.map(|next| (next, now));
        }
        let next_trusted = trusted_since.as_ref().is_some_and(|(_, since)| {
            now.duration_since(*since) >= SignedDuration::from_hours(i64::try_from(2 * BEHIND).unwrap())
        });
        let found = Found::from(content.clone());
        let situation = Situation { now, names: &names, next_trusted };
        let step = decide(&found, &situation);
        if step != Step::Keep {
            *steps.entry(kind(&step)).or_default() += 1;
            content = carry_out(&step, found, None, &situation).unwrap();
        }
        secrets.push_back(content.clone());
        bundles.push_back(content.bundle());
        let late = secrets.pop_front().unwrap();
        let late_bundle = bundles.pop_front().unwrap();
        for served in [&late.leaf, &content.leaf] {
            assert!(served.valid.0 <= now && now < served.valid.1, "hour {hour}");
        }
        let state =
            (late.leaf.chain[0].clone(), content.leaf.chain[0].clone(), late_bundle, content.bundle());
        if checked.as_ref() == Some(&state) {
            continue;
        }
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap()));
        let name = ServerName::try_from(names[0].clone()).unwrap();
        for bundle in [&state.2, &state.3] {
            let trust = Trust::new(x509::split(bundle).unwrap());
            for leaf in [&state.0, &state.1] {
                trust.check(leaf, &[], &name, time).unwrap_or_else(|error| panic!("hour {hour}: {error}"));
            }
        }
        checked = Some(state);
    }
    let count = |step: &str| steps.get(step).copied().unwrap_or_default();
    assert_eq!(
        (count("announce"), count("switch"), count("retire"), count("replace")),
        (4, 4, 4, 0),
        "{steps:?}"
    );
    let renewals = 15 * 365 * 24 / (LEAF_LIFE.as_hours() * 2 / 3);
    assert!(u64::from(count("renew")).abs_diff(renewals.unsigned_abs()) < 8, "{steps:?}");
}
