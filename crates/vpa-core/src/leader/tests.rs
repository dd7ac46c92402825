use super::*;

fn at(seconds: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH
        .checked_add(SignedDuration::try_from_secs_f64(1_000_000.0 + seconds).unwrap())
        .unwrap()
}

fn contender(name: &str) -> Contender {
    Contender::new(name, Settings::default())
}

fn held_by(holder: &str, version: u64) -> Record {
    Record {
        holder: holder.into(),
        duration_seconds: 15,
        acquired: Some(at(-100.0)),
        renewed: Some(at(-100.0)),
        transitions: 3,
        resource_version: version.to_string(),
    }
}

/// What a step came to, short.
fn short(step: &Step) -> String {
    match step {
        Step::Create(record) => format!("create {} t{}", record.holder, record.transitions),
        Step::Replace(record) => {
            format!("replace v{} {} t{}", record.resource_version, record.holder, record.transitions)
        }
        Step::Follow { holder, free_at } => {
            format!("follow {holder} for {:.0}", free_at.duration_since(at(0.0)).as_secs_f64())
        }
    }
}

#[test]
fn a_contender_decides_as_client_go_does() {
    let gone = |mut record: Record| {
        record.holder.clear();
        record
    };
    let odd = |seconds: i32| Record { duration_seconds: seconds, ..held_by("b", 7) };
    // What is read at which second, and what comes of it.
    type Reading = (f64, Option<Record>, &'static str);
    let cases: Vec<(&str, Vec<Reading>)> = vec![
        ("no lease", vec![(0.0, None, "create a t0")]),
        ("released", vec![(0.0, Some(gone(held_by("b", 7))), "replace v7 a t4")]),
        (
            "held: its age by its own clock does not count, only how long it stays the same",
            vec![
                (0.0, Some(held_by("b", 7)), "follow b for 15"),
                (14.9, Some(held_by("b", 7)), "follow b for 15"),
                (15.0, Some(held_by("b", 7)), "replace v7 a t4"),
            ],
        ),
        (
            "renewed in between",
            vec![
                (0.0, Some(held_by("b", 7)), "follow b for 15"),
                (10.0, Some(held_by("b", 8)), "follow b for 25"),
                (24.0, Some(held_by("b", 8)), "follow b for 25"),
                (26.0, Some(held_by("c", 9)), "follow c for 41"),
            ],
        ),
        (
            "deleted in between",
            vec![(0.0, Some(held_by("b", 7)), "follow b for 15"), (1.0, None, "create a t0")],
        ),
        (
            "its own from before a restart of the same identity",
            vec![(0.0, Some(held_by("a", 7)), "replace v7 a t3")],
        ),
        (
            "asks for longer",
            vec![(0.0, Some(odd(60)), "follow b for 60"), (59.0, Some(odd(60)), "follow b for 60")],
        ),
        (
            "no duration",
            vec![(0.0, Some(odd(0)), "follow b for 15"), (15.0, Some(odd(0)), "replace v7 a t4")],
        ),
        ("negative duration", vec![(0.0, Some(odd(-5)), "follow b for 15")]),
        (
            "no end of transitions",
            vec![(
                0.0,
                Some(Record { holder: String::new(), transitions: i32::MAX, ..odd(1) }),
                "replace v7 a t2147483647",
            )],
        ),
    ];
    for (name, readings) in cases {
        let mut contender = contender("a");
        for (second, found, want) in readings {
            let step = contender.step(found, at(second), at(second));
            assert_eq!(short(&step), want, "{name}, at {second} s");
            assert!(!contender.leads(at(second)), "{name}: a step alone is no leadership");
        }
    }
}

#[test]
fn a_leader_leads_from_what_it_sent_until_the_renew_deadline() {
    let mut a = contender("a");
    let Step::Create(record) = a.step(None, at(0.0), at(0.0)) else { panic!("no lease to create") };
    assert_eq!(
        (record.duration_seconds, record.acquired, record.renewed),
        (15, Some(at(0.0)), Some(at(0.0)))
    );
    a.on_written(Record { resource_version: "1".into(), ..record.clone() }, at(0.0));
    assert!(a.leads(at(9.9)) && !a.leads(at(10.0)));
    let stored = Record { resource_version: "1".into(), ..record };
    let Step::Replace(renewal) = a.step(Some(stored), at(2.0), at(2.0)) else { panic!("no lease to renew") };
    assert_eq!((renewal.acquired, renewal.renewed, renewal.transitions), (Some(at(0.0)), Some(at(2.0)), 0));
    a.on_written(Record { resource_version: "2".into(), ..renewal }, at(2.0));
    assert!(a.leads(at(11.9)) && !a.leads(at(12.0)));
    a.step_down();
    assert!(!a.leads(at(3.0)));
}

#[test]
fn a_release_frees_the_lease_at_once() {
    let mut a = contender("a");
    assert_eq!(a.release(at(0.0)), None, "nothing to release");
    a.step(None, at(0.0), at(0.0));
    a.on_written(held_by("a", 1), at(0.0));
    let released = a.release(at(1.0)).unwrap();
    assert_eq!((released.holder.as_str(), released.duration_seconds, released.transitions), ("", 1, 3));
    assert_eq!(released.resource_version, "1");
    assert!(!a.leads(at(1.0)));
    assert_eq!(a.release(at(1.0)), None);
    let step =
        contender("b").step(Some(Record { resource_version: "2".into(), ..released }), at(1.1), at(1.1));
    assert_eq!(short(&step), "replace v2 b t4");
}

#[test]
fn times_that_leave_no_room_are_refused() {
    let settings = |lease, renew, retry| Settings {
        lease_duration: Duration::from_millis(lease),
        renew_deadline: Duration::from_millis(renew),
        retry_period: Duration::from_millis(retry),
    };
    let cases = [
        (settings(15_000, 10_000, 2_000), Ok(())),
        (settings(999, 500, 100), Err(SettingsError::LeaseDuration)),
        (settings(10_000, 10_000, 2_000), Err(SettingsError::RenewDeadline)),
        (settings(1_900, 1_500, 100), Err(SettingsError::RenewDeadline)),
        (settings(15_000, 10_000, 9_000), Err(SettingsError::RetryPeriod)),
        (settings(15_000, 10_000, 0), Err(SettingsError::RetryPeriod)),
        (settings(15_000, 10_000, 8_000), Ok(())),
    ];
    for (settings, want) in cases {
        assert_eq!(settings.validate(), want, "{settings:?}");
    }
}

#[test]
fn a_heartbeat_is_judged_by_its_changes() {
    let mut heartbeat = Heartbeat::new();
    let age = |heartbeat: &mut Heartbeat, renewed: Option<f64>, now: f64| {
        heartbeat.observe(renewed.map(at), at(now), at(now)).as_secs_f64()
    };
    assert_eq!(age(&mut heartbeat, Some(-30.0), 0.0), 30.0, "the first look goes by its time");
    assert_eq!(age(&mut heartbeat, Some(-30.0), 10.0), 40.0);
    assert_eq!(age(&mut heartbeat, Some(-25.0), 11.0), 0.0, "a change is a beat, whatever its clock says");
    assert_eq!(age(&mut heartbeat, Some(-25.0), 21.0), 10.0);
    heartbeat.gone();
    assert_eq!(age(&mut heartbeat, Some(1_000.0), 22.0), 0.0, "a time to come is no age");
    assert_eq!(age(&mut heartbeat, Some(1_000.0), 90.0), 68.0, "and does not keep a dead program alive");
    heartbeat.gone();
    assert!(age(&mut heartbeat, None, 91.0) > 1e9, "never renewed");
}

/// An API server's lease, with optimistic locking.
#[derive(Default)]
struct Server {
    lease: Option<Record>,
    version: u64,
}

impl Server {
    fn write(&mut self, record: Record, create: bool) -> Option<Record> {
        let matches = match &self.lease {
            None => create,
            Some(held) => !create && held.resource_version == record.resource_version,
        };
        if !matches {
            return None;
        }
        self.version += 1;
        let stored = Record { resource_version: self.version.to_string(), ..record };
        self.lease = Some(stored.clone());
        Some(stored)
    }
}

/// What happens to a contender next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// It tries; the answer takes so many milliseconds, and is lost on its way back or not.
    Try { delay_ms: u32, lost: bool },
    /// It hangs (a stopped process, a slow disk) for so many milliseconds.
    Hang { ms: u32 },
    /// It gives leadership up, if it has it.
    Release,
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn events() -> impl Strategy<Value = Vec<(bool, Event)>> {
        let event = prop_oneof![
            8 => (0u32..4_000, prop::bool::weighted(0.2)).prop_map(|(delay_ms, lost)| Event::Try { delay_ms, lost }),
            2 => (0u32..40_000).prop_map(|ms| Event::Hang { ms }),
            1 => Just(Event::Release),
        ];
        prop::collection::vec((any::<bool>(), event), 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Two contenders with clocks of their own zero and of rates up to 10 % apart: never both lead, in true time.
        #[test]
        fn two_never_lead_at_once(events in events(), offset in -1e6f64..1e6, rate in 0.9f64..1.1) {
            let mut server = Server::default();
            let mut contenders = [contender("a"), contender("b")];
            let local = |who: usize, truth: f64| if who == 0 { at(truth) } else { at(truth * rate + offset) };
            let mut free_from = [0.0f64; 2];
            let mut truth = 0.0f64;
            for (second, event) in events {
                let who = usize::from(second);
                // A contender does one thing at a time; the other one goes on meanwhile.
                truth = (truth + 0.05).max(free_from[who].min(truth + 3.0));
                if free_from[who] > truth {
                    continue;
                }
                match event {
                    Event::Hang { ms } => free_from[who] = truth + f64::from(ms) / 1e3,
                    Event::Release => {
                        if let Some(record) = contenders[who].release(local(who, truth)) {
                            server.write(record, false);
                        }
                    }
                    Event::Try { delay_ms, lost } => {
                        let sent = local(who, truth);
                        let step = contenders[who].step(server.lease.clone(), sent, sent);
                        let stored = match step {
                            Step::Create(record) => server.write(record, true),
                            Step::Replace(record) => server.write(record, false),
                            Step::Follow { holder, .. } => {
                                prop_assert_ne!(holder, contenders[who].identity());
                                contenders[who].step_down();
                                None
                            }
                        };
                        free_from[who] = truth + f64::from(delay_ms) / 1e3;
                        if let Some(stored) = stored && !lost {
                            contenders[who].on_written(stored, sent);
                        }
                    }
                }
                for ahead in [0.0, 0.5, 2.0, 5.0, 9.0] {
                    let moment = truth + ahead;
                    let leading: Vec<bool> =
                        (0..2).map(|who| contenders[who].leads(local(who, moment))).collect();
                    prop_assert!(leading != [true, true], "both lead at {moment}");
                }
            }
        }

        /// With one contender that keeps trying, leadership is had within the lease duration and two tries.
        #[test]
        fn a_lease_left_behind_is_taken_in_time(duration in 1i32..60, start in 0.0f64..1e6) {
            let mut server = Server::default();
            server.write(Record { duration_seconds: duration, ..held_by("dead", 0) }, true);
            let mut a = contender("a");
            let mut now = start;
            let until = start + f64::from(duration) + 4.0;
            while now <= until && !a.leads(at(now)) {
                match a.step(server.lease.clone(), at(now), at(now)) {
                    Step::Create(record) | Step::Replace(record) => {
                        if let Some(stored) = server.write(record, false) {
                            a.on_written(stored, at(now));
                        }
                    }
                    Step::Follow { .. } => {}
                }
                now += 2.0;
            }
            prop_assert!(a.leads(at(now.min(until))), "not led after {} s", now - start);
        }
    }
}
