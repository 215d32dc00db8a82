//! Passes over a row in vector registers, dispatched at run time.
//!
//! Sixteen lanes whatever the register width, each added up on its own, and every multiply-add either fused everywhere or
//! nowhere: every machine gets the same bits.

use super::exp::{add_exp, exp_vector, log2_scale};
pub(super) use logitcask_core::lanes::LANES;
use pulp::{Arch, Simd, WithSimd, bytemuck};

/// Columns that are added up together where offsets are cast: two cache lines.
pub(super) const BLOCK: usize = 2 * LANES;
/// Columns worked on at once: few enough for the first cache, and for f32 to add them up.
pub(super) const TILE: usize = 32 * BLOCK;

/// One number for each column of a tile.
#[repr(align(64))]
pub(super) struct Tile<T>(pub(super) [T; TILE]);

impl<T: Copy + Default> Default for Tile<T> {
    fn default() -> Self {
        Self([T::default(); TILE])
    }
}

/// The columns from `start`, a multiple of TILE: a whole tile, or the row's end filled up to whole blocks with numbers
/// that weigh nothing.
#[inline(always)]
pub(super) fn tile_at<'a>(logits: &'a [f32], start: usize, padded: &'a mut Tile<f32>) -> &'a [f32] {
    let rest = &logits[start..];
    if rest.len() >= TILE {
        return &rest[..TILE];
    }
    padded.0 = [f32::MIN; TILE];
    padded.0[..rest.len()].copy_from_slice(rest);
    &padded.0[..rest.len().next_multiple_of(BLOCK)]
}

/// Asks for COLUMNS columns of the row from `start` on, ahead of their use. Where they lie beyond its end, they are those
/// of the next row, if rows stand one after the other, or nothing.
#[inline(always)]
pub(super) fn fetch<const COLUMNS: usize>(logits: &[f32], start: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..COLUMNS / LANES {
        let address = logits.as_ptr().wrapping_add(start + line * LANES);
        // SAFETY: a hint that reads nothing and cannot fault, whatever the address; every x86-64 processor has it.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (logits, start);
}

/// Adds the numbers of a register to those of f64 lanes.
#[inline(always)]
pub(super) fn add<V: bytemuck::Pod, T: bytemuck::Pod + Into<f64>>(sums: &mut [f64], register: V) {
    for (sum, &lane) in sums.iter_mut().zip(bytemuck::cast_slice::<V, T>(std::slice::from_ref(&register))) {
        *sum += lane.into();
    }
}

/// Sum of e^(b (z - max)) over the row, b the inverse temperature: f32 inside a tile, f64 across tiles.
pub(crate) fn sum_exp(logits: &[f32], max: f32, b: f32) -> f64 {
    Arch::new().dispatch(SumExp { logits, max, b })
}

/// [`sum_exp`].
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
                    lanes = add_exp(s, s.mul_f32s(s.sub_f32s(z, max), scale), true, lanes);
                }
                add::<_, f32>(sums, lanes);
            }
        }
        sums.iter().sum()
    }
}

/// e^(z - max) of the columns outside `without` (ids, ascending), added up block by block into `sums`.
pub(super) fn block_sums(logits: &[f32], without: &[u32], max: f32, sums: &mut Vec<f64>) {
    sums.clear();
    sums.resize(logits.len().div_ceil(BLOCK), 0.0);
    Arch::new().dispatch(BlockSums { logits, without, max, sums });
}

/// [`block_sums`].
struct BlockSums<'a> {
    logits: &'a [f32],
    without: &'a [u32],
    max: f32,
    sums: &'a mut [f64],
}

impl WithSimd for BlockSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (max, scale, zero) = (s.splat_f32s(self.max), s.splat_f32s(log2_scale(1.0)), s.splat_f32s(0.0));
        let (mut weights, mut padded, mut without) = (Tile::default(), Tile::default(), self.without);
        for (i, sums) in self.sums.chunks_mut(TILE / BLOCK).enumerate() {
            let tile = S::as_simd_f32s(tile_at(self.logits, i * TILE, &mut padded)).0;
            for (weight, &z) in S::as_mut_simd_f32s(&mut weights.0).0.iter_mut().zip(tile) {
                *weight = exp_vector(s, s.mul_f32s(s.min_f32s(s.sub_f32s(z, max), zero), scale), true);
            }
            drop_listed(&mut weights, i * TILE, &mut without);
            for (sum, block) in sums.iter_mut().zip(weights.0.as_chunks::<BLOCK>().0) {
                *sum = f64::from(sum_by_halves(*block));
            }
        }
    }
}

/// The sum of a block, in an order that registers of any width keep.
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

/// Sets the columns of the tile from `start` to 0 that the ascending `ids` list, and passes over them.
#[inline(always)]
pub(super) fn drop_listed<T: Default>(tile: &mut Tile<T>, start: usize, ids: &mut &[u32]) {
    while let [id, rest @ ..] = *ids
        && (*id as usize) < start + TILE
    {
        tile.0[*id as usize - start] = T::default();
        *ids = rest;
    }
}
