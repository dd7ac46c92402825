//! Elementary functions whose last bit is the same on every platform.
//!
//! Bucket starts and sample weights are products of `pow`, `exp2` and `log`, and a recommendation is cut off to a whole
//! number afterwards, so one wrong last bit can show. The Go suite takes these functions from its language's library,
//! which follows fdlibm (`e_exp.c`, `e_log.c`) and squares repeatedly for powers; a checkpoint has to mean the same in
//! both suites, hence the same algorithms here, whatever libm the program is linked with.

// The constants stand with the digits that fdlibm gives, some more than a number holds.
#![allow(clippy::excessive_precision)]

/// High and low part of ln 2: their sum is ln 2 to more digits than one number holds.
const LN2_HI: f64 = 6.931_471_803_691_238_164_90e-01;
const LN2_LO: f64 = 1.908_214_929_270_587_700_02e-10;

/// `base` to a whole power, by repeated squaring from the lowest bit of the exponent.
pub fn powi(base: f64, exponent: i32) -> f64 {
    let mut result = 1.0;
    let mut square = base;
    let mut rest = exponent.unsigned_abs();
    while rest != 0 {
        if rest & 1 == 1 {
            result *= square;
        }
        square *= square;
        rest >>= 1;
    }
    if exponent < 0 { 1.0 / result } else { result }
}

/// 2 to the power `x`; 0 below the smallest subnormal number, infinite above the largest finite one.
pub fn exp2(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 1_023.999_999_999_999_9 {
        return f64::INFINITY;
    }
    if x < -1074.0 {
        return 0.0;
    }
    // x = r / ln 2 + k with |r| <= ln(2) / 2, and r in two parts for more precision.
    let k = if x > 0.0 {
        (x + 0.5) as i32
    } else if x < 0.0 {
        (x - 0.5) as i32
    } else {
        0
    };
    let t = x - f64::from(k);
    let hi = t * LN2_HI;
    let lo = -t * LN2_LO;
    scale_by_power_of_two(exp_of_small(hi, lo), k)
}

/// e to the power `hi - lo`, for |hi - lo| <= ln(2) / 2.
fn exp_of_small(hi: f64, lo: f64) -> f64 {
    const P1: f64 = 1.666_666_666_666_666_574_15e-01;
    const P2: f64 = -2.777_777_777_701_559_338_42e-03;
    const P3: f64 = 6.613_756_321_437_934_361_17e-05;
    const P4: f64 = -1.653_390_220_546_525_153_90e-06;
    const P5: f64 = 4.138_136_797_057_238_460_39e-08;
    let r = hi - lo;
    let t = r * r;
    let c = r - t * (P1 + t * (P2 + t * (P3 + t * (P4 + t * P5))));
    1.0 - ((lo - (r * c) / (2.0 - c)) - hi)
}

/// Natural logarithm; NaN below zero.
pub fn ln(x: f64) -> f64 {
    const L1: f64 = 6.666_666_666_666_735_130e-01;
    const L2: f64 = 3.999_999_999_940_941_908e-01;
    const L3: f64 = 2.857_142_874_366_239_149e-01;
    const L4: f64 = 2.222_219_843_214_978_396e-01;
    const L5: f64 = 1.818_357_216_161_805_012e-01;
    const L6: f64 = 1.531_383_769_920_937_332e-01;
    const L7: f64 = 1.479_819_860_511_658_591e-01;
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    let (mut fraction, mut exponent) = fraction_and_exponent(x);
    if fraction < std::f64::consts::FRAC_1_SQRT_2 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let f = fraction - 1.0;
    let k = f64::from(exponent);
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let t1 = s2 * (L1 + s4 * (L3 + s4 * (L5 + s4 * L7)));
    let t2 = s4 * (L2 + s4 * (L4 + s4 * L6));
    let r = t1 + t2;
    let half_square = 0.5 * f * f;
    k * LN2_HI - ((half_square - (s * (half_square + r) + k * LN2_LO)) - f)
}

/// `x * 2^k`, rounded once even where the result is subnormal.
pub fn scale_by_power_of_two(x: f64, k: i32) -> f64 {
    // One factor of 2^k is exact in this range; beyond it the product is made of two factors of which the first keeps
    // the intermediate result normal.
    const EXACT: i32 = 1000;
    if k > EXACT {
        x * power_of_two(EXACT) * power_of_two((k - EXACT).min(EXACT))
    } else if k < -EXACT {
        // 2^-1000 first would round twice for results that end up subnormal; x is in [0.5, 4) wherever it matters.
        x * power_of_two(-(EXACT - 200)) * power_of_two((k + EXACT - 200).max(-EXACT))
    } else {
        x * power_of_two(k)
    }
}

/// 2^k for |k| <= 1022.
fn power_of_two(k: i32) -> f64 {
    f64::from_bits(((i64::from(k) + 1023) as u64) << 52)
}

/// `x` as a fraction in [0.5, 1) and a power of two, for finite positive x.
fn fraction_and_exponent(x: f64) -> (f64, i32) {
    const TWO_TO_52: f64 = 4_503_599_627_370_496.0;
    let (x, shift) = if x < f64::MIN_POSITIVE { (x * TWO_TO_52, 52) } else { (x, 0) };
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
    (f64::from_bits((bits & !(0x7ff << 52)) | (1022 << 52)), exponent - shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_exact() {
        for k in -1022..=1023 {
            assert_eq!(exp2(f64::from(k)), 2f64.powi(k), "2^{k}");
        }
        assert_eq!(exp2(-1074.0), f64::from_bits(1));
        assert_eq!(exp2(-1075.0), 0.0);
        assert_eq!(exp2(1024.0), f64::INFINITY);
        assert_eq!(scale_by_power_of_two(1.5, -1073), f64::from_bits(3));
        assert_eq!(scale_by_power_of_two(1.0, 5000), f64::INFINITY);
        assert_eq!(scale_by_power_of_two(1.0, -100_000), 0.0);
    }

    #[test]
    fn logarithm_follows_libm_closely() {
        let mut x = 1e-300;
        while x < 1e300 {
            let (own, libm) = (ln(x), x.ln());
            assert!((own - libm).abs() <= libm.abs() * 3e-16, "ln({x}): {own} {libm}");
            x *= 1.37;
        }
        assert!(ln(-1.0).is_nan());
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
    }
}
