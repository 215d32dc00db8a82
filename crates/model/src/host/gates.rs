//! Gates, in one pass over the values and without intermediate tensors.

use super::activations::{Gelu, GeluTanh, Relu, Share, Silu, sigmoid};
use super::norms::CHUNK;
use crate::activation::{Activation, Clamp, Gate};
use rayon::prelude::*;
use std::marker::PhantomData;

/// The formula of a gate for single numbers.
trait Formula: Copy {
    /// What gate and up-projection give.
    fn value(self, gate: f32, up: f32) -> f32;
    /// d loss / d (gate, up) from `slope`, d loss / d value.
    fn slopes(self, gate: f32, up: f32, slope: f32) -> (f32, f32);
}

/// activation(gate) · up.
struct Plain<A>(PhantomData<A>);

impl<A> Clone for Plain<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Plain<A> {}

impl<A: Share> Formula for Plain<A> {
    #[inline(always)]
    fn value(self, gate: f32, up: f32) -> f32 {
        gate * A::share(gate) * up
    }

    #[inline(always)]
    fn slopes(self, gate: f32, up: f32, slope: f32) -> (f32, f32) {
        let share = A::share(gate);
        (slope * up * A::derivative(gate, share), slope * (gate * share))
    }
}

/// [`Clamp`]'s formula in f32.
#[derive(Clone, Copy)]
struct Clamped {
    limit: f32,
    alpha: f32,
}

impl Clamped {
    /// The bounded gate and the bounded up-projection plus one. Comparisons keep what is no number.
    #[inline(always)]
    fn bounded(self, gate: f32, up: f32) -> (f32, f32) {
        let gate = if gate > self.limit { self.limit } else { gate };
        let up = if up > self.limit { self.limit } else { up };
        let up = if up < -self.limit { -self.limit } else { up };
        (gate, up + 1.0)
    }
}

impl Formula for Clamped {
    #[inline(always)]
    fn value(self, gate: f32, up: f32) -> f32 {
        let (gate, up) = self.bounded(gate, up);
        up * gate * sigmoid(self.alpha * gate)
    }

    #[inline(always)]
    fn slopes(self, gate: f32, up: f32, slope: f32) -> (f32, f32) {
        let (has_gate, has_up) = (gate <= self.limit, up.abs() <= self.limit);
        let (gate, up) = self.bounded(gate, up);
        let share = sigmoid(self.alpha * gate);
        let of_gate = slope * up * (share + self.alpha * gate * share * (1.0 - share));
        let of_up = slope * (gate * share);
        (if has_gate { of_gate } else { 0.0 }, if has_up { of_up } else { 0.0 })
    }
}

/// Calls a function with a gate's formula.
macro_rules! by_gate {
    ($gate:expr, $function:ident($($argument:expr),*)) => {
        match $gate {
            Gate::Plain(Activation::Silu) => $function(Plain::<Silu>(PhantomData), $($argument),*),
            Gate::Plain(Activation::Gelu) => $function(Plain::<Gelu>(PhantomData), $($argument),*),
            Gate::Plain(Activation::GeluTanh) => $function(Plain::<GeluTanh>(PhantomData), $($argument),*),
            Gate::Plain(Activation::Relu) => $function(Plain::<Relu>(PhantomData), $($argument),*),
            Gate::Clamped(Clamp { limit, alpha }) => {
                $function(Clamped { limit: limit as f32, alpha: alpha as f32 }, $($argument),*)
            }
        }
    };
}

/// [`Gate::apply`], elementwise.
pub(super) fn gate(gate: &[f32], up: &[f32], formula: Gate) -> Vec<f32> {
    #[inline(always)]
    fn run(formula: impl Formula, out: &mut [f32], gate: &[f32], up: &[f32]) {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = formula.value(gate, up);
        }
    }
    let mut out = vec![0.0; gate.len()];
    let inputs = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK));
    out.par_chunks_mut(CHUNK).zip(inputs).for_each(|(out, (gate, up))| {
        in_vectors!(|out: &'a mut [f32], gate: &'a [f32], up: &'a [f32], formula: Gate| {
            by_gate!(formula, run(out, gate, up));
        });
    });
    out
}

/// d loss / d (gate, up) from `slopes`, d loss / d output.
pub(super) fn gate_backward(gate: &[f32], up: &[f32], formula: Gate, slopes: &[f32]) -> [Vec<f32>; 2] {
    #[inline(always)]
    fn run(formula: impl Formula, [of_gate, of_up]: [&mut [f32]; 2], gate: &[f32], up: &[f32], slopes: &[f32]) {
        let inputs = gate.iter().zip(up).zip(slopes);
        for ((of_gate, of_up), ((&gate, &up), &slope)) in of_gate.iter_mut().zip(of_up).zip(inputs) {
            (*of_gate, *of_up) = formula.slopes(gate, up, slope);
        }
    }
    let [mut of_gate, mut of_up] = [gate, up].map(|x| vec![0.0; x.len()]);
    let inputs = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(slopes.par_chunks(CHUNK));
    let outputs = of_gate.par_chunks_mut(CHUNK).zip(of_up.par_chunks_mut(CHUNK));
    outputs.zip(inputs).for_each(|((of_gate, of_up), ((gate, up), slopes))| {
        in_vectors!(|of_gate: &'a mut [f32],
                     of_up: &'a mut [f32],
                     gate: &'a [f32],
                     up: &'a [f32],
                     slopes: &'a [f32],
                     formula: Gate| {
            by_gate!(formula, run([of_gate, of_up], gate, up, slopes));
        });
    });
    [of_gate, of_up]
}
