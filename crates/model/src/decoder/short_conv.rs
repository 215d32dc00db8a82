//! Gated convolutions over a few tokens.

use super::causal_conv::CausalConv;
use super::linear::Linear;
use super::mixer_shape::ShortConvShape;
use crate::kv_cache::State;
use crate::parameters::{ParameterBuilder, StoredParameter};
use crate::sequences::Sequences;
use burn::module::Module;
use burn::tensor::Tensor;

/// [`ShortConvShape`] has the formula.
#[derive(Module, Debug)]
pub(super) struct ShortConv {
    in_proj: Linear,
    conv: CausalConv,
    out_proj: Linear,
}

impl ShortConv {
    /// The convolution named `name`.
    pub(super) fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        name: &str,
        shape: &ShortConvShape,
    ) -> Result<Self, E> {
        Ok(Self {
            in_proj: Linear::build(parameters, &format!("{name}.in_proj"), shape.has_bias)?,
            conv: CausalConv::build(parameters, &format!("{name}.conv"), shape.has_bias)?,
            out_proj: Linear::build(parameters, &format!("{name}.out_proj"), shape.has_bias)?,
        })
    }

    /// x: \[tokens, hidden\]; output as x. With a cache entry, there is one new token per row.
    pub(super) fn forward(&self, x: Tensor<2>, sequences: &Sequences, past: Option<&mut State>) -> Tensor<2> {
        let d = x.dims()[1];
        let projected = self.in_proj.forward(x);
        let [b, c, y] = [0, 1, 2].map(|part| projected.clone().narrow(1, part * d, d));
        self.out_proj.forward(c * self.conv.forward(b * y, sequences, past))
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let mut all = self.in_proj.named(&format!("{name}.in_proj"));
        all.extend(self.conv.named(&format!("{name}.conv")));
        all.extend(self.out_proj.named(&format!("{name}.out_proj")));
        all
    }
}
