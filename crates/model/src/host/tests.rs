//! Each operation beside the same composed of tensor operations, forward and backward.

use super::Heads;
use crate::activation::{Activation, Clamp, Gate};
use crate::decoder::{TensorLayout, attend};
use crate::rope::{RotaryAngles, RotarySpeeds};
use crate::sequences::{Packing, Sequences};
use burn::tensor::{DType, Device, Tensor, TensorData};
use logitcask_core::rng::CounterRng;
use std::sync::Arc;

const ACTIVATIONS: [Activation; 4] = [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu];

fn plain_heads() -> Heads {
    Heads { count: 1, kv_count: 1, head_dim: 4, window: None, scale: 0.5, softcap: None }
}

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
    for (rows, width, count, kv_count, head_dim, window, softcap) in [
        (1, 1, 1, 1, 2, None, None),
        (3, 7, 4, 2, 6, None, None),
        (3, 7, 4, 2, 6, Some(1), None),
        (2, 64, 2, 2, 8, None, None),
        (2, 65, 4, 1, 8, None, None),
        (2, 65, 4, 1, 8, Some(3), None),
        (1, 200, 6, 3, 24, None, None),
        (1, 200, 6, 3, 24, Some(70), None),
        (1, 200, 6, 3, 24, Some(300), None),
        (3, 7, 4, 2, 6, None, Some(1.5)),
        (2, 65, 4, 1, 8, Some(3), Some(20.0)),
    ] {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let heads = Heads { count, kv_count, head_dim, window, scale, softcap };
        let speeds = RotarySpeeds::new(head_dim, head_dim, 10_000.0, None);
        let n: usize = rows * width;
        // The same tokens as rows, and as sequences of uneven length without padding.
        let uneven = [n.div_ceil(3), n - n.div_ceil(3)].into_iter().filter(|&length| length > 0);
        for sequences in [Sequences::in_rows(rows, width), Sequences::packed(uneven, Packing::OneRow)] {
            let angles = Arc::new(RotaryAngles::new(0..sequences.longest(), &speeds));
            let windows = std::iter::once(window);
            let layout =
                TensorLayout::new(&sequences, std::slice::from_ref(&speeds), windows, &Device::flex().autodiff());
            // The second time scores of a hundred: nearly all of the probability is at one key, and slopes are what is
            // left when numbers as large as the scores cancel each other.
            for spread in [1.0, 8.0] {
                let sizes = [count, kv_count, kv_count].map(|count| count * head_dim);
                let inputs = [0, 1, 2].map(|i| noise(i as u64, [n, sizes[i]], if i < 2 { spread } else { 1.0 }));
                let what = format!("{sequences:?}, {heads:?}, spread {spread}");
                let here = |qkv: [Tensor<2>; 3]| super::attention(qkv, None, heads, sequences.clone(), angles.clone());
                assert_exact(&what, spread * spread, &inputs, here, |inputs| {
                    attend(inputs, &heads, None, (&layout, 0), None)
                });
                // Sinks as large as scores, so that some outweigh all keys and others vanish beside them.
                let [q, k, v] = inputs;
                let inputs = [q, k, v, noise(3, [1, count], 2.0 * spread * spread)];
                let sinks = |sinks: Tensor<2>| Some(sinks.reshape([count]));
                let here = |[q, k, v, s]: [Tensor<2>; 4]| {
                    super::attention([q, k, v], sinks(s), heads, sequences.clone(), angles.clone())
                };
                // A sink's gradient is a sum over all queries of what the rounding of scores moves.
                let terms = spread * spread * (n as f64).sqrt();
                assert_exact(&format!("{what}, sinks"), terms, &inputs, here, |[q, k, v, s]| {
                    attend([q, k, v], &heads, sinks(s), (&layout, 0), None)
                });
            }
        }
    }
}

/// Attention of one sequence by its definition in f64, without rotation: softmax over the keys in the window and the
/// sink, whose probability is dropped. All row-major; the output is that of all positions.
fn defined(q: &[f64], k: &[f64], v: &[f64], sinks: &[f64], heads: &Heads) -> Vec<f64> {
    let (d, group) = (heads.head_dim, heads.count / heads.kv_count);
    let width = q.len() / (heads.count * d);
    let mut out = vec![0.0; q.len()];
    for (query, head) in (0..width).flat_map(|query| (0..heads.count).map(move |head| (query, head))) {
        let key = |position: usize| (position * heads.kv_count + head / group) * d;
        let of_query = &q[(query * heads.count + head) * d..][..d];
        let seen = crate::sequences::first_key(query, heads.window)..query + 1;
        let weight = |position: usize| -> f64 {
            let score: f64 = of_query.iter().zip(&k[key(position)..]).map(|(q, k)| q * k).sum();
            (score * f64::from(heads.scale)).exp()
        };
        let total: f64 = seen.clone().map(weight).sum::<f64>() + sinks[head].exp();
        for position in seen {
            for i in 0..d {
                out[(query * heads.count + head) * d + i] += weight(position) / total * v[key(position) + i];
            }
        }
    }
    out
}

/// Outputs, and gradients beside differences of the definition's outputs.
#[test]
fn attention_with_sinks_is_that_of_its_definition() {
    let (width, count, kv_count, head_dim) = (9, 4, 2, 4);
    for window in [None, Some(3)] {
        let heads = Heads { count, kv_count, head_dim, window, scale: 0.5, softcap: None };
        let sizes = [[width, count * head_dim], [width, kv_count * head_dim], [width, kv_count * head_dim], [1, count]];
        let inputs = [0, 1, 2, 3].map(|i| noise(i as u64, sizes[i], 1.0));
        let angles = Arc::new(RotaryAngles::new(0..width, &RotarySpeeds::still(head_dim)));
        let here = |[q, k, v, s]: [Tensor<2>; 4]| {
            let sequences = Sequences::in_rows(1, width);
            super::attention([q, k, v], Some(s.reshape([count])), heads, sequences, angles.clone())
        };
        let got = passes(&inputs, DType::F32, here).into_iter().map(|x| x.into_data().iter().collect::<Vec<f64>>());
        let got: Vec<Vec<f64>> = got.collect();
        let values = |x: &Tensor<2>| x.clone().into_data().iter::<f64>().collect::<Vec<f64>>();
        let exact = inputs.each_ref().map(values);
        let slopes = values(&noise(99, [width, count * head_dim], 1.0));
        let loss = |[q, k, v, s]: &[Vec<f64>; 4]| -> f64 {
            defined(q, k, v, s, &heads).iter().zip(&slopes).map(|(out, slope)| out * slope).sum()
        };
        let [q, k, v, s] = &exact;
        for (got, wanted) in got[0].iter().zip(defined(q, k, v, s, &heads)) {
            assert!((got - wanted).abs() < 1e-6, "{window:?}: {got} is not {wanted}");
        }
        for (input, of_input) in got[1..].iter().enumerate() {
            for (i, got) in of_input.iter().enumerate() {
                let moved = |by: f64| {
                    let mut moved = exact.clone();
                    moved[input][i] += by;
                    loss(&moved)
                };
                let wanted = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!((got - wanted).abs() < 3e-6, "{window:?}, input {input}: {got} is not {wanted}");
            }
        }
    }
}

#[test]
fn gates_are_those_of_tensors() {
    for (shape, spread) in [([1, 1], 1.0), ([7, 33], 3.0), ([301, 257], 40.0)] {
        let inputs = [noise(0, shape, spread), noise(1, shape, 1.0)];
        for activation in ACTIVATIONS {
            let what = format!("{activation:?}, {shape:?}");
            let formula = Gate::Plain(activation);
            let here = |[gate, up]: [Tensor<2>; 2]| super::gate(gate, up, formula);
            assert_exact(&what, 0.0, &inputs, here, |[gate, up]| formula.apply(gate, up));
            let gates = [inputs[0].clone()];
            let here = |[x]: [Tensor<2>; 1]| super::activate(x, activation);
            assert_exact(&what, 0.0, &gates, here, |[x]| activation.apply(x));
        }
        // A bound that some numbers reach and others do not.
        let formula = Gate::Clamped(Clamp { limit: 0.5, alpha: 1.702 });
        let here = |[gate, up]: [Tensor<2>; 2]| super::gate(gate, up, formula);
        assert_exact(&format!("{formula:?}, {shape:?}"), 0.0, &inputs, here, |[gate, up]| formula.apply(gate, up));
    }
}

/// In f64, and within a share of a millionth of one of [`Activation::apply`]'s own formulas.
#[test]
fn activations_are_those_of_their_definitions() {
    let erf = |x: f64| {
        (0..200_000).map(|i| (-(x * (f64::from(i) + 0.5) / 200_000.0).powi(2)).exp()).sum::<f64>() * x / 200_000.0
            * std::f64::consts::FRAC_2_SQRT_PI
    };
    for x in [-6.0, -3.0, -1.0, -0.1, 0.0, 0.3, 1.0, 2.5, 7.0f64] {
        let cubic = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        for (activation, wanted) in [
            (Activation::Silu, x / (1.0 + (-x).exp())),
            (Activation::Gelu, x * (1.0 + erf(x / 2f64.sqrt())) / 2.0),
            (Activation::GeluTanh, x * (1.0 + cubic.tanh()) / 2.0),
            (Activation::Relu, x.max(0.0)),
        ] {
            let x = Tensor::<2>::full([1, 1], x, &Device::flex());
            for got in [super::activate(x.clone(), activation), activation.apply(x.clone())] {
                let got = got.into_scalar::<f32>();
                assert!((f64::from(got) - wanted).abs() < 1e-6, "{activation:?}: {got} is not {wanted}");
            }
        }
    }
}

#[test]
fn capped_numbers_are_those_of_the_hyperbolic_tangent() {
    let numbers: Vec<f32> = (-4000..=4000).map(|i| i as f32 * 0.01).collect();
    for cap in [0.5f32, 30.0] {
        let mut got = numbers.clone();
        super::cap(&mut got, cap);
        for (x, got) in numbers.iter().zip(got) {
            let wanted = f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
            assert!((f64::from(got) - wanted).abs() <= 3e-7 * wanted.abs().max(1e-3), "{x}: {got} is not {wanted}");
        }
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
fn layer_norms_are_those_of_tensors() {
    for (n, width) in [(1, 2), (5, 3), (40, 96), (700, 288)] {
        let inputs = [noise(0, [n, width], 2.0), noise(1, [1, width], 1.0), noise(2, [1, width], 1.0)];
        let vector = |x: Tensor<2>| x.reshape([width]);
        let here = |[x, weight, bias]: [Tensor<2>; 3]| super::layer_norm(x, vector(weight), vector(bias), 1e-5);
        assert_exact(&format!("{n} x {width}"), 0.0, &inputs, here, |[x, weight, bias]| {
            let x = x.clone() - x.mean_dim(1);
            let scale = (x.clone().square().mean_dim(1) + 1e-5).sqrt().recip();
            x * scale * weight + bias
        });
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let ones = Tensor::<2>::ones([2, 4], &Device::flex());
    let bad = ones.clone() * f32::NAN;
    let is_bad = |x: Tensor<2>| x.into_data().iter::<f32>().all(f32::is_nan);
    for activation in ACTIVATIONS {
        assert!(is_bad(super::gate(bad.clone(), ones.clone(), Gate::Plain(activation))), "{activation:?}");
        assert!(is_bad(super::activate(bad.clone(), activation)), "{activation:?}");
    }
    let clamped = Gate::Clamped(Clamp { limit: 0.5, alpha: 1.702 });
    assert!(is_bad(super::gate(bad.clone(), ones.clone(), clamped)));
    assert!(is_bad(super::gate(ones.clone(), bad.clone(), clamped)));
    let parameter = || Tensor::ones([4], &Device::flex());
    assert!(is_bad(super::layer_norm(bad.clone(), parameter(), parameter(), 1e-5)));
    let mut capped = [f32::NAN, f32::INFINITY];
    super::cap(&mut capped, 2.0);
    assert!(capped[0].is_nan());
    assert!(
        super::rms_norm(bad.clone(), Tensor::ones([4], &Device::flex()), 1e-5)
            .into_data()
            .iter::<f32>()
            .all(f32::is_nan)
    );
    let (heads, sequences) = (plain_heads(), Sequences::in_rows(1, 2));
    let angles = Arc::new(RotaryAngles::new(0..2, &RotarySpeeds::new(4, 4, 10_000.0, None)));
    let out = super::attention([ones.clone(), ones.clone(), bad], None, heads, sequences.clone(), angles.clone());
    assert!(out.into_data().iter::<f32>().all(f32::is_nan));
    // A bad key is seen by the query at its position, not by the one before.
    let mut numbers = vec![1.0f32; 8];
    numbers[5] = f32::NAN;
    let keys = Tensor::from_data(TensorData::new(numbers, [2, 4]), &Device::flex());
    let out: Vec<f32> =
        super::attention([ones.clone(), keys, ones], None, heads, sequences, angles).into_data().iter().collect();
    assert!(out[..4].iter().all(|x| *x == 1.0) && out[4..].iter().all(|x| x.is_nan()), "{out:?}");
}
