//! Exponentials of all numbers in a vector register.

use pulp::Simd;

/// Coefficients of 2^f = 1 + f (c0 + c1 f + ...) for |f| <= 1/2 with minimax relative error 1.05e-7, which is enough
/// for sums.
const SUM_COEFFICIENTS: [f32; 5] =
    [std::f32::consts::LN_2, 0.240_222_83, 0.055_505_585, 0.009_669_691, 0.001_330_060_5];
/// The same with relative error 2e-9, for exponentials of which high powers are taken.
const POWER_COEFFICIENTS: [f32; 6] =
    [std::f32::consts::LN_2, 0.240_226_48, 0.055_503_324, 0.009_618_437, 0.001_339_887_5, 0.000_153_533_6];
/// Smaller powers of 2 are not normal f32.
const LOWEST: f32 = -126.0;

/// The factor by which to multiply x such that [`exp2`] gives e^(b x).
pub(crate) fn log2_scale(b: f32) -> f32 {
    (f64::from(b) * std::f64::consts::LOG2_E) as f32
}

/// 2^t in each lane, for -126 <= t <= 127. With `is_far`, t may be smaller; it is then raised to -126.
///
/// The relative error is below 2e-7 + |t| 5e-8, where the second term is the rounding of `t`. All multiply-adds are
/// fused, so that every machine computes the same bits.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, t: S::f32s, is_far: bool) -> S::f32s {
    let (p, power) = exp2_parts(s, t, is_far, &POWER_COEFFICIENTS);
    s.mul_f32s(p, power)
}

/// sum + 2^t, where 2^t may differ from [`exp2`] by a relative 1e-7.
#[inline(always)]
pub(crate) fn add_exp2<S: Simd>(s: S, t: S::f32s, is_far: bool, sum: S::f32s) -> S::f32s {
    let (p, power) = exp2_parts(s, t, is_far, &SUM_COEFFICIENTS);
    s.mul_add_f32s(p, power, sum)
}

/// 2^t as a factor p near 1 and a power of 2. Without `is_far`, p is NaN if t is.
#[inline(always)]
fn exp2_parts<S: Simd, const N: usize>(s: S, t: S::f32s, is_far: bool, coefficients: &[f32; N]) -> (S::f32s, S::f32s) {
    let t = if is_far { s.max_f32s(t, s.splat_f32s(LOWEST)) } else { t };
    // Adding 1.5 · 2^23 rounds t to the nearest integer n and leaves n in the low bits of the sum. With 127 added as
    // well, they hold the biased exponent of 2^n.
    let magic = s.splat_f32s(12_582_912.0 + 127.0);
    let shifted = s.add_f32s(t, magic);
    let f = s.sub_f32s(t, s.sub_f32s(shifted, magic));
    let mut p = s.splat_f32s(coefficients[N - 1]);
    for &c in coefficients[..N - 1].iter().rev() {
        p = s.mul_add_f32s(p, f, s.splat_f32s(c));
    }
    p = s.mul_add_f32s(p, f, s.splat_f32s(1.0));
    let power = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(23));
    (p, s.transmute_f32s_u32s(power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    /// Evaluates [`add_exp2`] if the flag is set, and [`exp2`] otherwise.
    struct Exp2<'a>(&'a mut [f32], bool);

    impl WithSimd for Exp2<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, s: S) {
            let (whole, rest) = S::as_mut_simd_f32s(self.0);
            assert!(rest.is_empty());
            for t in whole {
                *t = if self.1 { add_exp2(s, *t, true, s.splat_f32s(0.0)) } else { exp2(s, *t, true) };
            }
        }
    }

    #[test]
    fn vectors_keep_their_bound_and_have_the_same_bits_everywhere() {
        let points: Vec<f32> = (0..1_270_016).map(|i| -(i as f32) * 1e-4).collect();
        for for_sums in [false, true] {
            let (mut fast, mut plain) = (points.clone(), points.clone());
            Arch::new().dispatch(Exp2(&mut fast, for_sums));
            Exp2(&mut plain, for_sums).with_simd(pulp::Scalar::new());
            for ((&t, &got), &plain) in points.iter().zip(&fast).zip(&plain) {
                let exact = f64::from(t.max(-126.0)).exp2();
                assert!(((f64::from(got) - exact) / exact).abs() < 2e-7, "2^{t}: {got}");
                assert_eq!(got.to_bits(), plain.to_bits());
            }
            assert_eq!(fast[0], 1.0);
        }
    }
}
