//! The feed-forward network.

use super::experts::Experts;
use super::linear::Linear;
use super::shape::{DenseShape, FeedForwardShape};
use crate::activation::{Activation, Clamp, Gate};
use crate::host;
use crate::parameters::{ParameterBuilder, StoredParameter};
use burn::module::Module;
use burn::tensor::Tensor;

/// One network for all tokens, or several of which each token uses some.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "the larger variant is that of nearly all layers")]
pub(super) enum FeedForward {
    /// One for all tokens.
    Dense(DenseFeedForward),
    /// A mixture.
    Experts(Experts),
}

impl FeedForward {
    /// The network named `name`.
    pub(super) fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        name: &str,
        shape: &FeedForwardShape,
    ) -> Result<Self, E> {
        Ok(match shape {
            FeedForwardShape::Dense(shape) => {
                let inputs = DenseFeedForward::build_inputs(parameters, name, shape)?;
                Self::Dense(inputs.with_output(parameters, name, shape)?)
            }
            FeedForwardShape::Experts(shape) => Self::Experts(Experts::build(parameters, name, shape)?),
        })
    }

    /// x: \[n, hidden\]; output as x.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(dense) => dense.forward(x),
            Self::Experts(experts) => experts.forward(x),
        }
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        match self {
            Self::Dense(dense) => [dense.named_inputs(name), dense.named_output(name)].into_iter().flatten().collect(),
            Self::Experts(experts) => experts.named(name),
        }
    }
}

/// down(activation(gate(x)) · up(x)), or down(activation(up(x))) without a gate; [`Clamp`] has another formula of gate
/// and up-projection.
#[derive(Module, Debug)]
pub(super) struct DenseFeedForward {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    clamp: Option<Clamp>,
}

/// The first layer of a [`DenseFeedForward`].
pub(super) struct Inputs {
    gate: Option<Linear>,
    up: Linear,
}

impl DenseFeedForward {
    /// The first layer of the network named `name`.
    pub(super) fn build_inputs<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        name: &str,
        shape: &DenseShape,
    ) -> Result<Inputs, E> {
        let mut linear = |part: &str| Linear::build(parameters, &format!("{name}.{part}"), shape.has_bias);
        let gate = shape.is_gated.then(|| linear("gate_proj")).transpose()?;
        Ok(Inputs { gate, up: linear("up_proj")? })
    }

    /// x: \[n, hidden\]; output as x.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = self.gate.as_ref().map(|gate| gate.forward(x.clone()));
        let up = self.up.forward(x);
        let formula = self.clamp.map_or(Gate::Plain(self.activation), Gate::Clamped);
        self.down.forward(match (gate, host::serves(&up)) {
            (Some(gate), true) => host::gate(gate, up, formula),
            (Some(gate), false) => formula.apply(gate, up),
            (None, true) => host::activate(up, self.activation),
            (None, false) => self.activation.apply(up),
        })
    }

    pub(super) fn named_inputs(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let gate = self.gate.iter().flat_map(|gate| gate.named(&format!("{name}.gate_proj")));
        gate.chain(self.up.named(&format!("{name}.up_proj"))).collect()
    }

    pub(super) fn named_output(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        self.down.named(&format!("{name}.down_proj"))
    }
}

impl Inputs {
    /// The network with the second layer.
    pub(super) fn with_output<E>(
        self,
        parameters: &mut ParameterBuilder<'_, E>,
        name: &str,
        shape: &DenseShape,
    ) -> Result<DenseFeedForward, E> {
        let down = Linear::build(parameters, &format!("{name}.down_proj"), shape.has_bias)?;
        Ok(DenseFeedForward { gate: self.gate, up: self.up, down, activation: shape.activation, clamp: shape.clamp })
    }
}
