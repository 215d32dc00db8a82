//! The decoder: one model of a few blocks, which its [`Shape`] selects. It does not know which family it belongs to.

mod attention;
mod feed_forward;
mod linear;
mod norm;
mod recompute;
mod shape;

pub(crate) use attention::TensorLayout;
#[cfg(test)]
pub(crate) use attention::attend;
pub(crate) use shape::{AttentionShape, EMBEDDING, FeedForwardShape, HEAD, LayerShape, Shape};

use crate::causal_lm::{KvCache, LayerCache};
use crate::head::HeadParameter;
use crate::host;
use crate::parameters::{ParameterBuilder, StoredParameter};
use crate::rope::{RotaryAngles, RotarySpeeds};
use crate::sequences::Sequences;
use crate::{CausalLm, ModelConfig};
use attention::{Attention, Layout};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::module::embedding;
use burn::tensor::{Int, Tensor};
use feed_forward::FeedForward;
use norm::Norm;
use std::sync::Arc;

/// A model of any family.
#[derive(Module, Debug)]
pub struct Model {
    embed_tokens: Param<Tensor<2>>,
    layers: Vec<Layer>,
    norm: Norm,
    lm_head: Option<Param<Tensor<2>>>,
    #[module(skip)]
    speeds: RotarySpeeds,
    #[module(skip)]
    config: ModelConfig,
}

/// One layer: x + attention(norm(x)), then the same with the feed-forward network.
#[derive(Module, Debug)]
struct Layer {
    input_norm: Norm,
    attention: Attention,
    post_norm: Norm,
    feed_forward: FeedForward,
}

impl Model {
    /// Creates the model of this config, whose parameters come from the builder.
    pub(crate) fn build<E>(config: &ModelConfig, parameters: &mut ParameterBuilder<'_, E>) -> Result<Self, E> {
        let shape = config.shape();
        let embed_tokens = parameters.plain(EMBEDDING)?;
        let mut layers = Vec::with_capacity(shape.layers.len());
        for (i, layer) in shape.layers.iter().enumerate() {
            layers.push(Layer::build(parameters, i, layer, shape.norm_eps)?);
        }
        let norm = Norm::build(parameters, shape::NORM, shape.norm_eps)?;
        let lm_head = (!shape.is_tied).then(|| parameters.transposed(HEAD)).transpose()?;
        Ok(Self { embed_tokens, layers, norm, lm_head, speeds: shape.speeds, config: config.clone() })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The input of the first layer.
    fn embedded(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        embedding(self.embed_tokens.val(), tokens)
    }

    /// The layout of a batch for layers whose input is x.
    fn layout(&self, x: &Tensor<3>, sequences: &Sequences) -> Layout {
        match host::serves(x) {
            true => {
                let angles = RotaryAngles::new(0..sequences.longest(), &self.speeds);
                Layout::Host { sequences: sequences.clone(), angles: Arc::new(angles) }
            }
            false => {
                let windows = self.layers.iter().map(|layer| layer.attention.window());
                Layout::Tensors(Box::new(TensorLayout::new(sequences, &self.speeds, windows, &self.device())))
            }
        }
    }
}

impl CausalLm for Model {
    fn hidden(&self, tokens: Tensor<2, Int>, sequences: &Sequences) -> Tensor<3> {
        let mut x = self.embedded(tokens);
        let layout = self.layout(&x, sequences);
        for layer in &self.layers {
            x = layer.forward(x, &layout, None);
        }
        self.norm.forward(x)
    }

    fn hidden_and_inputs(&self, tokens: Tensor<2, Int>, sequences: &Sequences) -> (Tensor<3>, Vec<Tensor<3>>) {
        self.hidden_and_inputs(tokens, sequences)
    }

    fn gradients_by_layer(
        &self,
        tokens: Tensor<2, Int>,
        sequences: &Sequences,
        inputs: Vec<Tensor<3>>,
        of_hidden: Tensor<3>,
    ) -> GradientsParams {
        self.gradients_by_layer(tokens, sequences, inputs, of_hidden)
    }

    fn step(&self, tokens: Tensor<1, Int>, cache: &mut KvCache) -> Tensor<2> {
        let (position, past) = cache.next_token(self.layers.len());
        let layout = Layout::Tensors(Box::new(TensorLayout::at(position, &self.speeds, &self.device())));
        let mut x = embedding(self.embed_tokens.val(), tokens.unsqueeze_dim(1));
        for (layer, entry) in self.layers.iter().zip(past) {
            x = layer.forward(x, &layout, Some(entry));
        }
        let [rows, _, d] = x.dims();
        self.head().logits(self.norm.forward(x).reshape([rows, d]))
    }

    fn head(&self) -> HeadParameter<'_> {
        match &self.lm_head {
            Some(head) => HeadParameter::Own(head),
            None => HeadParameter::Tied(&self.embed_tokens),
        }
    }

    fn named_parameters(&self) -> Vec<(String, StoredParameter<'_>)> {
        let mut all = vec![(EMBEDDING.to_owned(), StoredParameter::Plain(&self.embed_tokens))];
        all.extend(self.layers.iter().enumerate().flat_map(|(i, layer)| layer.named(i)));
        all.push(self.norm.named(shape::NORM));
        all.extend(self.lm_head.as_ref().map(|head| (HEAD.to_owned(), StoredParameter::Transposed(head))));
        all
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }
}

/// The names of a layer's parts.
const INPUT_NORM: &str = "input_layernorm";
const ATTENTION: &str = "self_attn";
const POST_NORM: &str = "post_attention_layernorm";
const FEED_FORWARD: &str = "mlp";

impl Layer {
    fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        index: usize,
        shape: &LayerShape,
        eps: f64,
    ) -> Result<Self, E> {
        let name = |part| shape::in_layer(index, part);
        Ok(Self {
            input_norm: Norm::build(parameters, &name(INPUT_NORM), eps)?,
            attention: Attention::build(parameters, &name(ATTENTION), &shape.attention, eps)?,
            post_norm: Norm::build(parameters, &name(POST_NORM), eps)?,
            feed_forward: FeedForward::build(parameters, &name(FEED_FORWARD), &shape.feed_forward)?,
        })
    }

    /// x: \[rows, width, hidden\]; output as x.
    fn forward(&self, x: Tensor<3>, layout: &Layout, past: Option<&mut LayerCache>) -> Tensor<3> {
        let [rows, width, d] = x.dims();
        let x = x.reshape([rows * width, d]);
        let x = x.clone() + self.attention.forward(self.input_norm.forward(x), layout, past);
        let x = x.clone() + self.feed_forward.forward(self.post_norm.forward(x));
        x.reshape([rows, width, d])
    }

    fn named(&self, index: usize) -> Vec<(String, StoredParameter<'_>)> {
        let name = |part| shape::in_layer(index, part);
        let mut all = vec![self.input_norm.named(&name(INPUT_NORM))];
        all.extend(self.attention.named(&name(ATTENTION)));
        all.push(self.post_norm.named(&name(POST_NORM)));
        all.extend(self.feed_forward.named(&name(FEED_FORWARD)));
        all
    }
}
