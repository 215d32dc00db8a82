//! Vectorised exponentials of a row, see [`logitcask_core::lanes`].

use logitcask_core::exp::exp_nonpositive;
use logitcask_core::lanes::{LANES, largest, sum};

/// Number of values that are added up in f32 before the sum is added in f64.
pub(super) const TILE: usize = 64 * LANES;

/// log Σ e^x of a few numbers.
#[inline(always)]
pub(super) fn log_sum_exp(row: &[f32]) -> f32 {
    let max = largest(row);
    sum(row, |x| exp_nonpositive(x - max)).ln() + max
}

/// log(e^a + e^b).
#[inline(always)]
pub(super) fn log_add_exp(a: f32, b: f32) -> f32 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    high + exp_nonpositive(low - high).ln_1p()
}

/// Replaces each z by e^((z - largest) · inverse) and returns their sum.
#[inline(always)]
pub(super) fn exp_in_place(row: &mut [f32], largest: f32, inverse: f32) -> f64 {
    let mut total = 0.0;
    let (whole, rest) = row.as_chunks_mut::<LANES>();
    for tile in whole.chunks_mut(TILE / LANES) {
        let mut lanes = [0.0f32; LANES];
        for chunk in tile {
            for (sum, z) in lanes.iter_mut().zip(chunk) {
                *z = exp_nonpositive((*z - largest) * inverse);
                *sum += *z;
            }
        }
        total += f64::from(lanes.iter().sum::<f32>());
    }
    for z in rest {
        *z = exp_nonpositive((*z - largest) * inverse);
        total += f64::from(*z);
    }
    total
}

/// Σ e^((z - largest) · inverse).
#[inline(always)]
pub(super) fn sum_exp(row: &[f32], largest: f32, inverse: f32) -> f64 {
    let tiles = row.chunks(TILE);
    tiles.map(|tile| f64::from(sum(tile, |z| exp_nonpositive((z - largest) * inverse)))).sum()
}
