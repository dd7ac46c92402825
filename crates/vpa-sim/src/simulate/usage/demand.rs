//! What a container would use at a moment if nothing held it back. A pure function of profile, identity and time.

use super::profile::{Profile, Shape};
use crate::simulate::amounts::Amounts;

/// Where in its life a container is; seconds of simulated time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Since the simulation's time zero.
    pub now_seconds: f64,
    /// Since the container started.
    pub age_seconds: f64,
}

/// The amounts that `profile` asks for. `identity` tells containers of one profile apart: it decides the jitter only.
pub fn demand(profile: &Profile, identity: u64, moment: Moment) -> Amounts {
    let (mut cpu, mut memory) = (profile.cpu_millis.0, profile.memory_bytes.0);
    let between = |(low, high): (f64, f64), share: f64| low + (high - low) * share;
    match profile.shape {
        Shape::Steady => {}
        Shape::Wave { period_seconds, phase } => {
            let turn = moment.now_seconds / period_seconds + phase;
            let share = (1.0 - (turn * std::f64::consts::TAU).cos()) / 2.0;
            cpu = between(profile.cpu_millis, share);
            memory = between(profile.memory_bytes, share);
        }
        Shape::Burst { period_seconds, busy_seconds, phase } => {
            let share = (moment.now_seconds / period_seconds + phase).rem_euclid(1.0);
            if share * period_seconds < busy_seconds {
                cpu = profile.cpu_millis.1;
                memory = profile.memory_bytes.1;
            }
        }
        Shape::Ramp { over_seconds } => {
            memory = between(profile.memory_bytes, (moment.age_seconds / over_seconds).clamp(0.0, 1.0));
        }
        Shape::SlowStart { start_cpu_millis, for_seconds } => {
            if moment.age_seconds < for_seconds {
                cpu = start_cpu_millis;
            }
        }
    }
    let second = moment.now_seconds.floor() as i64 as u64;
    Amounts {
        cpu_millis: varied(cpu, profile.jitter, mix(identity, second)),
        memory_bytes: varied(memory, profile.jitter, mix(identity, second ^ 0x5bd1_e995)),
    }
}

/// `amount` changed by at most `jitter` of itself, by the random bits `noise`.
fn varied(amount: f64, jitter: f64, noise: u64) -> i64 {
    let unit = (noise >> 11) as f64 / (1u64 << 53) as f64;
    (amount * (1.0 + jitter * (2.0 * unit - 1.0))).round().max(0.0) as i64
}

/// Two numbers into one with every bit depending on every bit (the finalizer of SplitMix64).
pub(crate) fn mix(one: u64, other: u64) -> u64 {
    let mut bits = one ^ other.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// FNV-1a: a hash that is the same in every run and build, unlike that of the standard library.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI: f64 = 1024.0 * 1024.0;

    fn at(profile: &str, now_seconds: f64, age_seconds: f64) -> (i64, i64) {
        let profile = Profile::parse(&format!("{profile} jitter=0")).unwrap();
        let amounts = demand(&profile, 7, Moment { now_seconds, age_seconds });
        (amounts.cpu_millis, (amounts.memory_bytes as f64 / MI).round() as i64)
    }

    #[test]
    fn shapes() {
        let wave = "wave cpu=100m..300m memory=100Mi..200Mi period=60s";
        let burst = "burst cpu=10m..900m memory=50Mi..400Mi period=30s busy=5s";
        let leak = "leak cpu=50m memory=100Mi..500Mi over=100s";
        let start = "slow-start cpu=50m memory=64Mi start-cpu=2 for=20s";
        let cases = [
            ("steady cpu=100m memory=64Mi", 1e9, 5.0, (100, 64)),
            (wave, 0.0, 0.0, (100, 100)),
            (wave, 15.0, 0.0, (200, 150)),
            (wave, 30.0, 0.0, (300, 200)),
            (wave, 60.0, 0.0, (100, 100)),
            (burst, 4.9, 0.0, (900, 400)),
            (burst, 5.1, 0.0, (10, 50)),
            (burst, 31.0, 0.0, (900, 400)),
            (leak, 9.0, 0.0, (50, 100)),
            (leak, 9.0, 50.0, (50, 300)),
            (leak, 9.0, 1e6, (50, 500)),
            (leak, 9.0, -3.0, (50, 100)),
            (start, 9.0, 19.0, (2000, 64)),
            (start, 9.0, 21.0, (50, 64)),
        ];
        for (profile, now, age, expected) in cases {
            assert_eq!(at(profile, now, age), expected, "{profile} now={now} age={age}");
        }
    }

    #[test]
    fn jitter_is_bounded_repeatable_and_differs_between_pods() {
        let profile = Profile::parse("steady cpu=1 memory=1G jitter=0.1").unwrap();
        let of = |identity, now_seconds| demand(&profile, identity, Moment { now_seconds, age_seconds: 0.0 });
        let values: Vec<i64> = (0..500).map(|second| of(1, f64::from(second)).cpu_millis).collect();
        assert!(values.iter().all(|value| (900..=1100).contains(value)), "{values:?}");
        assert!(
            values.iter().any(|value| *value < 940) && values.iter().any(|value| *value > 1060),
            "{values:?}"
        );
        assert_eq!(of(1, 3.0), of(1, 3.9), "one value a second");
        assert_eq!(of(1, 3.0), of(1, 3.0));
        assert_ne!(of(1, 3.0), of(2, 3.0));
    }
}
