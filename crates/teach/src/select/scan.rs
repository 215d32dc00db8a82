//! The first pass over a row, and the only one that fetches it from memory: what stands out, and what all adds up to.
//!
//! A strip of the row is looked at for its largest and smallest numbers and then, while the first cache holds it, added up
//! relative to the largest number so far; where a strip brings a larger one, the sums before it are scaled down.

#[cfg(test)]
mod tests;

use super::exp::{add_exp, log2_scale};
use super::lanes::{LANES, add, fetch};
use pulp::{Arch, Simd, WithSimd, bytemuck};

/// Columns of a strip: 16 registers of the widest kind.
pub(super) const STRIP: usize = 16 * LANES;
/// How far ahead of its use a strip is asked for, in columns: 16 KiB. Memory answers in the meantime, and what arrives
/// takes a third of the first cache.
const AHEAD: usize = 16 * STRIP;
/// How far below the largest logit an exponential needs no care: e^-80 is a normal number.
const REACH: f32 = 80.0;

/// What the pass finds out.
pub(super) struct Summary {
    /// The largest logit.
    pub(super) max: f32,
    /// log sum exp of all of them.
    pub(super) log_z: f64,
    /// How many classes stand before the label when sorted by logit, ties by id.
    pub(super) rank: u32,
}

/// The largest and the smallest number of every lane of every strip: of the columns of a strip that are the same modulo
/// LANES. A row's last strip is filled up with f32::MIN.
#[derive(Default)]
pub(super) struct Extremes {
    pub(super) maxima: Vec<f32>,
    pub(super) minima: Vec<f32>,
}

impl Extremes {
    /// The smallest and the largest number of some strips.
    #[inline(always)]
    pub(super) fn range<S: Simd>(&self, s: S, strips: std::ops::Range<usize>) -> [f32; 2] {
        let lanes = strips.start * LANES..self.maxima.len().min(strips.end * LANES);
        let registers = |numbers| S::as_simd_f32s(numbers).0.iter();
        let (minima, maxima) = (registers(&self.minima[lanes.clone()]), registers(&self.maxima[lanes]));
        [
            s.reduce_min_f32s(minima.fold(s.splat_f32s(f32::MAX), |min, &z| s.min_f32s(min, z))),
            s.reduce_max_f32s(maxima.fold(s.splat_f32s(f32::MIN), |max, &z| s.max_f32s(max, z))),
        ]
    }
}

/// The row's summary, and its extremes. `None` on a NaN or an infinity, and where the largest logit is beyond 2e38.
pub(super) fn scan(logits: &[f32], gold_id: u32, extremes: &mut Extremes) -> Option<Summary> {
    let gold_id = gold_id as usize;
    let gold = logits[gold_id];
    let lanes = logits.len().div_ceil(STRIP) * LANES;
    extremes.maxima.resize(lanes, 0.0);
    extremes.minima.resize(lanes, 0.0);
    let seen = Arch::new().dispatch(Scan { logits, gold_id, gold, extremes });
    // The label's own strip was compared as if all of it came later.
    let first = gold_id / STRIP * STRIP;
    let before = logits[first..gold_id].iter().map(|&z| u32::from(z == gold)).sum::<u32>();
    let (max, log_z) = (seen.max, seen.log_z());
    log_z.is_finite().then_some(Summary { max, log_z, rank: before + seen.above })
}

/// [`scan`].
struct Scan<'a> {
    logits: &'a [f32],
    gold_id: usize,
    gold: f32,
    extremes: &'a mut Extremes,
}

struct Seen {
    max: f32,
    /// scale · max, rounded.
    shift: f32,
    /// Σ 2^(scale z - shift); NaN if any of them is no finite number.
    sum: f64,
    /// Logits that stand before the label.
    above: u32,
}

impl Seen {
    /// log sum exp of the row.
    fn log_z(&self) -> f64 {
        let (max, shift) = (f64::from(self.max), f64::from(self.shift));
        // The sum is one of e^(b (z - max)), b all but 1, times what rounding left in `shift`.
        let left = std::f64::consts::LN_2 * (shift - f64::from(log2_scale(1.0)) * max);
        max + left + self.sum.ln()
    }
}

impl WithSimd for Scan<'_> {
    type Output = Seen;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> Seen {
        let mut above = s.splat_u32s(0);
        let (mut max, mut shift, mut sums) = (f32::NEG_INFINITY, f32::NEG_INFINITY, [0f64; LANES]);
        let mut padded = [f32::MIN; STRIP];
        let maxima = self.extremes.maxima.as_chunks_mut::<LANES>().0;
        let minima = self.extremes.minima.as_chunks_mut::<LANES>().0;
        for (i, (maxima, minima)) in maxima.iter_mut().zip(minima).enumerate() {
            fetch::<STRIP>(self.logits, i * STRIP + AHEAD);
            let strip = S::as_simd_f32s(strip_at(self.logits, i, &mut padded)).0;
            // Ties go to the lower id: "no less" is "more than the next number below".
            let is_before = (i + 1) * STRIP <= self.gold_id;
            let bar = s.splat_f32s(if is_before { self.gold.next_down() } else { self.gold });
            let bounds = [max, max - REACH].map(|bound| s.splat_f32s(bound));
            let extremes = (S::as_mut_simd_f32s(maxima).0, S::as_mut_simd_f32s(minima).0);
            let [grows, mut is_far] = look(s, strip, extremes, (bar, &mut above), bounds);
            if grows {
                max = maxima.iter().fold(max, |max, &z| if z > max { z } else { max });
                let next = max * log2_scale(1.0);
                let scale = (f64::from(shift) - f64::from(next)).exp2();
                sums.iter_mut().for_each(|sum| *sum *= scale);
                shift = next;
                is_far = minima.iter().any(|&z| z < max - REACH);
            }
            match is_far {
                true => add_exps::<S, true>(s, strip, shift, &mut sums),
                false => add_exps::<S, false>(s, strip, shift, &mut sums),
            }
        }
        let above = bytemuck::cast_slice::<S::u32s, u32>(std::slice::from_ref(&above)).iter().sum();
        Seen { max, shift, sum: sums.iter().sum(), above }
    }
}

/// Extremes of a strip, and what of it stands above the bar; whether anything lies above the first or below the second of
/// the bounds. NaNs are not seen here.
#[inline(always)]
fn look<S: Simd>(
    s: S,
    strip: &[S::f32s],
    (maxima, minima): (&mut [S::f32s], &mut [S::f32s]),
    (bar, above): (S::f32s, &mut S::u32s),
    [high, low]: [S::f32s; 2],
) -> [bool; 2] {
    let any = |mask| s.first_true_m32s(mask) < S::F32_LANES;
    let (mut is_above, mut is_below) = (false, false);
    for (lane, (largest, smallest)) in maxima.iter_mut().zip(minima).enumerate() {
        let columns = || strip.iter().skip(lane).step_by(LANES / S::F32_LANES);
        // In registers, not in place.
        let (mut max, mut min) = (s.splat_f32s(f32::MIN), s.splat_f32s(f32::MAX));
        for &z in columns() {
            max = s.max_f32s(z, max);
            min = s.min_f32s(z, min);
        }
        (*largest, *smallest) = (max, min);
        is_above |= any(s.greater_than_f32s(max, high));
        is_below |= any(s.less_than_f32s(min, low));
        // Seldom: most labels are among the likeliest classes.
        if any(s.greater_than_f32s(max, bar)) {
            let (mut count, one, none) = (*above, s.splat_u32s(1), s.splat_u32s(0));
            for &z in columns() {
                count = s.add_u32s(count, s.select_u32s(s.greater_than_f32s(z, bar), one, none));
            }
            *above = count;
        }
    }
    [is_above, is_below]
}

/// Adds 2^(scale z - shift) to the sums of the lanes, and a NaN where a logit is not finite.
#[inline(always)]
fn add_exps<S: Simd, const IS_FAR: bool>(s: S, strip: &[S::f32s], shift: f32, sums: &mut [f64; LANES]) {
    let (shift, scale, zero) = (s.splat_f32s(-shift), s.splat_f32s(log2_scale(1.0)), s.splat_f32s(0.0));
    for (lane, sums) in sums.chunks_exact_mut(S::F32_LANES).enumerate() {
        // Two by turns: an addition waits for the one before it.
        let mut pair = [zero; 2];
        for (i, &z) in strip.iter().skip(lane).step_by(LANES / S::F32_LANES).enumerate() {
            pair[i % 2] = add_exp(s, s.mul_add_f32s(z, scale, shift), IS_FAR, pair[i % 2]);
            if IS_FAR {
                // An infinity would be as good as any number far below: 0 for every finite number, NaN for all others.
                pair[i % 2] = s.mul_add_f32s(z, zero, pair[i % 2]);
            }
        }
        add::<_, f32>(sums, s.add_f32s(pair[0], pair[1]));
    }
}

/// A strip, the row's last one filled up with numbers that weigh nothing.
#[inline(always)]
pub(super) fn strip_at<'a>(logits: &'a [f32], i: usize, padded: &'a mut [f32; STRIP]) -> &'a [f32; STRIP] {
    let rest = &logits[i * STRIP..];
    if let Some(strip) = rest.first_chunk() {
        return strip;
    }
    padded[..rest.len()].copy_from_slice(rest);
    padded
}
