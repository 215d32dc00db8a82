//! A linear map.

use crate::parameters::{ParameterBuilder, StoredParameter};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// x · W, plus a bias if it has one, plus scale · (x · A) · B if it has a LoRA adapter. Weights are stored \[in, out\],
/// the transpose of Hugging Face's layout, so that the forward pass and the gradients are plain products.
#[derive(Module, Debug)]
pub(super) struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// The parameters `NAME.weight` and, if it has a bias, `NAME.bias`.
    pub(super) fn build<E>(parameters: &mut ParameterBuilder<'_, E>, name: &str, has_bias: bool) -> Result<Self, E> {
        let weight = parameters.transposed(&format!("{name}.weight"))?;
        let bias = has_bias.then(|| parameters.vector(&format!("{name}.bias"))).transpose()?;
        Ok(Self { weight, bias })
    }

    /// Whether its weight is trained, or an adapter of it.
    pub(super) fn is_trained(&self) -> bool {
        self.weight.is_require_grad() || self.weight.adapter().is_some()
    }

    /// x: \[n, in\]; output: \[n, out\].
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = match self.weight.adapter() {
            None => x.matmul(self.weight.val()),
            // Not through the sum of both weights, whose gradient is as large as they are.
            Some(lora) => {
                x.clone().matmul(self.weight.base()) + x.matmul(lora.a.val()).matmul(lora.b.val()) * lora.scale
            }
        };
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let mut all = vec![(format!("{name}.weight"), StoredParameter::Transposed(&self.weight))];
        all.extend(self.bias.as_ref().map(|bias| (format!("{name}.bias"), StoredParameter::Vector(bias))));
        all
    }
}
