//! The first pass over a row, and the only one that fetches it from memory: what stands out, and what all adds up to.
//!
//! A strip of the row is looked at for its largest numbers and then, while the first cache holds it, added up relative to
//! the largest number so far; where a strip brings a larger one, the sums before it are scaled down.

use super::exp::{exp_vector, log2_scale};
use super::lanes::{LANES, add};
use pulp::{Arch, Simd, WithSimd, bytemuck};

/// Columns of a strip: 16 registers of the widest kind.
pub(super) const STRIP: usize = 16 * LANES;

/// What the pass finds out.
pub(super) struct Summary {
    /// The largest logit.
    pub(super) max: f32,
    /// log sum exp of all of them.
    pub(super) log_z: f64,
    /// How many classes stand before the label when sorted by logit, ties by id.
    pub(super) rank: u32,
}

/// The row's summary, and into `maxima` the largest number of every lane of every strip: of the columns of a strip that
/// are the same modulo LANES. `None` on a NaN or an infinity.
pub(super) fn scan(logits: &[f32], gold_id: u32, maxima: &mut Vec<f32>) -> Option<Summary> {
    let gold_id = gold_id as usize;
    let gold = logits[gold_id];
    maxima.resize(logits.len().div_ceil(STRIP) * LANES, 0.0);
    let Seen { max, sum, above, is_finite } = Arch::new().dispatch(Scan { logits, gold_id, gold, maxima });
    // The label's own strip was compared as if all of it came later.
    let first = gold_id / STRIP * STRIP;
    let before = logits[first..gold_id].iter().map(|&z| u32::from(z == gold)).sum::<u32>();
    is_finite.then(|| Summary { max, log_z: f64::from(max) + sum.ln(), rank: before + above })
}

/// [`scan`].
struct Scan<'a> {
    logits: &'a [f32],
    gold_id: usize,
    gold: f32,
    maxima: &'a mut [f32],
}

struct Seen {
    max: f32,
    /// Σ e^(z - max).
    sum: f64,
    /// Logits that stand before the label.
    above: u32,
    is_finite: bool,
}

impl WithSimd for Scan<'_> {
    type Output = Seen;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> Seen {
        let (mut above, mut poison) = (s.splat_u32s(0), s.splat_f32s(0.0));
        let (none, one, zero) = (s.splat_u32s(0), s.splat_u32s(1), s.splat_f32s(0.0));
        let (mut max, mut sums) = (f32::MIN, [0f64; LANES]);
        let mut padded = [f32::MIN; STRIP];
        for (i, maxima) in self.maxima.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let strip = strip_at(self.logits, i, &mut padded);
            // Ties go to the lower id: "no less" is "more than the next number below".
            let is_before = (i + 1) * STRIP <= self.gold_id;
            let bar = s.splat_f32s(if is_before { self.gold.next_down() } else { self.gold });
            let registers = S::as_simd_f32s(strip).0;
            let mut largest = f32::MIN;
            for (lane, maxima) in S::as_mut_simd_f32s(maxima).0.iter_mut().enumerate() {
                let mut max = s.splat_f32s(f32::MIN);
                for &z in registers.iter().skip(lane).step_by(LANES / S::F32_LANES) {
                    max = s.max_f32s(max, z);
                    above = s.add_u32s(above, s.select_u32s(s.greater_than_f32s(z, bar), one, none));
                    // 0 for every finite number, NaN for all others.
                    poison = s.mul_add_f32s(z, zero, poison);
                }
                *maxima = max;
                largest = largest.max(s.reduce_max_f32s(max));
            }
            if largest > max {
                let scale = (f64::from(max) - f64::from(largest)).exp();
                sums.iter_mut().for_each(|sum| *sum *= scale);
                max = largest;
            }
            add_exps(s, registers, max, &mut sums);
        }
        let above = bytemuck::cast_slice::<S::u32s, u32>(std::slice::from_ref(&above)).iter().sum();
        let poison = bytemuck::cast_slice::<S::f32s, f32>(std::slice::from_ref(&poison)).iter().sum::<f32>();
        Seen { max, sum: sums.iter().sum(), above, is_finite: !poison.is_nan() }
    }
}

/// Adds e^(z - max) to the sums of the lanes.
#[inline(always)]
fn add_exps<S: Simd>(s: S, registers: &[S::f32s], max: f32, sums: &mut [f64; LANES]) {
    let (max, scale) = (s.splat_f32s(max), s.splat_f32s(log2_scale(1.0)));
    for (lane, sums) in sums.chunks_exact_mut(S::F32_LANES).enumerate() {
        let mut sum = s.splat_f32s(0.0);
        for &z in registers.iter().skip(lane).step_by(LANES / S::F32_LANES) {
            sum = s.add_f32s(sum, exp_vector(s, s.mul_f32s(s.sub_f32s(z, max), scale)));
        }
        add::<_, f32>(sums, sum);
    }
}

/// A strip, the row's last one filled up with numbers that weigh nothing.
#[inline(always)]
fn strip_at<'a>(logits: &'a [f32], i: usize, padded: &'a mut [f32; STRIP]) -> &'a [f32; STRIP] {
    let rest = &logits[i * STRIP..];
    if let Some(strip) = rest.first_chunk() {
        return strip;
    }
    padded[..rest.len()].copy_from_slice(rest);
    padded
}
