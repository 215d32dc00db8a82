//! The sums that the tail's Gauss rule is computed from: Σ e^{b (z - top)} at every inverse temperature b of the grid,
//! in one pass.
//!
//! With v = e^{step (z - top)} these are sums of powers of v. The Gauss rule depends on small differences between them,
//! which the rounding of f32 products hides if there are many atoms or the tail is narrow. f64 products of the same f32
//! points are accurate enough (rounding the points only moves them slightly) and take 1.5 times as long.

#[cfg(test)]
mod tests;

use crate::exp::{exp2, log2_scale};
use crate::lanes::{LANES, TILE, Tile, prefetch, tile_at, zero_listed};
use crate::scan::{Extremes, STRIP};
use pulp::{Arch, Simd, WithSimd, bytemuck};

/// Powers that are summed before the terms are multiplied by v⁴.
const GROUP: usize = 4;
/// Base-2 logarithm up to which the highest power that is taken stays within the range of f32.
const MAX_LOG2: f32 = 100.0;
/// Columns of the next row (256 KiB) that are prefetched during this pass, which is limited by arithmetic.
const PREFETCH: usize = 64 * TILE;
/// The largest number of sums: 4 · atoms with at most 8 atoms.
pub(crate) const MAX_SUMS: usize = 32;

/// Number type of the sums.
pub(crate) trait SumFloat: bytemuck::Pod + Default + From<f32> + Into<f64> {
    /// A register of such numbers.
    type Vector<S: Simd>: bytemuck::Pod;
    /// Smaller terms are set to 0 where they might become subnormal, because products of subnormal numbers are slow.
    const TINY: Self;
    /// Base-2 logarithm of a number well above TINY.
    const MIN_LOG2: f32;
    /// Numbers in a register.
    fn lanes<S: Simd>() -> usize;
    /// The slice as registers.
    fn vectors<S: Simd>(slice: &mut [Self]) -> &mut [Self::Vector<S>];
    /// a + b in each lane.
    fn add<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a · b in each lane.
    fn mul<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a · b + c in each lane, fused.
    fn mul_add<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;
    /// Converts a register of f32 and writes it to `places`.
    fn widen<S: Simd>(numbers: S::f32s, places: &mut [Self]);
    /// Replaces each number that is not above TINY by 0.
    fn flush_tiny<S: Simd>(s: S, a: Self::Vector<S>) -> Self::Vector<S>;
}

macro_rules! sum_float {
    ($sum_float:ident, $vector:ident, $lanes:ident, $tiny:literal, $lowest:literal,
     $slices:ident, $splat:ident, $select:ident, $greater:ident, $add:ident, $mul:ident, $mul_add:ident) => {
        impl SumFloat for $sum_float {
            type Vector<S: Simd> = S::$vector;
            const TINY: Self = $tiny;
            const MIN_LOG2: f32 = $lowest;

            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$lanes
            }

            #[inline(always)]
            fn vectors<S: Simd>(slice: &mut [Self]) -> &mut [S::$vector] {
                S::$slices(slice).0
            }

            #[inline(always)]
            fn add<S: Simd>(s: S, a: S::$vector, b: S::$vector) -> S::$vector {
                s.$add(a, b)
            }

            #[inline(always)]
            fn mul<S: Simd>(s: S, a: S::$vector, b: S::$vector) -> S::$vector {
                s.$mul(a, b)
            }

            #[inline(always)]
            fn mul_add<S: Simd>(s: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                s.$mul_add(a, b, c)
            }

            #[inline(always)]
            fn widen<S: Simd>(numbers: S::f32s, places: &mut [Self]) {
                let numbers = bytemuck::cast_slice::<S::f32s, f32>(std::slice::from_ref(&numbers));
                places.iter_mut().zip(numbers).for_each(|(place, &number)| *place = number.into());
            }

            #[inline(always)]
            fn flush_tiny<S: Simd>(s: S, a: S::$vector) -> S::$vector {
                s.$select(s.$greater(a, s.$splat(Self::TINY)), a, s.$splat(0.0))
            }
        }
    };
}

sum_float! {
    f32, f32s, F32_LANES, 1e-36, -115.0,
    as_mut_simd_f32s, splat_f32s, select_f32s, greater_than_f32s, add_f32s, mul_f32s, mul_add_f32s
}
sum_float! {
    f64, f64s, F64_LANES, 1e-306, -1000.0,
    as_mut_simd_f64s, splat_f64s, select_f64s, greater_than_f64s, add_f64s, mul_f64s, mul_add_f64s
}

/// Computes Σ w v^k over classes, where w = e^{low (z - top)} and v = e^{step (z - top)}, and reuses its buffers.
pub(crate) struct PowerSums<T> {
    /// w v^k for the next power k.
    terms: Tile<T>,
    /// v, v², v³ and v⁴.
    steps: [Tile<T>; GROUP],
    tile_sums: [T; MAX_SUMS * LANES],
    sums: [f64; MAX_SUMS * LANES],
}

impl<T: SumFloat> Default for PowerSums<T> {
    fn default() -> Self {
        Self {
            terms: Tile::default(),
            steps: Default::default(),
            tile_sums: [T::default(); MAX_SUMS * LANES],
            sums: [0.0; MAX_SUMS * LANES],
        }
    }
}

impl<T: SumFloat> PowerSums<T> {
    /// Fills `totals` with the sums for k = 0, 1, ..., `totals.len()` - 1 over the classes outside `kept` (ids,
    /// ascending). `top` is the largest logit of those classes. The row is given with its extremes.
    pub(crate) fn sum(
        &mut self,
        (logits, extremes): (&[f32], &Extremes),
        kept: &[u32],
        top: f32,
        (low, step): (f64, f64),
        totals: &mut [f64],
    ) {
        self.sums = [0.0; MAX_SUMS * LANES];
        let groups = totals.len().div_ceil(GROUP);
        let (low, step) = (log2_scale(low as f32), log2_scale(step as f32));
        Arch::new().dispatch(PowerSumsPass { logits, extremes, kept, top, low, step, groups, buffers: self });
        for (total, lanes) in totals.iter_mut().zip(self.sums.as_chunks::<LANES>().0) {
            *total = lanes.iter().sum();
        }
    }
}

/// The vector kernel of [`PowerSums::sum`]. `low` and `step` are scaled for powers of 2.
struct PowerSumsPass<'a, T> {
    logits: &'a [f32],
    extremes: &'a Extremes,
    kept: &'a [u32],
    top: f32,
    low: f32,
    step: f32,
    groups: usize,
    buffers: &'a mut PowerSums<T>,
}

impl<T: SumFloat> WithSimd for PowerSumsPass<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let highest = self.low + self.step * (self.groups * GROUP) as f32;
        let mut padded = Tile::default();
        for start in (0..self.logits.len()).step_by(TILE) {
            if start < PREFETCH {
                prefetch::<TILE>(self.logits, self.logits.len() + start);
            }
            let tile = tile_at(self.logits, start, &mut padded);
            let strips = start / STRIP..(start + TILE) / STRIP;
            let [least, most] = self.extremes.range(s, strips).map(|z| highest * (z - self.top));
            match least > f32::MIN_LOG2 && most < MAX_LOG2 {
                true => self.fill::<S, false>(s, tile),
                false => self.fill::<S, true>(s, tile),
            }
            zero_listed(&mut self.buffers.terms, start, &mut self.kept);
            let is_safe = least > T::MIN_LOG2;
            let sums = T::vectors::<S>(&mut self.buffers.tile_sums[..self.groups * GROUP * LANES]);
            let terms = T::vectors::<S>(&mut self.buffers.terms.0[..tile.len()]);
            let steps = self.buffers.steps.each_mut().map(|steps| T::vectors::<S>(&mut steps.0[..tile.len()]));
            // If one register holds all 16 lanes, the machine has enough registers for all sums.
            match (is_safe, T::lanes::<S>() == LANES) {
                (true, true) => sum_all::<T, S, false>(s, terms, steps[0], sums),
                (false, true) => sum_all::<T, S, true>(s, terms, steps[0], sums),
                (true, false) => sum_groups::<T, S, false>(s, terms, steps, sums),
                (false, false) => sum_groups::<T, S, true>(s, terms, steps, sums),
            }
            // A separate loop this simple is compiled to a few wide additions.
            let used = self.groups * GROUP * LANES;
            for (sum, &tile_sum) in self.buffers.sums[..used].iter_mut().zip(&self.buffers.tile_sums[..used]) {
                *sum += tile_sum.into();
            }
        }
    }
}

impl<T: SumFloat> PowerSumsPass<'_, T> {
    /// Computes w and v of a tile. With `IS_FAR`, some logits may be far from `top`.
    #[inline(always)]
    fn fill<S: Simd, const IS_FAR: bool>(&mut self, s: S, tile: &[f32]) {
        let (top, zero) = (s.splat_f32s(self.top), s.splat_f32s(0.0));
        let (low, step) = (s.splat_f32s(self.low), s.splat_f32s(self.step));
        let buffers = &mut *self.buffers;
        let terms = buffers.terms.0.chunks_exact_mut(S::F32_LANES);
        let powers = buffers.steps[0].0.chunks_exact_mut(S::F32_LANES);
        for ((&z, term), power) in S::as_simd_f32s(tile).0.iter().zip(terms).zip(powers) {
            let mut x = s.sub_f32s(z, top);
            if IS_FAR {
                // Kept classes lie above the tail. They are set to 0 afterwards, but must not overflow here.
                x = s.min_f32s(x, zero);
            }
            T::widen::<S>(exp2(s, s.mul_f32s(x, low), IS_FAR), term);
            T::widen::<S>(exp2(s, s.mul_f32s(x, step), IS_FAR), power);
        }
    }
}

/// Computes all sums of a tile in one pass with one register for each. `terms` holds w and `powers` holds v.
#[inline(always)]
fn sum_all<T: SumFloat, S: Simd, const FLUSHES: bool>(
    s: S,
    terms: &[T::Vector<S>],
    powers: &[T::Vector<S>],
    sums: &mut [T::Vector<S>],
) {
    // The number of groups is a constant, so that the compiler keeps the sums in registers rather than in an array.
    macro_rules! sum {
        ($($groups:literal)*) => {
            match sums.len() / GROUP {
                $($groups => sum_in_registers::<T, S, FLUSHES, $groups>(s, terms, powers, sums),)*
                groups => unreachable!("{groups} groups of sums"),
            }
        };
    }
    sum!(1 2 3 4 5 6 7 8);
}

#[inline(always)]
fn sum_in_registers<T: SumFloat, S: Simd, const FLUSHES: bool, const GROUPS: usize>(
    s: S,
    terms: &[T::Vector<S>],
    powers: &[T::Vector<S>],
    out: &mut [T::Vector<S>],
) {
    let mut sums: [[T::Vector<S>; GROUP]; GROUPS] = [[bytemuck::Zeroable::zeroed(); GROUP]; GROUPS];
    for (&term, &v) in terms.iter().zip(powers) {
        let second = product::<T, S, FLUSHES>(s, v, v);
        let third = product::<T, S, FLUSHES>(s, second, v);
        let fourth = product::<T, S, FLUSHES>(s, second, second);
        let mut term = term;
        for [a, b, c, d] in &mut sums {
            *a = T::add(s, *a, term);
            *b = T::mul_add(s, term, v, *b);
            *c = T::mul_add(s, term, second, *c);
            *d = T::mul_add(s, term, third, *d);
            term = product::<T, S, FLUSHES>(s, term, fourth);
        }
    }
    out.copy_from_slice(sums.as_flattened());
}

/// Computes all sums of a tile group by group, for machines with few registers. The first slice of powers holds v; the
/// others are filled here.
#[inline(always)]
fn sum_groups<T: SumFloat, S: Simd, const FLUSHES: bool>(
    s: S,
    terms: &mut [T::Vector<S>],
    [first, second, third, fourth]: [&mut [T::Vector<S>]; GROUP],
    sums: &mut [T::Vector<S>],
) {
    let powers = first.iter().zip(second.iter_mut()).zip(third.iter_mut()).zip(fourth.iter_mut());
    for (((&v, second), third), fourth) in powers {
        *second = product::<T, S, FLUSHES>(s, v, v);
        *third = product::<T, S, FLUSHES>(s, *second, v);
        *fourth = product::<T, S, FLUSHES>(s, *second, *second);
    }
    for group in sums.chunks_exact_mut(GROUP * LANES / T::lanes::<S>()) {
        sum_powers::<T, S, FLUSHES>(s, terms, [first, second, third, fourth], group);
    }
}

/// Computes the sums of the next GROUP powers. `terms` holds w v^k and is advanced to k + GROUP.
#[inline(always)]
fn sum_powers<T: SumFloat, S: Simd, const FLUSHES: bool>(
    s: S,
    terms: &mut [T::Vector<S>],
    steps: [&[T::Vector<S>]; GROUP],
    sums: &mut [T::Vector<S>],
) {
    let [first, second, third, fourth] = steps.map(|steps| &steps[..terms.len()]);
    let stride = LANES / T::lanes::<S>();
    for i in (0..stride).step_by(2) {
        // Separate variables, because an array would be kept in memory.
        let [mut a, mut b, mut c, mut d] = [bytemuck::Zeroable::zeroed(); GROUP];
        let [mut e, mut f, mut g, mut h] = [bytemuck::Zeroable::zeroed(); GROUP];
        let mut j = i;
        while j + 1 < terms.len() {
            let term = terms[j];
            a = T::add(s, a, term);
            b = T::mul_add(s, term, first[j], b);
            c = T::mul_add(s, term, second[j], c);
            d = T::mul_add(s, term, third[j], d);
            terms[j] = product::<T, S, FLUSHES>(s, term, fourth[j]);
            let term = terms[j + 1];
            e = T::add(s, e, term);
            f = T::mul_add(s, term, first[j + 1], f);
            g = T::mul_add(s, term, second[j + 1], g);
            h = T::mul_add(s, term, third[j + 1], h);
            terms[j + 1] = product::<T, S, FLUSHES>(s, term, fourth[j + 1]);
            j += stride;
        }
        for (power, pair) in [[a, e], [b, f], [c, g], [d, h]].into_iter().enumerate() {
            sums[power * stride + i..power * stride + i + 2].copy_from_slice(&pair);
        }
    }
}

#[inline(always)]
fn product<T: SumFloat, S: Simd, const FLUSHES: bool>(s: S, a: T::Vector<S>, b: T::Vector<S>) -> T::Vector<S> {
    let product = T::mul(s, a, b);
    if FLUSHES { T::flush_tiny(s, product) } else { product }
}
