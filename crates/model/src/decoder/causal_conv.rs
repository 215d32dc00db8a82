//! A convolution over the last tokens of a sequence, channel by channel.

use crate::kv_cache::State;
use crate::parameters::{ParameterBuilder, StoredParameter};
use crate::sequences::Sequences;
use burn::module::{Module, Param};
use burn::tensor::{Bool, Tensor, TensorData};

/// y_t = Σ_j w_j · x_{t - length + 1 + j} + bias, with zeros before the first token of a sequence.
#[derive(Module, Debug)]
pub(super) struct CausalConv {
    /// \[channels, length\].
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
}

impl CausalConv {
    /// The parameters `NAME.weight` and, if it has a bias, `NAME.bias`.
    pub(super) fn build<E>(parameters: &mut ParameterBuilder<'_, E>, name: &str, has_bias: bool) -> Result<Self, E> {
        let weight = parameters.plain(&format!("{name}.weight"))?;
        let bias = has_bias.then(|| parameters.vector(&format!("{name}.bias"))).transpose()?;
        Ok(Self { weight, bias })
    }

    /// x: \[n, channels\]; output as x. With a cache entry, there is one new token per row, and the entry holds the
    /// tokens before it.
    pub(super) fn forward(&self, x: Tensor<2>, sequences: &Sequences, past: Option<&mut State>) -> Tensor<2> {
        let weight = self.weight.val();
        let length = weight.dims()[1];
        let y = match past {
            Some(entry) => step(x, weight, entry),
            None => {
                let tap = |back: usize| weight.clone().narrow(1, length - 1 - back, 1).swap_dims(0, 1);
                let reached = 1..length.min(sequences.longest());
                reached.fold(x.clone() * tap(0), |y, back| y + behind(x.clone(), back, sequences) * tap(back))
            }
        };
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let bias = self.bias.as_ref().map(|bias| (format!("{name}.bias"), StoredParameter::Vector(bias)));
        [(format!("{name}.weight"), StoredParameter::Plain(&self.weight))].into_iter().chain(bias).collect()
    }
}

/// The convolution at one new token of each row. The entry is \[rows, 1, length - 1, channels\].
fn step(x: Tensor<2>, weight: Tensor<2>, entry: &mut State) -> Tensor<2> {
    let ([rows, channels], length) = (x.dims(), weight.dims()[1]);
    let before = entry.pop().unwrap_or_else(|| {
        let none: Tensor<4> = Tensor::zeros([rows, 1, length - 1, channels], &x.device());
        none.cast(x.dtype())
    });
    let seen = Tensor::cat(vec![before, x.reshape([rows, 1, 1, channels])], 2);
    entry.push(seen.clone().narrow(2, 1, length - 1));
    let seen: Tensor<3> = seen.reshape([rows, length, channels]);
    (seen * weight.swap_dims(0, 1).unsqueeze()).sum_dim(1).reshape([rows, channels])
}

/// Each token's value so many tokens before, which is zero before the first of a sequence. `back` is less than the length
/// of the longest one.
fn behind(x: Tensor<2>, back: usize, sequences: &Sequences) -> Tensor<2> {
    let ([n, channels], device) = (x.dims(), x.device());
    let zeros: Tensor<2> = Tensor::zeros([back, channels], &device);
    let moved = Tensor::cat(vec![zeros.cast(x.dtype()), x.narrow(0, 0, n - back)], 0);
    let is_before: Vec<bool> = sequences.positions().map(|position| position < back).collect();
    let is_before = Tensor::<2, Bool>::from_data(TensorData::new(is_before, [n, 1]), &device);
    // Not a product with zero, which would keep what is no number in another sequence.
    moved.mask_fill(is_before.expand([n, channels]), 0.0)
}
