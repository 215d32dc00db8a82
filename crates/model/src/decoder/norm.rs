//! Normalisation.

use super::shape::{NormKind, NormShape};
use crate::host;
use crate::parameters::{ParameterBuilder, StoredParameter};
use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

/// A norm over the last dimension; [`NormKind`] has the formulas.
#[derive(Module, Debug)]
pub(super) struct Norm {
    weight: Option<Param<Tensor<1>>>,
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    shape: NormShape,
}

impl Norm {
    /// The parameters `NAME.weight` and `NAME.bias`, if it has them.
    pub(super) fn build<E>(parameters: &mut ParameterBuilder<'_, E>, name: &str, shape: NormShape) -> Result<Self, E> {
        let mut vector = |has: bool, part: &str| has.then(|| parameters.vector(&format!("{name}.{part}"))).transpose();
        Ok(Self { weight: vector(shape.has_weight, "weight")?, bias: vector(shape.has_bias, "bias")?, shape })
    }

    /// Computed in f32 whatever x is.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.over(x, self.weight())
    }

    /// The same over each head of x, \[n, heads · head_dim\], with the same weights for all.
    pub(super) fn forward_heads(&self, x: Tensor<2>, head_dim: usize) -> Tensor<2> {
        let [n, width] = x.dims();
        self.forward(x.reshape([n * width / head_dim, head_dim])).reshape([n, width])
    }

    /// The same over each head of x, \[n, heads · head_dim\], with weights for all heads, \[heads · head_dim\].
    pub(super) fn forward_own_heads(&self, x: Tensor<2>, head_dim: usize) -> Tensor<2> {
        let [n, width] = x.dims();
        let normed = self.over(x.reshape([n * width / head_dim, head_dim]), None).reshape([n, width]);
        match self.weight() {
            Some(weight) => normed * weight.unsqueeze(),
            None => normed,
        }
    }

    /// The factors of the normalised values.
    fn weight(&self) -> Option<Tensor<1>> {
        let weight = self.weight.as_ref()?.val();
        Some(if self.shape.kind == NormKind::RmsOnePlus { weight + 1.0 } else { weight })
    }

    fn over<const D: usize>(&self, x: Tensor<D>, weight: Option<Tensor<1>>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        let (is_centred, eps) = (self.shape.kind == NormKind::Layer, self.shape.eps);
        if host::serves(&x) {
            let weight = weight.unwrap_or_else(|| Tensor::ones([x.dims()[D - 1]], &x.device()));
            return match is_centred {
                true => {
                    let bias = bias.unwrap_or_else(|| Tensor::zeros([x.dims()[D - 1]], &x.device()));
                    host::layer_norm(x, weight, bias, eps)
                }
                false => host::rms_norm(x, weight, eps),
            };
        }
        let dtype = x.dtype();
        let mut x = x.cast(DType::F32);
        if is_centred {
            x = x.clone() - x.mean_dim(D - 1);
        }
        let scale = (x.clone().square().mean_dim(D - 1) + eps).sqrt().recip();
        let mut x = x * scale;
        // Where a model runs in half precision, Llama's kind is multiplied by its weights there, and the others in f32.
        if self.shape.kind == NormKind::Rms {
            x = x.cast(dtype);
        }
        let parameter = |vector: Tensor<1>| vector.cast(x.dtype()).unsqueeze();
        let (weight, bias) = (weight.map(parameter), bias.map(parameter));
        if let Some(weight) = weight {
            x = x * weight;
        }
        if let Some(bias) = bias {
            x = x + bias;
        }
        x.cast(dtype)
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let parts = [("weight", &self.weight), ("bias", &self.bias)];
        let there = parts.into_iter().filter_map(|(part, vector)| Some((part, vector.as_ref()?)));
        there.map(|(part, vector)| (format!("{name}.{part}"), StoredParameter::Vector(vector))).collect()
    }
}
