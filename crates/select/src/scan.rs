//! The first pass over a row, and the only one that loads it from memory: finds its extremes, log Z and the label's
//! rank.
//!
//! Each strip of the row is searched for its largest and smallest logits. While it is still in the L1 cache, its
//! exponentials are then summed relative to the largest logit so far. If a strip contains a larger one, the sums so far
//! are scaled down.

#[cfg(test)]
mod tests;

use crate::exp::{add_exp2, log2_scale};
use crate::lanes::{LANES, add, prefetch};
use pulp::{Arch, Simd, WithSimd, bytemuck};

/// Columns of a strip: 16 registers of the widest kind.
pub(crate) const STRIP: usize = 16 * LANES;
/// Distance in columns (16 KiB) at which a strip is prefetched. Memory answers within that time, and the prefetched
/// data occupies a third of the L1 cache.
const PREFETCH_DISTANCE: usize = 16 * STRIP;
/// How far below the largest logit the fast exponential is valid: e^-80 is still a normal f32.
const SAFE_RANGE: f32 = 80.0;

/// Statistics of one row.
pub(crate) struct RowStats {
    /// The largest logit.
    pub(crate) max: f32,
    /// log Z = log Σ exp z over the row.
    pub(crate) log_z: f64,
    /// The label's rank: how many classes precede it when sorted by logit, largest first, with ties in the order of
    /// their ids.
    pub(crate) rank: u32,
}

/// The largest and the smallest logit of every lane of every strip. A lane consists of the columns of a strip that are
/// equal modulo LANES. The row's last strip is padded with f32::MIN.
#[derive(Default)]
pub(crate) struct Extremes {
    pub(crate) maxima: Vec<f32>,
    pub(crate) minima: Vec<f32>,
}

impl Extremes {
    /// The smallest and the largest logit in a range of strips.
    #[inline(always)]
    pub(crate) fn range<S: Simd>(&self, s: S, strips: std::ops::Range<usize>) -> [f32; 2] {
        let lanes = strips.start * LANES..self.maxima.len().min(strips.end * LANES);
        let registers = |numbers| S::as_simd_f32s(numbers).0.iter();
        let (minima, maxima) = (registers(&self.minima[lanes.clone()]), registers(&self.maxima[lanes]));
        [
            s.reduce_min_f32s(minima.fold(s.splat_f32s(f32::MAX), |min, &z| s.min_f32s(min, z))),
            s.reduce_max_f32s(maxima.fold(s.splat_f32s(f32::MIN), |max, &z| s.max_f32s(max, z))),
        ]
    }
}

/// Computes the row's statistics and fills `extremes`. Returns `None` if a logit is a NaN or an infinity, or if the
/// largest exceeds 2e38.
pub(crate) fn scan(logits: &[f32], gold_id: u32, extremes: &mut Extremes) -> Option<RowStats> {
    let gold_id = gold_id as usize;
    let gold = logits[gold_id];
    let lanes = logits.len().div_ceil(STRIP) * LANES;
    extremes.maxima.resize(lanes, 0.0);
    extremes.minima.resize(lanes, 0.0);
    let totals = Arch::new().dispatch(Scan { logits, gold_id, gold, extremes });
    // The label's own strip was compared with the rule for strips after the label, so the ties before it are missing.
    let first = gold_id / STRIP * STRIP;
    let before = logits[first..gold_id].iter().map(|&z| u32::from(z == gold)).sum::<u32>();
    let (max, log_z) = (totals.max, totals.log_z());
    log_z.is_finite().then_some(RowStats { max, log_z, rank: before + totals.above })
}

/// The vector kernel of [`scan`].
struct Scan<'a> {
    logits: &'a [f32],
    gold_id: usize,
    gold: f32,
    extremes: &'a mut Extremes,
}

struct ScanTotals {
    max: f32,
    /// scale · max, rounded to f32.
    shift: f32,
    /// Σ 2^(scale z - shift); NaN if any logit is not finite.
    sum: f64,
    /// How many logits precede the label, not counting ties in the label's own strip.
    above: u32,
}

impl ScanTotals {
    /// log Z of the row.
    fn log_z(&self) -> f64 {
        let (max, shift) = (f64::from(self.max), f64::from(self.shift));
        // `sum` is Σ e^(b (z - max)) with b ≈ 1, times a factor that comes from rounding `shift`.
        let left = std::f64::consts::LN_2 * (shift - f64::from(log2_scale(1.0)) * max);
        max + left + self.sum.ln()
    }
}

impl WithSimd for Scan<'_> {
    type Output = ScanTotals;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> ScanTotals {
        let mut above = s.splat_u32s(0);
        let (mut max, mut shift, mut sums) = (f32::NEG_INFINITY, f32::NEG_INFINITY, [0f64; LANES]);
        let mut padded = [f32::MIN; STRIP];
        let maxima = self.extremes.maxima.as_chunks_mut::<LANES>().0;
        let minima = self.extremes.minima.as_chunks_mut::<LANES>().0;
        for (i, (maxima, minima)) in maxima.iter_mut().zip(minima).enumerate() {
            prefetch::<STRIP>(self.logits, i * STRIP + PREFETCH_DISTANCE);
            let strip = S::as_simd_f32s(strip_at(self.logits, i, &mut padded)).0;
            // In strips before the label, ties precede it. There `z >= gold` is tested as `z > gold.next_down()`.
            let is_before = (i + 1) * STRIP <= self.gold_id;
            let bar = s.splat_f32s(if is_before { self.gold.next_down() } else { self.gold });
            let bounds = [max, max - SAFE_RANGE].map(|bound| s.splat_f32s(bound));
            let extremes = (S::as_mut_simd_f32s(maxima).0, S::as_mut_simd_f32s(minima).0);
            let [grows, mut is_far] = strip_extremes(s, strip, extremes, (bar, &mut above), bounds);
            if grows {
                max = maxima.iter().fold(max, |max, &z| if z > max { z } else { max });
                let next = max * log2_scale(1.0);
                let scale = (f64::from(shift) - f64::from(next)).exp2();
                sums.iter_mut().for_each(|sum| *sum *= scale);
                shift = next;
                is_far = minima.iter().any(|&z| z < max - SAFE_RANGE);
            }
            match is_far {
                true => add_exps::<S, true>(s, strip, shift, &mut sums),
                false => add_exps::<S, false>(s, strip, shift, &mut sums),
            }
        }
        let above = bytemuck::cast_slice::<S::u32s, u32>(std::slice::from_ref(&above)).iter().sum();
        ScanTotals { max, shift, sum: sums.iter().sum(), above }
    }
}

/// Writes the extremes of a strip to `maxima` and `minima` and counts its logits above `bar`. Returns whether any logit
/// is above `high` and whether any is below `low`. NaNs go unnoticed here; [`add_exps`] finds them.
#[inline(always)]
fn strip_extremes<S: Simd>(
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
        // Local variables stay in registers, whereas the output slices would not.
        let (mut max, mut min) = (s.splat_f32s(f32::MIN), s.splat_f32s(f32::MAX));
        for &z in columns() {
            max = s.max_f32s(z, max);
            min = s.min_f32s(z, min);
        }
        (*largest, *smallest) = (max, min);
        is_above |= any(s.greater_than_f32s(max, high));
        is_below |= any(s.less_than_f32s(min, low));
        // This is rare, because most labels are among the most likely classes.
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

/// Adds 2^(scale z - shift) to the lanes' sums, or NaN if a logit is not finite.
#[inline(always)]
fn add_exps<S: Simd, const IS_FAR: bool>(s: S, strip: &[S::f32s], shift: f32, sums: &mut [f64; LANES]) {
    let (shift, scale, zero) = (s.splat_f32s(-shift), s.splat_f32s(log2_scale(1.0)), s.splat_f32s(0.0));
    for (lane, sums) in sums.chunks_exact_mut(S::F32_LANES).enumerate() {
        // Two alternating accumulators, because each addition has to wait for the previous one.
        let mut pair = [zero; 2];
        for (i, &z) in strip.iter().skip(lane).step_by(LANES / S::F32_LANES).enumerate() {
            pair[i % 2] = add_exp2(s, s.mul_add_f32s(z, scale, shift), IS_FAR, pair[i % 2]);
            if IS_FAR {
                // The clamped exponential treats an infinity like a very small number. z · 0 is 0 for a finite z and
                // NaN otherwise.
                pair[i % 2] = s.mul_add_f32s(z, zero, pair[i % 2]);
            }
        }
        add::<_, f32>(sums, s.add_f32s(pair[0], pair[1]));
    }
}

/// The i-th strip of the row. The last one is padded with f32::MIN, whose exponential is negligible.
#[inline(always)]
pub(crate) fn strip_at<'a>(logits: &'a [f32], i: usize, padded: &'a mut [f32; STRIP]) -> &'a [f32; STRIP] {
    let rest = &logits[i * STRIP..];
    if let Some(strip) = rest.first_chunk() {
        return strip;
    }
    padded[..rest.len()].copy_from_slice(rest);
    padded
}
