//! Nonlinearities, in one pass over the values and without intermediate tensors.
//!
//! Each is x · share(x), where the share is between 0 and 1.

use super::norms::CHUNK;
use crate::activation::{Activation, CUBIC, SQRT_2_OVER_PI};
use logitcask_core::exp::exp_nonpositive;
use rayon::prelude::*;

/// A nonlinearity: its share, and the derivative of x · share.
pub(super) trait Share {
    fn share(x: f32) -> f32;
    fn derivative(x: f32, share: f32) -> f32;
}

pub(super) struct Silu;
pub(super) struct Gelu;
pub(super) struct GeluTanh;
pub(super) struct Relu;

impl Share for Silu {
    #[inline(always)]
    fn share(x: f32) -> f32 {
        sigmoid(x)
    }

    #[inline(always)]
    fn derivative(x: f32, share: f32) -> f32 {
        share + x * share * (1.0 - share)
    }
}

impl Share for Gelu {
    /// The normal distribution's Φ(x), from the approximation 7.1.26 of Abramowitz and Stegun's Handbook of
    /// Mathematical Functions to erfc(|x| / √2), whose error is below 1.5e-7.
    #[inline(always)]
    fn share(x: f32) -> f32 {
        const FACTORS: [f32; 5] = [0.254_829_6, -0.284_496_72, 1.421_413_8, -1.453_152, 1.061_405_4];
        let size = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / (1.0 + 0.327_591_1 * size);
        let polynomial = FACTORS.iter().rev().fold(0.0, |sum: f32, factor| sum.mul_add(t, *factor)) * t;
        let behind = 0.5 * polynomial * exp_nonpositive(-size * size);
        if x < 0.0 { behind } else { 1.0 - behind }
    }

    #[inline(always)]
    fn derivative(x: f32, share: f32) -> f32 {
        const DENSITY: f32 = 0.398_942_3; // 1 / √(2π)
        share + x * DENSITY * exp_nonpositive(-0.5 * x * x)
    }
}

impl Share for GeluTanh {
    /// (1 + tanh(u)) / 2 = 1 / (1 + e^-2u).
    #[inline(always)]
    fn share(x: f32) -> f32 {
        const TWICE: f32 = 2.0 * SQRT_2_OVER_PI as f32;
        sigmoid(TWICE * x * (1.0 + CUBIC as f32 * x * x))
    }

    #[inline(always)]
    fn derivative(x: f32, share: f32) -> f32 {
        const TWICE: f32 = 2.0 * SQRT_2_OVER_PI as f32;
        share + x * share * (1.0 - share) * TWICE * (1.0 + 3.0 * CUBIC as f32 * x * x)
    }
}

impl Share for Relu {
    #[inline(always)]
    fn share(x: f32) -> f32 {
        if x > 0.0 { 1.0 } else { 0.0 }
    }

    #[inline(always)]
    fn derivative(_: f32, share: f32) -> f32 {
        share
    }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = exp_nonpositive(-x.abs());
    let larger = 1.0 / (1.0 + e);
    if x < 0.0 { e * larger } else { larger }
}

/// Calls a function that is generic over a nonlinearity.
macro_rules! by_activation {
    ($activation:expr, $function:ident($($argument:expr),*)) => {
        match $activation {
            Activation::Silu => $function::<Silu>($($argument),*),
            Activation::Gelu => $function::<Gelu>($($argument),*),
            Activation::GeluTanh => $function::<GeluTanh>($($argument),*),
            Activation::Relu => $function::<Relu>($($argument),*),
        }
    };
}

/// activation(x), elementwise.
pub(super) fn activate(x: &[f32], activation: Activation) -> Vec<f32> {
    #[inline(always)]
    fn run<A: Share>(out: &mut [f32], x: &[f32]) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = x * A::share(x));
    }
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
        in_vectors!(|out: &'a mut [f32], x: &'a [f32], activation: Activation| {
            by_activation!(activation, run(out, x));
        });
    });
    out
}

/// d loss / d x from `slopes`, d loss / d output.
pub(super) fn activate_backward(x: &[f32], activation: Activation, slopes: &[f32]) -> Vec<f32> {
    #[inline(always)]
    fn run<A: Share>(of_x: &mut [f32], x: &[f32], slopes: &[f32]) {
        for ((of_x, &x), &slope) in of_x.iter_mut().zip(x).zip(slopes) {
            *of_x = slope * A::derivative(x, A::share(x));
        }
    }
    let mut of_x = vec![0.0; x.len()];
    let inputs = x.par_chunks(CHUNK).zip(slopes.par_chunks(CHUNK));
    of_x.par_chunks_mut(CHUNK).zip(inputs).for_each(|(of_x, (x, slopes))| {
        in_vectors!(|of_x: &'a mut [f32], x: &'a [f32], slopes: &'a [f32], activation: Activation| {
            by_activation!(activation, run(of_x, x, slopes));
        });
    });
    of_x
}

/// Replaces every x by cap · tanh(x / cap).
pub(crate) fn cap(values: &mut [f32], cap: f32) {
    values.par_chunks_mut(CHUNK).for_each(|values| {
        in_vectors!(|values: &'a mut [f32], cap: f32| {
            values.iter_mut().for_each(|x| *x = cap * tanh(*x / cap));
        });
    });
}

/// tanh(x), by a continued fraction near 0, where the difference of exponentials would cancel.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let squared = x * x;
    let above = 135_135.0 + squared * (17_325.0 + squared * (378.0 + squared));
    let below = 135_135.0 + squared * (62_370.0 + squared * (3_150.0 + squared * 28.0));
    let e = exp_nonpositive(-2.0 * x.abs());
    let far = (1.0 - e) / (1.0 + e);
    let near = x * above / below;
    if x.abs() < 1.0 {
        near
    } else if x < 0.0 {
        -far
    } else {
        // The product is 0 for all numbers, and keeps what is none.
        far + 0.0 * x
    }
}
