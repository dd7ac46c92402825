use super::*;

fn at(seconds: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH.checked_add(SignedDuration::try_from_secs_f64(1e9 + seconds).unwrap()).unwrap()
}

/// What each try at a second came to: `None` for a token, else the second at which there is one.
fn tries(limiter: &mut Limiter, seconds: &[f64]) -> Vec<Option<f64>> {
    let second = |time: Timestamp| (time.duration_since(at(0.0)).as_secs_f64() * 1e3).round() / 1e3;
    seconds.iter().map(|now| limiter.try_take(at(*now)).err().map(second)).collect()
}

#[test]
fn a_burst_goes_at_once_and_then_the_rate() {
    let mut limiter = Limiter::new(2.0, 3).unwrap();
    assert_eq!(
        tries(&mut limiter, &[0.0, 0.0, 0.0, 0.0, 0.4, 0.5, 0.5, 10.0, 10.0, 10.0, 10.0]),
        [None, None, None, Some(0.5), Some(0.5), None, Some(1.0), None, None, None, Some(10.5)]
    );
}

#[test]
fn rates_below_one_a_second() {
    let mut limiter = Limiter::new(0.1, 1).unwrap();
    assert_eq!(
        tries(&mut limiter, &[0.0, 0.0, 9.9, 10.0, 10.0]),
        [None, Some(10.0), Some(10.0), None, Some(20.0)]
    );
    let mut hourly = Limiter::new(1.0 / 3600.0, 1).unwrap();
    assert_eq!(tries(&mut hourly, &[0.0, 1.0]), [None, Some(3600.0)]);
}

#[test]
fn the_time_it_names_is_enough_and_later_than_now() {
    for rate in [0.013, 0.37, 1.0, 3.0, 7.7, 1e3, 333_333.0, 9.9e8] {
        let mut limiter = Limiter::new(rate, 1).unwrap();
        let mut now = at(0.0);
        for step in 0..200 {
            match limiter.try_take(now) {
                Ok(()) => {}
                Err(next) => {
                    assert!(next > now, "rate {rate}, step {step}");
                    now = next;
                    assert_eq!(limiter.try_take(now), Ok(()), "rate {rate}, step {step}");
                }
            }
        }
        // As many as the rate allows, to a nanosecond a token.
        let passed = now.duration_since(at(0.0)).as_secs_f64();
        assert!(passed >= 99.0 / rate * 0.999 - 1e-6, "rate {rate}: too fast, {passed} s");
    }
}

#[test]
fn time_does_not_run_backwards() {
    let mut limiter = Limiter::new(1.0, 1).unwrap();
    assert_eq!(tries(&mut limiter, &[100.0, 0.0]).first(), Some(&None));
    assert!(limiter.try_take(at(50.0)).is_err());
    assert_eq!(limiter.try_take(at(101.0)), Ok(()));
}

#[test]
fn no_limit() {
    for rate in [0.0, -1.0, 1e9, f64::INFINITY, f64::NEG_INFINITY] {
        let mut limiter = Limiter::new(rate, 0).unwrap();
        assert!(!limiter.is_limited());
        assert!(tries(&mut limiter, &[0.0; 1000]).iter().all(Option::is_none));
    }
}

#[test]
fn what_cannot_be_kept_is_refused() {
    assert_eq!(Limiter::new(1.0, 0).unwrap_err(), RateError::Burst(1.0));
    assert!(matches!(Limiter::new(f64::NAN, 1), Err(RateError::Rate(_))));
    for rate in [1e-9, 1e-300, f64::MIN_POSITIVE] {
        assert_eq!(Limiter::new(rate, 1).unwrap_err(), RateError::Rate(rate));
    }
    // The deepest bucket at the slowest rate neither overflows nor stops.
    let mut slow = Limiter::new(1e-8, u32::MAX).unwrap();
    assert_eq!(tries(&mut slow, &[0.0, 1.0]), [None, None]);
    assert!((0..100).any(|_| slow.try_take(at(2.0)).is_err()));
    let far = Timestamp::MAX;
    assert_eq!(slow.try_take(far), Ok(()));
}
