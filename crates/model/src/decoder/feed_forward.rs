//! The feed-forward network.

use super::linear::Linear;
use super::shape::FeedForwardShape;
use crate::host;
use crate::parameters::{ParameterBuilder, StoredParameter};
use burn::module::Module;
use burn::tensor::{Tensor, activation};

/// SwiGLU: down(silu(gate(x)) · up(x)).
#[derive(Module, Debug)]
pub(super) struct FeedForward {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl FeedForward {
    /// The network named `name`.
    pub(super) fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        name: &str,
        shape: &FeedForwardShape,
    ) -> Result<Self, E> {
        let mut linear = |part: &str| Linear::build(parameters, &format!("{name}.{part}"), shape.has_bias);
        Ok(Self { gate: linear("gate_proj")?, up: linear("up_proj")?, down: linear("down_proj")? })
    }

    /// x: \[n, hidden\]; output as x.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let (gate, up) = (self.gate.forward(x.clone()), self.up.forward(x));
        let inner = match host::serves(&gate) {
            true => host::gate(gate, up),
            false => activation::silu(gate) * up,
        };
        self.down.forward(inner)
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let parts = [("gate_proj", &self.gate), ("up_proj", &self.up), ("down_proj", &self.down)];
        parts.into_iter().flat_map(|(part, linear)| linear.named(&format!("{name}.{part}"))).collect()
    }
}
