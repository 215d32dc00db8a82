//! Loops over numbers that become loops of vectors, where they are inlined into code that was dispatched to them.
//!
//! Sums are taken in as many places side by side as the widest register has: with one place alone every addition would wait
//! for the one before it. The order of additions is the same whatever the registers, and so are the bits.

/// Numbers that are added up side by side: as many as the widest register holds.
pub const LANES: usize = 16;

/// f32::MIN of none.
#[inline(always)]
pub fn largest(numbers: &[f32]) -> f32 {
    let (whole, rest) = numbers.as_chunks::<LANES>();
    let mut lanes = [f32::MIN; LANES];
    for chunk in whole {
        for (max, &z) in lanes.iter_mut().zip(chunk) {
            *max = if z > *max { z } else { *max };
        }
    }
    lanes.iter().chain(rest).fold(f32::MIN, |a, &b| if b > a { b } else { a })
}

/// Σ f(x) of some numbers, few enough for f32.
#[inline(always)]
pub fn sum(numbers: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = numbers.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in whole {
        for (sum, &x) in lanes.iter_mut().zip(chunk) {
            *sum += f(x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

/// Σ a b of as many numbers each, few enough for f32.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Does it hold for all of them? Every one is looked at, for a loop that may end early is none of vectors.
#[inline(always)]
pub fn all<T: Copy>(items: &[T], holds: impl Fn(T) -> bool) -> bool {
    items.iter().fold(true, |all, &item| all & holds(item))
}
