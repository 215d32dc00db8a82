//! exp for a register of numbers.

use pulp::Simd;

/// 2^f = 1 + f (c0 + c1 f + ...) for |f| <= 1/2, with the least largest relative error: 2e-9. A degree less would do for a
/// sum, but not for high powers of these numbers.
const EXP2: [f32; 6] =
    [std::f32::consts::LN_2, 0.240_226_48, 0.055_503_324, 0.009_618_437, 0.001_339_887_5, 0.000_153_533_6];

/// What [`exp_vector`] wants its argument multiplied with to give e^(b x).
pub(super) fn log2_scale(b: f32) -> f32 {
    (f64::from(b) * std::f64::consts::LOG2_E) as f32
}

/// 2^t lane by lane for t <= 0, for sums that need no more than the rounding of `t` leaves: relative error below 2e-7 +
/// |t| 5e-8; fused multiply-adds, the same bits on every machine. Below -126 it stays at the smallest normal number.
#[inline(always)]
pub(super) fn exp_vector<S: Simd>(s: S, t: S::f32s) -> S::f32s {
    // As in core's `exp_nonpositive`.
    let magic = s.splat_f32s(12_582_912.0);
    let t = s.max_f32s(t, s.splat_f32s(-126.0));
    let shifted = s.add_f32s(t, magic);
    let f = s.sub_f32s(t, s.sub_f32s(shifted, magic));
    let [first, rest @ .., last] = EXP2;
    let mut p = s.splat_f32s(last);
    for &c in rest.iter().rev() {
        p = s.mul_add_f32s(p, f, s.splat_f32s(c));
    }
    p = s.mul_add_f32s(p, f, s.splat_f32s(first));
    p = s.mul_add_f32s(p, f, s.splat_f32s(1.0));
    let exponent = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(23));
    s.transmute_f32s_u32s(s.add_u32s(s.transmute_u32s_f32s(p), exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    struct Exp2<'a>(&'a mut [f32]);

    impl WithSimd for Exp2<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, s: S) {
            let (whole, rest) = S::as_mut_simd_f32s(self.0);
            assert!(rest.is_empty());
            whole.iter_mut().for_each(|t| *t = exp_vector(s, *t));
        }
    }

    #[test]
    fn vectors_keep_their_bound_and_have_the_same_bits_everywhere() {
        let points: Vec<f32> = (0..1_270_016).map(|i| -(i as f32) * 1e-4).collect();
        let (mut fast, mut plain) = (points.clone(), points.clone());
        Arch::new().dispatch(Exp2(&mut fast));
        Exp2(&mut plain).with_simd(pulp::Scalar::new());
        for ((&t, &got), &plain) in points.iter().zip(&fast).zip(&plain) {
            let exact = f64::from(t.max(-126.0)).exp2();
            assert!(((f64::from(got) - exact) / exact).abs() < 2e-7, "2^{t}: {got}");
            assert_eq!(got.to_bits(), plain.to_bits());
        }
        assert_eq!(fast[0], 1.0);
    }
}
