//! Each operation beside the same composed of tensor operations, forward and backward.

use super::Heads;
use crate::decoder::{TensorLayout, attend};
use crate::rope::{RotaryAngles, RotarySpeeds};
use crate::sequences::Sequences;
use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use logitcask_core::rng::CounterRng;
use std::sync::Arc;

/// Normal numbers times `spread`, in a graph.
fn noise(stream: u64, shape: [usize; 2], spread: f64) -> Tensor<2> {
    let mut rng = CounterRng::new("host operations", &[stream]);
    let numbers: Vec<f32> = (0..shape.iter().product()).map(|_| (spread * rng.normal()) as f32).collect();
    Tensor::from_data(TensorData::new(numbers, shape), &Device::flex().autodiff())
}

/// Output and gradients of `inputs` for random slopes of the output, computed in `dtype` and returned in f64.
fn passes<const N: usize>(
    inputs: &[Tensor<2>; N],
    dtype: DType,
    f: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<Tensor<2>> {
    let inputs = inputs.clone().map(|input| input.detach().cast(dtype).require_grad());
    let out = f(inputs.clone());
    let slopes = noise(99, out.dims(), 1.0).detach().cast(dtype);
    let grads = (out.clone() * slopes).sum().backward();
    let of = inputs.iter().map(|input| input.grad(&grads).unwrap());
    std::iter::once(out.without_autodiff()).chain(of).map(|x| x.cast(DType::F64)).collect()
}

/// The operation in f32 is as near to tensor operations in f64 as tensor operations in f32 are, but for a factor of two and
/// the last bits of the largest number, or of `terms`, how large numbers are that cancel each other on the way.
fn assert_exact<const N: usize>(
    what: &str,
    terms: f64,
    inputs: &[Tensor<2>; N],
    operation: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    tensors: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    let [exact, composed] = [DType::F64, DType::F32].map(|dtype| passes(inputs, dtype, &tensors));
    let got = passes(inputs, DType::F32, operation);
    let largest = |x: Tensor<2>| x.abs().max().into_scalar::<f64>();
    for (i, ((got, composed), exact)) in got.into_iter().zip(composed).zip(exact).enumerate() {
        assert_eq!(got.dims(), exact.dims(), "{what}: tensor {i}");
        let (error, usual) = (largest(got - exact.clone()), largest(composed - exact.clone()));
        let bound = 2.0 * usual + 1e-6 * largest(exact) + 1e-7 * terms;
        // Not "above": an error that is no number is above nothing.
        assert!(error <= bound, "{what}: tensor {i} is off by {error}, that of tensors by {usual}");
    }
}

#[test]
fn attention_is_that_of_tensors() {
    // One position; fewer than a block; exactly one; one more; several, with groups of one, two and all query heads.
    // Windows of one key, within a block, across blocks, and longer than the text.
    for (rows, width, count, kv_count, head_dim, window) in [
        (1, 1, 1, 1, 2, None),
        (3, 7, 4, 2, 6, None),
        (3, 7, 4, 2, 6, Some(1)),
        (2, 64, 2, 2, 8, None),
        (2, 65, 4, 1, 8, None),
        (2, 65, 4, 1, 8, Some(3)),
        (1, 200, 6, 3, 24, None),
        (1, 200, 6, 3, 24, Some(70)),
        (1, 200, 6, 3, 24, Some(300)),
    ] {
        let heads = Heads { count, kv_count, head_dim, window };
        let speeds = RotarySpeeds::new(head_dim, 10_000.0, None);
        let n: usize = rows * width;
        // The same tokens as rows, and as sequences of uneven length without padding.
        let uneven = [n.div_ceil(3), n - n.div_ceil(3)].into_iter().filter(|&length| length > 0);
        for sequences in [Sequences::in_rows(rows, width), Sequences::packed(uneven)] {
            let angles = Arc::new(RotaryAngles::new(0..sequences.longest(), &speeds));
            let windows = std::iter::once(window);
            let layout = TensorLayout::new(&sequences, &speeds, windows, &Device::flex().autodiff());
            // The second time scores of a hundred: nearly all of the probability is at one key, and slopes are what is
            // left when numbers as large as the scores cancel each other.
            for spread in [1.0, 8.0] {
                let sizes = [count, kv_count, kv_count].map(|count| count * head_dim);
                let inputs = [0, 1, 2].map(|i| noise(i as u64, [n, sizes[i]], if i < 2 { spread } else { 1.0 }));
                let what = format!("{sequences:?}, {heads:?}, spread {spread}");
                let here =
                    |[q, k, v]: [Tensor<2>; 3]| super::attention(q, k, v, heads, sequences.clone(), angles.clone());
                assert_exact(&what, spread * spread, &inputs, here, |[q, k, v]| attend(q, k, v, &heads, &layout, None));
            }
        }
    }
}

#[test]
fn gates_are_those_of_tensors() {
    for (shape, spread) in [([1, 1], 1.0), ([7, 33], 3.0), ([301, 257], 40.0)] {
        let inputs = [noise(0, shape, spread), noise(1, shape, 1.0)];
        assert_exact(
            "gate",
            0.0,
            &inputs,
            |[gate, up]| super::gate(gate, up),
            |[gate, up]| activation::silu(gate) * up,
        );
    }
}

#[test]
fn norms_are_those_of_tensors() {
    for (n, width) in [(1, 1), (5, 3), (40, 96), (700, 288)] {
        // The weight as a row of its own, so that both are matrices here.
        let inputs = [noise(0, [n, width], 2.0), noise(1, [1, width], 1.0)];
        let here = |[x, weight]: [Tensor<2>; 2]| super::rms_norm(x, weight.reshape([width]), 1e-5);
        assert_exact(&format!("{n} x {width}"), 0.0, &inputs, here, |[x, weight]| {
            let scale = (x.clone().square().mean_dim(1) + 1e-5).sqrt().recip();
            x * scale * weight
        });
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let ones = Tensor::<2>::ones([2, 4], &Device::flex());
    let bad = ones.clone() * f32::NAN;
    assert!(super::gate(bad.clone(), ones.clone()).into_data().iter::<f32>().all(f32::is_nan));
    assert!(
        super::rms_norm(bad.clone(), Tensor::ones([4], &Device::flex()), 1e-5)
            .into_data()
            .iter::<f32>()
            .all(f32::is_nan)
    );
    let (heads, sequences) = (Heads { count: 1, kv_count: 1, head_dim: 4, window: None }, Sequences::in_rows(1, 2));
    let angles = Arc::new(RotaryAngles::new(0..2, &RotarySpeeds::new(4, 10_000.0, None)));
    let out = super::attention(ones.clone(), ones.clone(), bad, heads, sequences.clone(), angles.clone());
    assert!(out.into_data().iter::<f32>().all(f32::is_nan));
    // A bad key is seen by the query at its position, not by the one before.
    let mut numbers = vec![1.0f32; 8];
    numbers[5] = f32::NAN;
    let keys = Tensor::from_data(TensorData::new(numbers, [2, 4]), &Device::flex());
    let out: Vec<f32> =
        super::attention(ones.clone(), keys, ones, heads, sequences, angles).into_data().iter().collect();
    assert!(out[..4].iter().all(|x| *x == 1.0) && out[4..].iter().all(|x| x.is_nan()), "{out:?}");
}
