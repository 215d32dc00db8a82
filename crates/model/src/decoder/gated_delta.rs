//! Linear attention by the gated delta rule, token by token.

use super::causal_conv::CausalConv;
use super::linear::Linear;
use super::mixer_shape::GatedDeltaShape;
use super::norm::Norm;
use crate::activation::Activation;
use crate::host;
use crate::kv_cache::State;
use crate::parameters::{ParameterBuilder, StoredParameter};
use crate::sequences::Sequences;
use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor, TensorData, activation};
use std::ops::Range;

/// Added to squares of lengths.
const LENGTH_EPS: f64 = 1e-6;

/// [`GatedDeltaShape`] has the formula.
#[derive(Module, Debug)]
pub(super) struct GatedDelta {
    in_proj_qkv: Linear,
    in_proj_z: Linear,
    in_proj_b: Linear,
    in_proj_a: Linear,
    conv: CausalConv,
    dt_bias: Param<Tensor<1>>,
    a_log: Param<Tensor<1>>,
    norm: Norm,
    out_proj: Linear,
    #[module(skip)]
    shape: GatedDeltaShape,
}

impl GatedDelta {
    /// The one named `name`.
    pub(super) fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        name: &str,
        shape: &GatedDeltaShape,
    ) -> Result<Self, E> {
        let linear = |parameters: &mut ParameterBuilder<'_, E>, part: &str| {
            Linear::build(parameters, &format!("{name}.{part}"), false)
        };
        Ok(Self {
            in_proj_qkv: linear(parameters, "in_proj_qkv")?,
            in_proj_z: linear(parameters, "in_proj_z")?,
            in_proj_b: linear(parameters, "in_proj_b")?,
            in_proj_a: linear(parameters, "in_proj_a")?,
            conv: CausalConv::build(parameters, &format!("{name}.conv1d"), false)?,
            dt_bias: parameters.vector(&format!("{name}.dt_bias"))?,
            a_log: parameters.vector(&format!("{name}.A_log"))?,
            norm: Norm::build(parameters, &format!("{name}.norm"), shape.norm)?,
            out_proj: linear(parameters, "out_proj")?,
            shape: shape.clone(),
        })
    }

    /// x: \[tokens, hidden\]; output as x. With a cache entry, there is one new token per row, and the entry holds the
    /// matrix of each row and the tokens that the convolution sees.
    pub(super) fn forward(&self, x: Tensor<2>, sequences: &Sequences, past: Option<&mut State>) -> Tensor<2> {
        let (shape, dtype) = (&self.shape, x.dtype());
        let qkv = self.in_proj_qkv.forward(x.clone());
        let (out, lanes) = match past {
            None => {
                let qkv = self.conv.forward(qkv, sequences, None);
                let lanes = Lanes::new(sequences, &x);
                (self.attend(qkv, x.clone(), &lanes, None).0, lanes)
            }
            Some(entry) => {
                let state = (entry.len() == 2).then(|| entry.remove(0));
                let qkv = self.conv.forward(qkv, sequences, Some(entry));
                let lanes = Lanes::new(sequences, &x);
                let (out, state) = self.attend(qkv, x.clone(), &lanes, state);
                entry.insert(0, state);
                (out, lanes)
            }
        };
        let out = self.norm.forward_heads(lanes.joined(out).cast(dtype), shape.value_dim);
        self.out_proj.forward(out * activated(self.in_proj_z.forward(x), Activation::Silu))
    }

    /// The outputs of all heads, \[lanes, heads, tokens, value_dim\], and the matrices after the last token, \[lanes,
    /// heads, key_dim, value_dim\], both in f32. qkv: \[tokens, channels\], behind the convolution.
    fn attend(&self, qkv: Tensor<2>, x: Tensor<2>, lanes: &Lanes, state: Option<Tensor<4>>) -> (Tensor<4>, Tensor<4>) {
        let shape = &self.shape;
        let ([keys, values], heads) = (shape.token_sizes(), shape.value_heads);
        let qkv = activated(qkv, shape.activation).cast(DType::F32);
        let part = |first: usize, size: usize, heads: usize| lanes.split(qkv.clone().narrow(1, first, size), heads);
        let group = heads / shape.key_heads;
        let [q, k] = [0, keys].map(|first| repeated(unit(part(first, keys, shape.key_heads)), group));
        let q = q * (shape.key_dim as f64).powf(-0.5);
        let v = part(2 * keys, values, heads);
        let vector = |of: &Param<Tensor<1>>| of.val().cast(DType::F32).unsqueeze::<2>();
        let steps =
            activation::softplus(self.in_proj_a.forward(x.clone()).cast(DType::F32) + vector(&self.dt_bias), 1.0);
        let decay = lanes.split((-(vector(&self.a_log).exp() * steps)).exp(), heads);
        let rate = lanes.split(activation::sigmoid(self.in_proj_b.forward(x).cast(DType::F32)), heads);
        let state = state.unwrap_or_else(|| {
            let none: Tensor<4> = Tensor::zeros([lanes.count, heads, shape.key_dim, shape.value_dim], &q.device());
            none.cast(DType::F32)
        });
        delta_rule([q, k, v], [decay, rate], state)
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let linear = [
            ("in_proj_qkv", &self.in_proj_qkv),
            ("in_proj_z", &self.in_proj_z),
            ("in_proj_b", &self.in_proj_b),
            ("in_proj_a", &self.in_proj_a),
        ];
        let mut all: Vec<_> =
            linear.into_iter().flat_map(|(part, linear)| linear.named(&format!("{name}.{part}"))).collect();
        all.extend(self.conv.named(&format!("{name}.conv1d")));
        all.push((format!("{name}.dt_bias"), StoredParameter::Vector(&self.dt_bias)));
        all.push((format!("{name}.A_log"), StoredParameter::Vector(&self.a_log)));
        all.extend(self.norm.named(&format!("{name}.norm")));
        all.extend(self.out_proj.named(&format!("{name}.out_proj")));
        all
    }
}

/// Sequences side by side, so that one step computes a token of each.
struct Lanes {
    /// Number of sequences.
    count: usize,
    /// Number of tokens of the longest one.
    length: usize,
    /// If sequences differ in length: the token at each place of a lane, which behind a sequence's end is its last, and
    /// the place of each token.
    places: Option<[Tensor<1, Int>; 2]>,
}

impl Lanes {
    /// Those of sequences on the device of x.
    fn new(sequences: &Sequences, x: &Tensor<2>) -> Self {
        let (count, length) = (sequences.count(), sequences.longest());
        let int = |values: Vec<i64>| {
            let count = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [count]), &x.device())
        };
        let places = (!sequences.are_rows()).then(|| {
            let token = |range: &Range<usize>, place: usize| (range.start + place).min(range.end.max(1) - 1) as i64;
            let lane = |range: Range<usize>| (0..length).map(move |place| token(&range, place));
            let place = |(lane, range): (usize, Range<usize>)| {
                (0..range.len()).map(move |position| (lane * length + position) as i64)
            };
            let tokens = sequences.ranges().flat_map(lane).collect();
            [int(tokens), int(sequences.ranges().enumerate().flat_map(place).collect())]
        });
        Self { count, length, places }
    }

    /// \[tokens, heads · width\] as \[lanes, heads, length, width\].
    fn split(&self, x: Tensor<2>, heads: usize) -> Tensor<4> {
        let width = x.dims()[1] / heads;
        let x = match &self.places {
            Some([tokens, _]) => x.select(0, tokens.clone()),
            None => x,
        };
        x.reshape([self.count, self.length, heads, width]).swap_dims(1, 2)
    }

    /// The inverse of [`Self::split`].
    fn joined(&self, x: Tensor<4>) -> Tensor<2> {
        let [_, heads, _, width] = x.dims();
        let x = x.swap_dims(1, 2).reshape([self.count * self.length, heads * width]);
        match &self.places {
            Some([_, places]) => x.select(0, places.clone()),
            None => x,
        }
    }
}

/// The rule for all tokens one after the other: outputs and the last matrices. decay and rate: \[lanes, heads, length,
/// 1\].
fn delta_rule(
    [q, k, v]: [Tensor<4>; 3],
    [decay, rate]: [Tensor<4>; 2],
    mut state: Tensor<4>,
) -> (Tensor<4>, Tensor<4>) {
    let length = q.dims()[2];
    let mut outputs = Vec::with_capacity(length);
    for token in 0..length {
        let [q, k, v, decay, rate] = [&q, &k, &v, &decay, &rate].map(|x| x.clone().narrow(2, token, 1));
        state = state * decay;
        let change = (v - k.clone().matmul(state.clone())) * rate;
        state = state + k.swap_dims(2, 3).matmul(change);
        outputs.push(q.matmul(state.clone()));
    }
    (Tensor::cat(outputs, 2), state)
}

/// Each head's vector with length one.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let length = (x.clone().square().sum_dim(3) + LENGTH_EPS).sqrt();
    x / length
}

/// Repeats every head for the `group` heads of values that share it.
fn repeated(x: Tensor<4>, group: usize) -> Tensor<4> {
    let [lanes, heads, length, width] = x.dims();
    let spread = x.unsqueeze_dim::<5>(2).expand([lanes, heads, group, length, width]);
    spread.reshape([lanes, heads * group, length, width])
}

fn activated(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    if host::serves(&x) { host::activate(x, activation) } else { activation.apply(x) }
}
