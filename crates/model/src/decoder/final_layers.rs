//! What follows a model's last layer, without the layers.

use super::head_input::HeadInput;
use super::shape::{EMBEDDING, HEAD, Shape};
use crate::parameters::ParameterBuilder;
use crate::{Head, ModelConfig};
use burn::tensor::Tensor;

/// The final norm and the head of a model, with all that lies between and behind them: a projection, factors, a bias, a
/// bound of the logits. They take the memory of the head alone.
pub struct FinalLayers {
    input: HeadInput,
    head: Head,
    vocab_size: usize,
}

impl ModelConfig {
    /// Width of last hidden states from this side of the final norm.
    pub fn states_width(&self, side: NormSide) -> usize {
        let shape = self.shape();
        match side {
            NormSide::Before => shape.hidden_size,
            NormSide::After => shape.embedding.size,
        }
    }
}

/// On which side of the final norm hidden states were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormSide {
    /// They are the output of the last layer.
    Before,
    /// They are what the head is applied to: the output of the norm, and of the projection behind it if a model has
    /// one.
    After,
}

impl NormSide {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Before => Self::After,
            Self::After => Self::Before,
        }
    }
}

impl FinalLayers {
    /// Those of a model of this shape, whose parameters come from the builder.
    pub(crate) fn build<E>(shape: &Shape, parameters: &mut ParameterBuilder<'_, E>) -> Result<Self, E> {
        let input = HeadInput::build(parameters, shape)?;
        // Not transposed where the file has it by class: there is no second copy in memory.
        let head = match (shape.head.is_tied, shape.head.has_bias) {
            (true, _) => Head::new(parameters.plain(EMBEDDING)?.into_value(), true),
            (false, false) => Head::new(parameters.plain(HEAD)?.into_value(), true),
            (false, true) => Head::new(parameters.plain(HEAD)?.into_value(), false),
        };
        let head = head.bounded(shape.head.softcap);
        Ok(Self { input, head, vocab_size: shape.vocab_size })
    }

    /// Number of classes: rows of the head, including those of no token.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// What the head is applied to. states: \[n, [`states_width`](ModelConfig::states_width)\].
    pub fn head_input(&self, states: Tensor<2>, side: NormSide) -> Tensor<2> {
        match side {
            NormSide::Before => self.input.after_norm(self.input.norm(states)),
            NormSide::After => self.input.after_norm(states),
        }
    }

    /// The head, outside any graph.
    pub fn head(&self) -> &Head {
        &self.head
    }
}
