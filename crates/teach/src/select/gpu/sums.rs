//! Sums over the classes of a row, to twice the digits of f32.
//!
//! The Gauss rule of the tail hangs on how its sums differ: f32 alone hides that, and f64 is not everywhere. So a number is
//! two, the second being what rounding took from the first.

use cubecl::prelude::*;

#[cube]
pub(super) fn clear_sums(sums: &mut Array<f32>, #[comptime] points: usize) {
    #[unroll]
    for j in 0..points + 1 {
        sums[j] = 0.0f32;
    }
}

/// Adds a class to the sums, or takes it away: `sign` is 1 or -1.
#[cube]
pub(super) fn add_class(
    sums: &mut Array<f32>,
    missing: &mut Array<f32>,
    sign: f32,
    x: f32,
    low: f32,
    step: f32,
    zero: u32,
    #[comptime] points: usize,
) {
    // Far below everything: no infinity on the way to 0.
    let x = max(x, -1e30f32);
    let ratio = (step * x).exp();
    let mut term = sign * (low * x).exp();
    let mut rest_of_term = 0.0f32;
    #[unroll]
    for j in 0..points {
        let (sum, rounded) = add_exactly(sums[j], term, zero);
        sums[j] = sum;
        missing[j] += rounded + rest_of_term;
        let (product, rounded) = multiply_exactly(term, ratio, zero);
        rest_of_term = rest_of_term * ratio + rounded;
        term = product;
    }
    let (sum, rounded) = add_exactly(sums[points], sign * x.exp(), zero);
    sums[points] = sum;
    missing[points] += rounded;
}

/// The sum of two numbers, and what rounding takes from it.
#[cube]
fn add_exactly(a: f32, b: f32, zero: u32) -> (f32, f32) {
    let sum = opaque(a + b, zero);
    let b_in_sum = opaque(sum - a, zero);
    let a_in_sum = sum - b_in_sum;
    (sum, (a - a_in_sum) + (b - b_in_sum))
}

/// The product of two numbers, and what rounding takes from it.
#[cube]
fn multiply_exactly(a: f32, b: f32, zero: u32) -> (f32, f32) {
    let product = opaque(a * b, zero);
    // Halves of 12 bits, whose products are exact, whether or not a compiler fuses them with the sums.
    let a_high = f32::reinterpret(u32::reinterpret(a) & 0xffff_f000u32);
    let b_high = f32::reinterpret(u32::reinterpret(b) & 0xffff_f000u32);
    let a_low = a - a_high;
    let b_low = b - b_high;
    // Unless each step is hidden, Mesa's compiler takes a_high * b_high + a_low * b_high for a * b_high, which it rounds.
    let left = opaque(product - a_high * b_high, zero);
    let left = opaque(left - a_low * b_high - a_high * b_low, zero);
    (product, a_low * b_low - left)
}

/// The same number. Shader compilers take `a + b - a` for `b` unless they cannot know that it is.
#[cube]
fn opaque(number: f32, zero: u32) -> f32 {
    f32::reinterpret(u32::reinterpret(number) ^ zero)
}

/// Leaves in lane 0 the sum of what the units hold, by halves, and what rounding took from it.
#[cube]
pub(super) fn add_units(
    lanes: &mut Shared<[f32]>,
    lanes_missing: &mut Shared<[f32]>,
    value: f32,
    missing: f32,
    zero: u32,
) {
    // Not before the last sum was read.
    sync_cube();
    let unit = UNIT_POS as usize;
    lanes[unit] = value;
    lanes_missing[unit] = missing;
    sync_cube();
    let mut half = CUBE_DIM;
    while half > 1 {
        half /= 2;
        if UNIT_POS < half {
            let other = unit + half as usize;
            let (sum, rounded) = add_exactly(lanes[unit], lanes[other], zero);
            let both = lanes_missing[unit] + lanes_missing[other] + rounded;
            lanes[unit] = sum;
            lanes_missing[unit] = both;
        }
        sync_cube();
    }
}
