//! The tail in one pass: sums of e^{b (z - top)} at every inverse temperature of the grid.
//!
//! With v = e^{step (z - top)} these are sums of powers of v. The Gauss rule asks much of them: it hangs on how they
//! differ, and with many atoms or a narrow tail the rounding of f32 products hides that. f64 products of the same f32
//! points leave no doubt (rounding the points only moves them) and take half as long again.

#[cfg(test)]
mod tests;

use super::exp::{exp_vector, log2_scale};
use super::lanes::{LANES, TILE, Tile, drop_listed, fetch, tile_at};
use super::scan::{Extremes, STRIP};
use pulp::{Arch, Simd, WithSimd, bytemuck};

/// Powers that one multiplication with v⁴ moves on.
const GROUP: usize = 4;
/// Base-2 logarithm of a number whose powers, as far as they are taken, stay in f32's range.
const HIGHEST: f32 = 100.0;
/// So much of the next row is fetched while this one keeps the arithmetic busy, in columns: a quarter of a megabyte.
const NEXT: usize = 64 * TILE;
/// Most sums there are: 4 · atoms, with at most 8 atoms.
pub(super) const MAX_SUMS: usize = 32;

/// Arithmetic of the sums.
pub(super) trait Real: bytemuck::Pod + Default + From<f32> + Into<f64> {
    /// A register of them.
    type Vector<S: Simd>: bytemuck::Pod;
    /// Smaller terms are set to 0 where they could leave the range of normal numbers, outside which products are slow.
    const TINY: Self;
    /// Base-2 logarithm of a number well above TINY.
    const LOWEST: f32;
    /// How many of them.
    fn lanes<S: Simd>() -> usize;
    /// The slice in registers.
    fn vectors<S: Simd>(slice: &mut [Self]) -> &mut [Self::Vector<S>];
    /// a + b.
    fn add<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a · b.
    fn mul<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a · b + c, fused.
    fn mul_add<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;
    /// Writes a register of f32 into as many places.
    fn put<S: Simd>(numbers: S::f32s, places: &mut [Self]);
    /// With 0 in place of what is not above TINY.
    fn drop_tiny<S: Simd>(s: S, a: Self::Vector<S>) -> Self::Vector<S>;
}

macro_rules! real {
    ($real:ident, $vector:ident, $lanes:ident, $tiny:literal, $lowest:literal,
     $slices:ident, $splat:ident, $select:ident, $greater:ident, $add:ident, $mul:ident, $mul_add:ident) => {
        impl Real for $real {
            type Vector<S: Simd> = S::$vector;
            const TINY: Self = $tiny;
            const LOWEST: f32 = $lowest;

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
            fn put<S: Simd>(numbers: S::f32s, places: &mut [Self]) {
                let numbers = bytemuck::cast_slice::<S::f32s, f32>(std::slice::from_ref(&numbers));
                places.iter_mut().zip(numbers).for_each(|(place, &number)| *place = number.into());
            }

            #[inline(always)]
            fn drop_tiny<S: Simd>(s: S, a: S::$vector) -> S::$vector {
                s.$select(s.$greater(a, s.$splat(Self::TINY)), a, s.$splat(0.0))
            }
        }
    };
}

real! {
    f32, f32s, F32_LANES, 1e-36, -115.0,
    as_mut_simd_f32s, splat_f32s, select_f32s, greater_than_f32s, add_f32s, mul_f32s, mul_add_f32s
}
real! {
    f64, f64s, F64_LANES, 1e-306, -1000.0,
    as_mut_simd_f64s, splat_f64s, select_f64s, greater_than_f64s, add_f64s, mul_f64s, mul_add_f64s
}

/// Sums of w v^k over classes, w = e^{low (z - top)}, v = e^{step (z - top)}.
pub(super) struct PowerSums<T> {
    /// w v^k of the power that comes next.
    terms: Tile<T>,
    /// v, v², v³ and v⁴.
    steps: [Tile<T>; GROUP],
    tile_sums: [T; MAX_SUMS * LANES],
    sums: [f64; MAX_SUMS * LANES],
}

impl<T: Real> Default for PowerSums<T> {
    fn default() -> Self {
        Self {
            terms: Tile::default(),
            steps: Default::default(),
            tile_sums: [T::default(); MAX_SUMS * LANES],
            sums: [0.0; MAX_SUMS * LANES],
        }
    }
}

impl<T: Real> PowerSums<T> {
    /// Sums over the classes outside `kept` (ids, ascending), of which `top` is the largest logit, for k below
    /// `totals.len()`. The row comes with its extremes.
    pub(super) fn sum(
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
        Arch::new().dispatch(Pass { logits, extremes, kept, top, low, step, groups, state: self });
        for (total, lanes) in totals.iter_mut().zip(self.sums.as_chunks::<LANES>().0) {
            *total = lanes.iter().sum();
        }
    }
}

/// [`PowerSums::sum`]; `low` and `step` for powers of 2.
struct Pass<'a, T> {
    logits: &'a [f32],
    extremes: &'a Extremes,
    kept: &'a [u32],
    top: f32,
    low: f32,
    step: f32,
    groups: usize,
    state: &'a mut PowerSums<T>,
}

impl<T: Real> WithSimd for Pass<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let highest = self.low + self.step * (self.groups * GROUP) as f32;
        let mut padded = Tile::default();
        for start in (0..self.logits.len()).step_by(TILE) {
            if start < NEXT {
                fetch::<TILE>(self.logits, self.logits.len() + start);
            }
            let tile = tile_at(self.logits, start, &mut padded);
            let strips = start / STRIP..(start + TILE) / STRIP;
            let [least, most] = self.extremes.range(s, strips).map(|z| highest * (z - self.top));
            match least > f32::LOWEST && most < HIGHEST {
                true => self.fill::<S, false>(s, tile),
                false => self.fill::<S, true>(s, tile),
            }
            drop_listed(&mut self.state.terms, start, &mut self.kept);
            let is_safe = least > T::LOWEST;
            let sums = T::vectors::<S>(&mut self.state.tile_sums[..self.groups * GROUP * LANES]);
            let terms = T::vectors::<S>(&mut self.state.terms.0[..tile.len()]);
            let steps = self.state.steps.each_mut().map(|steps| T::vectors::<S>(&mut steps.0[..tile.len()]));
            // A register that holds all lanes belongs to a machine with registers for all sums.
            match (is_safe, T::lanes::<S>() == LANES) {
                (true, true) => sum_at_once::<T, S, false>(s, terms, steps[0], sums),
                (false, true) => sum_at_once::<T, S, true>(s, terms, steps[0], sums),
                (true, false) => sum_groups::<T, S, false>(s, terms, steps, sums),
                (false, false) => sum_groups::<T, S, true>(s, terms, steps, sums),
            }
            // Apart from the above: a loop this plain becomes a few wide additions.
            let used = self.groups * GROUP * LANES;
            for (sum, &tile_sum) in self.state.sums[..used].iter_mut().zip(&self.state.tile_sums[..used]) {
                *sum += tile_sum.into();
            }
        }
    }
}

impl<T: Real> Pass<'_, T> {
    /// w and v of a tile, some of which may be far from the top.
    #[inline(always)]
    fn fill<S: Simd, const IS_FAR: bool>(&mut self, s: S, tile: &[f32]) {
        let (top, zero) = (s.splat_f32s(self.top), s.splat_f32s(0.0));
        let (low, step) = (s.splat_f32s(self.low), s.splat_f32s(self.step));
        let state = &mut *self.state;
        let terms = state.terms.0.chunks_exact_mut(S::F32_LANES);
        let powers = state.steps[0].0.chunks_exact_mut(S::F32_LANES);
        for ((&z, term), power) in S::as_simd_f32s(tile).0.iter().zip(terms).zip(powers) {
            let mut x = s.sub_f32s(z, top);
            if IS_FAR {
                // Kept classes stand above the tail. They get no weight, but must not overflow on the way.
                x = s.min_f32s(x, zero);
            }
            T::put::<S>(exp_vector(s, s.mul_f32s(x, low), IS_FAR), term);
            T::put::<S>(exp_vector(s, s.mul_f32s(x, step), IS_FAR), power);
        }
    }
}

/// All sums of a tile in one pass, each in a register. terms: w, powers: v.
#[inline(always)]
fn sum_at_once<T: Real, S: Simd, const DROPS: bool>(
    s: S,
    terms: &[T::Vector<S>],
    powers: &[T::Vector<S>],
    sums: &mut [T::Vector<S>],
) {
    // As a constant, so that the sums are no array in memory.
    macro_rules! sum {
        ($($groups:literal)*) => {
            match sums.len() / GROUP {
                $($groups => sum_in_registers::<T, S, DROPS, $groups>(s, terms, powers, sums),)*
                groups => unreachable!("{groups} groups of sums"),
            }
        };
    }
    sum!(1 2 3 4 5 6 7 8);
}

#[inline(always)]
fn sum_in_registers<T: Real, S: Simd, const DROPS: bool, const GROUPS: usize>(
    s: S,
    terms: &[T::Vector<S>],
    powers: &[T::Vector<S>],
    out: &mut [T::Vector<S>],
) {
    let mut sums: [[T::Vector<S>; GROUP]; GROUPS] = bytemuck::Zeroable::zeroed();
    for (&term, &v) in terms.iter().zip(powers) {
        let second = product::<T, S, DROPS>(s, v, v);
        let third = product::<T, S, DROPS>(s, second, v);
        let fourth = product::<T, S, DROPS>(s, second, second);
        let mut term = term;
        for [a, b, c, d] in &mut sums {
            *a = T::add(s, *a, term);
            *b = T::mul_add(s, term, v, *b);
            *c = T::mul_add(s, term, second, *c);
            *d = T::mul_add(s, term, third, *d);
            term = product::<T, S, DROPS>(s, term, fourth);
        }
    }
    out.copy_from_slice(sums.as_flattened());
}

/// All sums of a tile, group by group, for machines with few registers. steps: v in the first.
#[inline(always)]
fn sum_groups<T: Real, S: Simd, const DROPS: bool>(
    s: S,
    terms: &mut [T::Vector<S>],
    [first, second, third, fourth]: [&mut [T::Vector<S>]; GROUP],
    sums: &mut [T::Vector<S>],
) {
    let powers = first.iter().zip(second.iter_mut()).zip(third.iter_mut()).zip(fourth.iter_mut());
    for (((&v, second), third), fourth) in powers {
        *second = product::<T, S, DROPS>(s, v, v);
        *third = product::<T, S, DROPS>(s, *second, v);
        *fourth = product::<T, S, DROPS>(s, *second, *second);
    }
    for group in sums.chunks_exact_mut(GROUP * LANES / T::lanes::<S>()) {
        sum_powers::<T, S, DROPS>(s, terms, [first, second, third, fourth], group);
    }
}

/// The sums of the next powers; `terms` holds w v^k and moves on to k + GROUP.
#[inline(always)]
fn sum_powers<T: Real, S: Simd, const DROPS: bool>(
    s: S,
    terms: &mut [T::Vector<S>],
    steps: [&[T::Vector<S>]; GROUP],
    sums: &mut [T::Vector<S>],
) {
    let [first, second, third, fourth] = steps.map(|steps| &steps[..terms.len()]);
    let stride = LANES / T::lanes::<S>();
    for i in (0..stride).step_by(2) {
        // Each in a variable of its own: an array would go through memory.
        let [mut a, mut b, mut c, mut d] = [bytemuck::Zeroable::zeroed(); GROUP];
        let [mut e, mut f, mut g, mut h] = [bytemuck::Zeroable::zeroed(); GROUP];
        let mut j = i;
        while j + 1 < terms.len() {
            let term = terms[j];
            a = T::add(s, a, term);
            b = T::mul_add(s, term, first[j], b);
            c = T::mul_add(s, term, second[j], c);
            d = T::mul_add(s, term, third[j], d);
            terms[j] = product::<T, S, DROPS>(s, term, fourth[j]);
            let term = terms[j + 1];
            e = T::add(s, e, term);
            f = T::mul_add(s, term, first[j + 1], f);
            g = T::mul_add(s, term, second[j + 1], g);
            h = T::mul_add(s, term, third[j + 1], h);
            terms[j + 1] = product::<T, S, DROPS>(s, term, fourth[j + 1]);
            j += stride;
        }
        for (power, pair) in [[a, e], [b, f], [c, g], [d, h]].into_iter().enumerate() {
            sums[power * stride + i..power * stride + i + 2].copy_from_slice(&pair);
        }
    }
}

#[inline(always)]
fn product<T: Real, S: Simd, const DROPS: bool>(s: S, a: T::Vector<S>, b: T::Vector<S>) -> T::Vector<S> {
    let product = T::mul(s, a, b);
    if DROPS { T::drop_tiny(s, product) } else { product }
}
