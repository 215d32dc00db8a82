//! Loops over numbers that the compiler vectorises once they are inlined into code dispatched to vector instructions.
//!
//! Sums use as many independent accumulators as the widest register has lanes; with a single one, every addition would
//! wait for the one before it. The order of additions does not depend on the register width, so the bits are the same
//! on every machine.

/// Number of independent accumulators: the f32 lanes of the widest register.
pub const LANES: usize = 16;

/// The largest number, or f32::MIN for an empty slice.
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

/// Σ f(x), for few enough numbers that f32 is accurate.
#[inline(always)]
pub fn sum(numbers: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = numbers.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in whole {
        for (sum, &x) in lanes.iter_mut().zip(chunk) {
            *sum += f(x);
        }
    }
    // A loop: inside `map`, f could be compiled apart from the code that was dispatched to vector instructions.
    let mut of_rest = 0.0;
    for &x in rest {
        of_rest += f(x);
    }
    lanes.iter().sum::<f32>() + of_rest
}

/// Σ a b of two slices of equal length, short enough that f32 is accurate.
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

/// Whether `holds` for all items. It looks at every one, because a loop that may end early is not vectorised.
#[inline(always)]
pub fn all<T: Copy>(items: &[T], holds: impl Fn(T) -> bool) -> bool {
    items.iter().fold(true, |all, &item| all & holds(item))
}
