//! Passes over a row in vector registers, dispatched at run time.
//!
//! There are 16 lanes whatever the register width, and each is summed separately. A given multiply-add is either fused
//! on every machine or on none. Every machine therefore computes the same bits.

use crate::exp::{add_exp2, exp2, log2_scale};
pub(crate) use logitcask_core::lanes::LANES;
use pulp::{Arch, Simd, WithSimd, bytemuck};

/// Columns that are summed together for sampling: two cache lines.
pub(crate) const BLOCK: usize = 2 * LANES;
/// Columns processed at a time: few enough for the L1 cache, and for sums in f32.
pub(crate) const TILE: usize = 32 * BLOCK;

/// One number for each column of a tile.
#[repr(align(64))]
pub(crate) struct Tile<T>(pub(crate) [T; TILE]);

impl<T: Copy + Default> Default for Tile<T> {
    fn default() -> Self {
        Self([T::default(); TILE])
    }
}

/// The columns from `start`, a multiple of TILE: either a whole tile, or the end of the row padded to whole blocks with
/// f32::MIN, whose exponential is negligible.
#[inline(always)]
pub(crate) fn tile_at<'a>(logits: &'a [f32], start: usize, padded: &'a mut Tile<f32>) -> &'a [f32] {
    let rest = &logits[start..];
    if rest.len() >= TILE {
        return &rest[..TILE];
    }
    padded.0 = [f32::MIN; TILE];
    padded.0[..rest.len()].copy_from_slice(rest);
    &padded.0[..rest.len().next_multiple_of(BLOCK)]
}

/// Prefetches COLUMNS columns of the row from `start` on. Beyond the row's end this prefetches the next row, if the
/// rows are contiguous, and is harmless otherwise.
#[inline(always)]
pub(crate) fn prefetch<const COLUMNS: usize>(logits: &[f32], start: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..COLUMNS / LANES {
        let address = logits.as_ptr().wrapping_add(start + line * LANES);
        // SAFETY: a prefetch is a hint that reads nothing and cannot fault, whatever the address. Every x86-64
        // processor has it.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (logits, start);
}

/// Adds the numbers of a register to the f64 sums of its lanes.
#[inline(always)]
pub(crate) fn add<V: bytemuck::Pod, T: bytemuck::Pod + Into<f64>>(sums: &mut [f64], register: V) {
    for (sum, &lane) in sums.iter_mut().zip(bytemuck::cast_slice::<V, T>(std::slice::from_ref(&register))) {
        *sum += lane.into();
    }
}

/// Σ e^(b (z - max)) over the row at inverse temperature b. Sums are f32 within a tile and f64 across tiles.
pub fn sum_exp(logits: &[f32], max: f32, b: f32) -> f64 {
    Arch::new().dispatch(SumExp { logits, max, b })
}

/// The vector kernel of [`sum_exp`].
struct SumExp<'a> {
    logits: &'a [f32],
    max: f32,
    b: f32,
}

impl WithSimd for SumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> f64 {
        let (max, scale) = (s.splat_f32s(self.max), s.splat_f32s(log2_scale(self.b)));
        let (mut sums, mut padded) = ([0f64; LANES], Tile::default());
        for start in (0..self.logits.len()).step_by(TILE) {
            let tile = S::as_simd_f32s(tile_at(self.logits, start, &mut padded)).0;
            for (i, sums) in sums.chunks_exact_mut(S::F32_LANES).enumerate() {
                let mut lanes = s.splat_f32s(0.0);
                for &z in tile.iter().skip(i).step_by(LANES / S::F32_LANES) {
                    lanes = add_exp2(s, s.mul_f32s(s.sub_f32s(z, max), scale), true, lanes);
                }
                add::<_, f32>(sums, lanes);
            }
        }
        sums.iter().sum()
    }
}

/// Fills `sums` with Σ e^(z - max) over the columns of each block, leaving out those in `excluded` (ids, ascending).
pub(crate) fn block_sums(logits: &[f32], excluded: &[u32], max: f32, sums: &mut Vec<f64>) {
    sums.clear();
    sums.resize(logits.len().div_ceil(BLOCK), 0.0);
    Arch::new().dispatch(BlockSums { logits, excluded, max, sums });
}

/// The vector kernel of [`block_sums`].
struct BlockSums<'a> {
    logits: &'a [f32],
    excluded: &'a [u32],
    max: f32,
    sums: &'a mut [f64],
}

impl WithSimd for BlockSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (max, scale, zero) = (s.splat_f32s(self.max), s.splat_f32s(log2_scale(1.0)), s.splat_f32s(0.0));
        let (mut weights, mut padded, mut excluded) = (Tile::default(), Tile::default(), self.excluded);
        for (i, sums) in self.sums.chunks_mut(TILE / BLOCK).enumerate() {
            let tile = S::as_simd_f32s(tile_at(self.logits, i * TILE, &mut padded)).0;
            for (weight, &z) in S::as_mut_simd_f32s(&mut weights.0).0.iter_mut().zip(tile) {
                *weight = exp2(s, s.mul_f32s(s.min_f32s(s.sub_f32s(z, max), zero), scale), true);
            }
            zero_listed(&mut weights, i * TILE, &mut excluded);
            for (sum, block) in sums.iter_mut().zip(weights.0.as_chunks::<BLOCK>().0) {
                *sum = f64::from(sum_by_halves(*block));
            }
        }
    }
}

/// The sum of a block by pairwise halving, an order that registers of any width can follow.
#[inline(always)]
fn sum_by_halves(mut block: [f32; BLOCK]) -> f32 {
    let mut width = BLOCK / 2;
    while width > 0 {
        for i in 0..width {
            block[i] += block[i + width];
        }
        width /= 2;
    }
    block[0]
}

/// Sets those columns of the tile from `start` to 0 that the ascending `ids` list, and advances `ids` past them.
#[inline(always)]
pub(crate) fn zero_listed<T: Default>(tile: &mut Tile<T>, start: usize, ids: &mut &[u32]) {
    while let [id, rest @ ..] = *ids
        && (*id as usize) < start + TILE
    {
        tile.0[*id as usize - start] = T::default();
        *ids = rest;
    }
}
