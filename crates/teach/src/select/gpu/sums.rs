//! Sums over the classes of a row with twice the precision of f32.
//!
//! The tail's Gauss rule depends on small differences between its sums, which f32 alone hides, and not every device has
//! f64. Each number is therefore a pair of f32, of which the second compensates the rounding error of the first.

use cubecl::prelude::*;

#[cube]
pub(super) fn clear_sums(sums: &mut Array<f32>, #[comptime] powers: usize) {
    #[unroll]
    for j in 0..powers + 1 {
        sums[j] = 0.0f32;
    }
}

/// Adds a class to the sums (`sign` = 1) or subtracts it (`sign` = -1). `x` is the logit relative to the bound.
#[cube]
pub(super) fn add_class(
    sums: &mut Array<f32>,
    compensations: &mut Array<f32>,
    sign: f32,
    x: f32,
    low: f32,
    step: f32,
    zero: u32,
    #[comptime] powers: usize,
) {
    // Keeps the products below finite; the exponentials are 0 in any case.
    let x = max(x, -1e30f32);
    let ratio = (step * x).exp();
    let mut term = sign * (low * x).exp();
    let mut term_error = 0.0f32;
    #[unroll]
    for j in 0..powers {
        let (sum, error) = two_sum(sums[j], term, zero);
        sums[j] = sum;
        compensations[j] += error + term_error;
        let (product, error) = two_product(term, ratio, zero);
        term_error = term_error * ratio + error;
        term = product;
    }
    let (sum, error) = two_sum(sums[powers], sign * x.exp(), zero);
    sums[powers] = sum;
    compensations[powers] += error;
}

/// TwoSum (Knuth): the rounded sum of two numbers, and its rounding error.
#[cube]
fn two_sum(a: f32, b: f32, zero: u32) -> (f32, f32) {
    let sum = opaque(a + b, zero);
    let b_in_sum = opaque(sum - a, zero);
    let a_in_sum = sum - b_in_sum;
    (sum, (a - a_in_sum) + (b - b_in_sum))
}

/// TwoProduct (Dekker): the rounded product of two numbers, and its rounding error.
#[cube]
fn two_product(a: f32, b: f32, zero: u32) -> (f32, f32) {
    let product = opaque(a * b, zero);
    // Halves of 12 bits have exact products, whether or not a compiler fuses these with the additions.
    let a_high = f32::reinterpret(u32::reinterpret(a) & 0xffff_f000u32);
    let b_high = f32::reinterpret(u32::reinterpret(b) & 0xffff_f000u32);
    let a_low = a - a_high;
    let b_low = b - b_high;
    // Each step must be opaque. Otherwise Mesa's compiler replaces a_high * b_high + a_low * b_high with the rounded
    // product a * b_high.
    let left = opaque(product - a_high * b_high, zero);
    let left = opaque(left - a_low * b_high - a_high * b_low, zero);
    (product, a_low * b_low - left)
}

/// Returns the same number in a way that the compiler cannot see through. Shader compilers otherwise simplify
/// `a + b - a` to `b`.
#[cube]
fn opaque(number: f32, zero: u32) -> f32 {
    f32::reinterpret(u32::reinterpret(number) ^ zero)
}

/// Adds up `value` and `compensation` over all units by pairwise halving and leaves the results in lane 0.
#[cube]
pub(super) fn add_units(
    lanes: &mut Shared<[f32]>,
    lane_compensations: &mut Shared<[f32]>,
    value: f32,
    compensation: f32,
    zero: u32,
) {
    // Waits until the previous result has been read.
    sync_cube();
    let unit = UNIT_POS as usize;
    lanes[unit] = value;
    lane_compensations[unit] = compensation;
    sync_cube();
    let mut half = CUBE_DIM;
    while half > 1 {
        half /= 2;
        if UNIT_POS < half {
            let other = unit + half as usize;
            let (sum, error) = two_sum(lanes[unit], lanes[other], zero);
            let both = lane_compensations[unit] + lane_compensations[other] + error;
            lanes[unit] = sum;
            lane_compensations[unit] = both;
        }
        sync_cube();
    }
}
