//! The decoder: one model of a few blocks, which its [`Shape`] selects. It does not know which family it belongs to.

mod attention;
mod causal_conv;
mod compute_copy;
mod embedding;
mod experts;
mod feed_forward;
mod final_layers;
mod gated_delta;
mod head_input;
mod layer;
mod linear;
mod mixer;
mod mixer_shape;
mod norm;
mod prefill;
mod recompute;
mod shape;
mod short_conv;
mod tensor_attention;

pub use final_layers::{FinalLayers, NormSide};
pub(crate) use mixer_shape::*;
pub(crate) use shape::*;
pub(crate) use tensor_attention::TensorLayout;
#[cfg(test)]
pub(crate) use tensor_attention::attend;

use crate::head::{HeadParameter, HeadWeights};
use crate::host;
use crate::kv_cache::KvCache;
use crate::parameters::{ParameterBuilder, StoredParameter};
use crate::rope::{RotaryAngles, RotarySpeeds};
use crate::sequences::{Packing, Sequences};
use crate::{CausalLm, ModelConfig};
use attention::{Layout, Past};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Int, Tensor};
use embedding::Embedding;
use head_input::HeadInput;
use layer::Layer;
use std::sync::Arc;

/// A model of any family.
#[derive(Module, Debug)]
pub struct Model {
    embedding: Embedding,
    layers: Vec<Layer>,
    head_input: HeadInput,
    lm_head: Option<Param<Tensor<2>>>,
    #[module(skip)]
    head: HeadShape,
    #[module(skip)]
    ropes: Vec<RotarySpeeds>,
    #[module(skip)]
    config: ModelConfig,
}

impl Model {
    /// Creates the model of this config, whose parameters come from the builder.
    pub(crate) fn build<E>(config: &ModelConfig, parameters: &mut ParameterBuilder<'_, E>) -> Result<Self, E> {
        let shape = config.shape();
        let embedding = Embedding::build(parameters, &shape)?;
        let mut layers = Vec::with_capacity(shape.layers.len());
        for (i, layer) in shape.layers.iter().enumerate() {
            layers.push(Layer::build(parameters, i, layer)?);
        }
        let head_input = HeadInput::build(parameters, &shape)?;
        let lm_head = match (shape.head.is_tied, shape.head.has_bias) {
            (true, _) => None,
            (false, false) => Some(parameters.transposed(HEAD)?),
            (false, true) => Some(parameters.plain(HEAD)?),
        };
        let (head, ropes) = (shape.head, shape.ropes);
        Ok(Self { embedding, layers, head_input, lm_head, head, ropes, config: config.clone() })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The windows of all attentions.
    fn windows(&self) -> impl Iterator<Item = Option<usize>> {
        self.layers.iter().filter_map(Layer::attention).map(|shape| shape.heads.window)
    }

    /// The layout of a batch for layers whose input is x.
    fn layout(&self, x: &Tensor<3>, sequences: &Sequences) -> Layout {
        match host::serves(x) {
            true => {
                let angles = |speeds| Arc::new(RotaryAngles::new(0..sequences.longest(), speeds));
                Layout::Host { sequences: sequences.clone(), angles: self.ropes.iter().map(angles).collect() }
            }
            false => {
                Layout::Tensors(Box::new(TensorLayout::new(sequences, &self.ropes, self.windows(), &self.device())))
            }
        }
    }
}

impl CausalLm for Model {
    fn hidden(&self, tokens: Tensor<2, Int>, sequences: &Sequences) -> Tensor<3> {
        let mut x = self.embedding.forward(tokens, sequences);
        let layout = self.layout(&x, sequences);
        for layer in &self.layers {
            x = layer.forward(x, &layout, None);
        }
        self.head_input.forward(x)
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

    fn computing_in(&self, dtype: DType) -> Self {
        self.computing_in(dtype)
    }

    fn prefill(&self, texts: &[&[u32]]) -> (Tensor<2>, KvCache) {
        self.read_texts(texts)
    }

    fn step(&self, tokens: Tensor<1, Int>, cache: &mut KvCache) -> Tensor<2> {
        let (before, padding, past) = cache.next_token(self.layers.len());
        let rows = tokens.dims()[0];
        let layout = TensorLayout::after(before, padding, rows, &self.ropes, self.windows(), &self.device());
        let mut x = self.embedding.step(tokens, layout.positions());
        let layout = Layout::Tensors(Box::new(layout));
        for (layer, entry) in self.layers.iter().zip(past) {
            x = layer.forward(x, &layout, Some(Past::Step(entry)));
        }
        let x = self.head_input.forward(x);
        let [rows, _, size] = x.dims();
        self.head().logits(x.reshape([rows, size]))
    }

    fn head(&self) -> HeadParameter<'_> {
        let weights = match &self.lm_head {
            Some(head) => HeadWeights::Own(head),
            None => HeadWeights::Tied(self.embedding.tokens()),
        };
        HeadParameter { weights, softcap: self.head.softcap, dtype: self.embedding.dtype() }
    }

    fn named_parameters(&self) -> Vec<(String, StoredParameter<'_>)> {
        let mut all = self.embedding.named();
        all.extend(self.layers.iter().enumerate().flat_map(|(i, layer)| layer.named(i)));
        all.extend(self.head_input.named());
        let stored = if self.head.has_bias { StoredParameter::Plain } else { StoredParameter::Transposed };
        all.extend(self.lm_head.as_ref().map(|head| (HEAD.to_owned(), stored(head))));
        all
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn packing(&self) -> Packing {
        Packing::fastest(&self.device(), self.embedding.dtype())
    }
}
