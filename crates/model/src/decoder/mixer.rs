//! What mixes the tokens of a layer.

use super::attention::{Attention, Layout, Past};
use super::gated_delta::GatedDelta;
use super::mixer_shape::{ATTENTION, AttentionShape, GATED_DELTA, MixerShape, SHORT_CONV};
use super::shape::in_layer;
use super::short_conv::ShortConv;
use crate::kv_cache::State;
use crate::parameters::{ParameterBuilder, StoredParameter};
use burn::module::Module;
use burn::tensor::Tensor;

/// One of the kinds.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "the larger variant is that of nearly all layers")]
pub(super) enum Mixer {
    /// Attention.
    Attention(Attention),
    /// A gated convolution over a few tokens.
    ShortConv(ShortConv),
    /// Linear attention by the gated delta rule.
    GatedDelta(GatedDelta),
}

impl Mixer {
    /// That of the layer with this index.
    pub(super) fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        index: usize,
        shape: &MixerShape,
    ) -> Result<Self, E> {
        Ok(match shape {
            MixerShape::Attention(shape) => {
                Self::Attention(Attention::build(parameters, &in_layer(index, ATTENTION), shape)?)
            }
            MixerShape::ShortConv(shape) => {
                Self::ShortConv(ShortConv::build(parameters, &in_layer(index, SHORT_CONV), shape)?)
            }
            MixerShape::GatedDelta(shape) => {
                Self::GatedDelta(GatedDelta::build(parameters, &in_layer(index, GATED_DELTA), shape)?)
            }
        })
    }

    /// The shape of the attention, if it is one.
    pub(super) fn attention(&self) -> Option<&AttentionShape> {
        match self {
            Self::Attention(attention) => Some(attention.shape()),
            Self::ShortConv(_) | Self::GatedDelta(_) => None,
        }
    }

    /// x: \[tokens, hidden\]; output as x.
    ///
    /// # Panics
    /// For [`Past::Start`] of what is no attention.
    pub(super) fn forward(&self, x: Tensor<2>, layout: &Layout, past: Option<Past<'_>>) -> Tensor<2> {
        match self {
            Self::Attention(attention) => attention.forward(x, layout, past),
            Self::ShortConv(conv) => conv.forward(x, layout.sequences(), state_of(past)),
            Self::GatedDelta(delta) => delta.forward(x, layout.sequences(), state_of(past)),
        }
    }

    /// The parameters of that of the layer with this index, with their names.
    pub(super) fn named(&self, index: usize) -> Vec<(String, StoredParameter<'_>)> {
        match self {
            Self::Attention(attention) => attention.named(&in_layer(index, ATTENTION)),
            Self::ShortConv(conv) => conv.named(&in_layer(index, SHORT_CONV)),
            Self::GatedDelta(delta) => delta.named(&in_layer(index, GATED_DELTA)),
        }
    }
}

/// The state of a layer without attention.
fn state_of(past: Option<Past<'_>>) -> Option<&mut State> {
    match past? {
        Past::Step(entry) => Some(entry.state()),
        Past::Start(..) => unreachable!("texts are read one token at a time where a layer has no attention"),
    }
}
