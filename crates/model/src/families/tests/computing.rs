//! A copy that computes in bf16 has the gradients of its model but for rounding.

use super::{WIDTH, int, models, tokens};
use crate::{CausalLm, Model, Sequences};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// The gradient of every parameter that has one, by its id.
struct Gradients<'a>(&'a GradientsParams, Vec<(u64, Vec<f32>)>);

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.0.get::<D>(param.id) {
            self.1.push((param.id.val(), grad.cast(DType::F32).try_into_vec_as().unwrap()));
        }
    }
}

/// Gradients of Σ slope · hidden for slopes that are mostly positive, with the parameters of `of`: in one graph, and layer
/// by layer.
fn gradients(model: &Model, of: &Model, tokens: &[i64]) -> [Vec<(u64, Vec<f32>)>; 2] {
    let device = model.device();
    let sequences = Sequences::in_rows(tokens.len() / WIDTH, WIDTH);
    let tokens = |device: &Device| int(tokens.to_vec(), sequences.shape(), device);
    let hidden = model.hidden(tokens(&device), &sequences);
    let shape = hidden.dims();
    let slopes: Vec<f32> = (0..shape.iter().product()).map(|i| 0.5 + ((i % (WIDTH * shape[2])) as f32).sin()).collect();
    let slopes = Tensor::<3>::from_data(TensorData::new(slopes, shape), &device.clone().without_autodiff());
    let loss = (hidden.clone().cast(DType::F32) * slopes.clone().autodiff()).sum();
    let (_, inputs) = model.hidden_and_inputs(tokens(&device.clone().without_autodiff()), &sequences);
    let by_layer = model.gradients_by_layer(tokens(&device), &sequences, inputs, slopes.cast(hidden.dtype()));
    [GradientsParams::from_grads(loss.backward(), model), by_layer].map(|grads| {
        let mut read = Gradients(&grads, Vec::new());
        of.visit(&mut read);
        read.1
    })
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// The size of the difference, relative to that of `b`.
fn away(a: &[(u64, Vec<f32>)], b: &[(u64, Vec<f32>)]) -> f64 {
    let ids = |all: &[(u64, Vec<f32>)]| all.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(ids(a), ids(b), "the same parameters are trained");
    let flat = |all: &[(u64, Vec<f32>)]| all.iter().flat_map(|(_, values)| values.clone()).collect::<Vec<f32>>();
    let (a, b) = (flat(a), flat(b));
    norm(a.iter().zip(&b).map(|(a, b)| a - b)) / norm(b.into_iter())
}

/// How much rounding changes a gradient depends on the model, and is measured by rounding the weights alone, with passes in
/// f32. Passes in bf16 round, for each matrix of weights, about ten results in a row by as much, forward and backward; the
/// sum of ten independent errors is about three times as large as one, and 4 is beyond that. In a model of a few hundred
/// numbers, a single unit that changes sides of a ReLU or a clamp, or a token that goes to another expert, can outweigh all
/// else: the bound of a single model is at least 1/8.
const ROUNDINGS: f64 = 4.0;

#[test]
fn gradients_in_bf16_are_those_in_f32_but_for_rounding() {
    let mut ratios = Vec::new();
    for model in models(&Device::flex().autodiff()) {
        let family = model.config().model_type().name();
        let [wanted, _] = gradients(&model, &model, &tokens());
        let in_bf16 = model.computing_in(DType::BF16);
        let weights = away(&gradients(&in_bf16.computing_in(DType::F32), &model, &tokens())[0], &wanted);
        for got in gradients(&in_bf16, &model, &tokens()) {
            let got = away(&got, &wanted);
            assert!(got > 1e-3 && got < (ROUNDINGS * weights).max(0.125), "{family}: {got}, of the weights {weights}");
            ratios.push(got / weights);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    assert!(median < ROUNDINGS, "{median}");
}

/// Of the gradients at 2800 places of a token, a sum in bf16 would lose most.
#[test]
fn the_gradient_of_a_frequent_token_is_summed_in_f32() {
    let tokens = vec![3; 400 * WIDTH];
    let is_llama = |model: &Model| model.config().model_type().name() == "llama";
    for masters in models(&Device::flex().autodiff()).into_iter().filter(is_llama) {
        let table = masters.named_parameters()[0].1.id();
        let of_table = |model: &Model| {
            let [all, _] = gradients(model, &masters, &tokens);
            all.into_iter().filter(|(id, _)| *id == table).collect::<Vec<_>>()
        };
        let away = away(&of_table(&masters.computing_in(DType::BF16)), &of_table(&masters));
        assert!(away < 1.0 / 32.0, "{away}");
    }
}
