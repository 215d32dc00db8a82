//! Operations that need one pass over their values and create no intermediate tensors.

use logitcask_core::exp::exp_nonpositive;
use logitcask_core::lanes::{dot, sum};
use rayon::prelude::*;

/// Number of values that one core processes at a time.
const CHUNK: usize = 1 << 15;

/// silu(gate) · up, elementwise, where silu(x) = x / (1 + e^-x).
pub(super) fn gate(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; gate.len()];
    let inputs = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK));
    out.par_chunks_mut(CHUNK).zip(inputs).for_each(|(out, (gate, up))| {
        in_vectors!(|out: &'a mut [f32], gate: &'a [f32], up: &'a [f32]| {
            for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate * sigmoid(gate) * up;
            }
        });
    });
    out
}

/// d loss / d (gate, up) from `slopes`, d loss / d output.
pub(super) fn gate_backward(gate: &[f32], up: &[f32], slopes: &[f32]) -> [Vec<f32>; 2] {
    let [mut of_gate, mut of_up] = [gate, up].map(|x| vec![0.0; x.len()]);
    let inputs = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(slopes.par_chunks(CHUNK));
    let outputs = of_gate.par_chunks_mut(CHUNK).zip(of_up.par_chunks_mut(CHUNK));
    outputs.zip(inputs).for_each(|((of_gate, of_up), ((gate, up), slopes))| {
        in_vectors!(|of_gate: &'a mut [f32],
                     of_up: &'a mut [f32],
                     gate: &'a [f32],
                     up: &'a [f32],
                     slopes: &'a [f32]| {
            let inputs = gate.iter().zip(up).zip(slopes);
            for ((of_gate, of_up), ((&gate, &up), &slope)) in of_gate.iter_mut().zip(of_up).zip(inputs) {
                let share = sigmoid(gate);
                let silu = gate * share;
                *of_up = slope * silu;
                *of_gate = slope * up * (share + silu * (1.0 - share));
            }
        });
    });
    [of_gate, of_up]
}

/// 1 / (1 + e^-x).
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let e = exp_nonpositive(-x.abs());
    let larger = 1.0 / (1.0 + e);
    if x < 0.0 { e * larger } else { larger }
}

/// x / sqrt(mean(x²) + eps) · weight for each row; rows are as long as `weight`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f64) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let rows = rows_of(weight);
    out.par_chunks_mut(rows).zip(x.par_chunks(rows)).for_each(|(out, x)| {
        in_vectors!(|out: &'a mut [f32], x: &'a [f32], weight: &'a [f32], eps: f64| {
            for (out, x) in out.chunks_exact_mut(weight.len()).zip(x.chunks_exact(weight.len())) {
                let scale = scale_of(x, eps);
                out.iter_mut().zip(x).zip(weight).for_each(|((out, x), weight)| *out = x * scale * weight);
            }
        });
    });
    out
}

/// d loss / d (x, weight) from `slopes`, d loss / d output.
pub(super) fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f64, slopes: &[f32]) -> [Vec<f32>; 2] {
    let (width, rows) = (weight.len(), rows_of(weight));
    let mut of_x = vec![0.0; x.len()];
    let inputs = x.par_chunks(rows).zip(slopes.par_chunks(rows));
    let parts = of_x.par_chunks_mut(rows).zip(inputs).map(|(of_x, (x, slopes))| {
        let mut sums = vec![0.0; width];
        let of_weight = &mut sums[..];
        in_vectors!(|of_x: &'a mut [f32],
                     of_weight: &'a mut [f32],
                     x: &'a [f32],
                     weight: &'a [f32],
                     slopes: &'a [f32],
                     eps: f64| {
            let width = weight.len();
            let rows = x.chunks_exact(width).zip(slopes.chunks_exact(width));
            for (of_x, (x, slopes)) in of_x.chunks_exact_mut(width).zip(rows) {
                let scale = scale_of(x, eps);
                let all = of_weight.iter_mut().zip(weight).zip(of_x.iter_mut()).zip(x.iter().zip(slopes));
                for (((of_weight, weight), of_x), (x, slope)) in all {
                    *of_weight += slope * x * scale;
                    *of_x = slope * weight;
                }
                // The gradient through the scale: d scale / d x = - scale³ x / width.
                let through = dot(of_x, x) * scale * scale * scale / width as f32;
                of_x.iter_mut().zip(x).for_each(|(of_x, x)| *of_x = *of_x * scale - through * x);
            }
        });
        sums
    });
    // Added sequentially, so that the sum does not depend on the threads.
    let parts: Vec<Vec<f32>> = parts.collect();
    let mut of_weight = vec![0.0; width];
    for part in parts {
        of_weight.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    [of_x, of_weight]
}

/// Number of values in as many whole rows as one core processes at a time.
fn rows_of(weight: &[f32]) -> usize {
    (CHUNK / weight.len()).max(1) * weight.len()
}

/// 1 / sqrt(mean(x²) + eps).
#[inline(always)]
fn scale_of(x: &[f32], eps: f64) -> f32 {
    1.0 / (sum(x, |x| x * x) / x.len() as f32 + eps as f32).sqrt()
}
