//! Normalisation, in one pass over the values and without intermediate tensors.

use logitcask_core::lanes::{dot, sum};
use rayon::prelude::*;

/// Number of values that one core processes at a time.
pub(super) const CHUNK: usize = 1 << 15;

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

/// (x - mean(x)) / sqrt(variance(x) + eps) · weight + bias for each row; rows are as long as `weight`.
pub(super) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f64) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let rows = rows_of(weight);
    out.par_chunks_mut(rows).zip(x.par_chunks(rows)).for_each(|(out, x)| {
        in_vectors!(|out: &'a mut [f32], x: &'a [f32], weight: &'a [f32], bias: &'a [f32], eps: f64| {
            for (out, x) in out.chunks_exact_mut(weight.len()).zip(x.chunks_exact(weight.len())) {
                let (mean, scale) = moments_of(x, eps);
                let parameters = weight.iter().zip(bias);
                let all = out.iter_mut().zip(x).zip(parameters);
                all.for_each(|((out, x), (weight, bias))| *out = (x - mean) * scale * weight + bias);
            }
        });
    });
    out
}

/// d loss / d (x, weight, bias) from `slopes`, d loss / d output.
pub(super) fn layer_norm_backward(x: &[f32], weight: &[f32], eps: f64, slopes: &[f32]) -> [Vec<f32>; 3] {
    let (width, rows) = (weight.len(), rows_of(weight));
    let mut of_x = vec![0.0; x.len()];
    let inputs = x.par_chunks(rows).zip(slopes.par_chunks(rows));
    let parts = of_x.par_chunks_mut(rows).zip(inputs).map(|(of_x, (x, slopes))| {
        let mut sums = [vec![0.0; width], vec![0.0; width]];
        let [of_weight, of_bias] = &mut sums;
        let (of_weight, of_bias) = (&mut of_weight[..], &mut of_bias[..]);
        in_vectors!(|of_x: &'a mut [f32],
                     of_weight: &'a mut [f32],
                     of_bias: &'a mut [f32],
                     x: &'a [f32],
                     weight: &'a [f32],
                     slopes: &'a [f32],
                     eps: f64| {
            let width = weight.len();
            let rows = x.chunks_exact(width).zip(slopes.chunks_exact(width));
            for (of_x, (x, slopes)) in of_x.chunks_exact_mut(width).zip(rows) {
                let (mean, scale) = moments_of(x, eps);
                // The gradients of what is multiplied by the weights, and their mean product with it.
                let mut product = 0.0;
                for (((of_x, x), slope), weight) in of_x.iter_mut().zip(x).zip(slopes).zip(weight) {
                    *of_x = slope * weight;
                    product += *of_x * (x - mean);
                }
                let through_mean = sum(of_x, |x| x) / width as f32;
                let through_scale = product * scale * scale / width as f32;
                let sums = of_weight.iter_mut().zip(of_bias.iter_mut());
                for (((of_weight, of_bias), of_x), (x, slope)) in sums.zip(of_x.iter_mut()).zip(x.iter().zip(slopes)) {
                    *of_weight += slope * (x - mean) * scale;
                    *of_bias += slope;
                    *of_x = (*of_x - through_mean - (x - mean) * through_scale) * scale;
                }
            }
        });
        sums
    });
    let parts: Vec<[Vec<f32>; 2]> = parts.collect();
    let mut total = [vec![0.0; width], vec![0.0; width]];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            total.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }
    let [of_weight, of_bias] = total;
    [of_x, of_weight, of_bias]
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

/// mean(x) and 1 / sqrt(variance(x) + eps).
#[inline(always)]
fn moments_of(x: &[f32], eps: f64) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x, |x| x) / n;
    (mean, 1.0 / (sum(x, |x| (x - mean) * (x - mean)) / n + eps as f32).sqrt())
}
