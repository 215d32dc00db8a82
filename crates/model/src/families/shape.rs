//! What follows from a config: blocks, parameters, and their initial values.

use super::ModelConfig;
use crate::decoder::{AttentionShape, EMBEDDING, FeedForwardShape, HEAD, LayerShape, Shape};
use crate::host::Heads;
use crate::rope::RotarySpeeds;

/// Initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Initial {
    /// The same value everywhere.
    Constant(f32),
    /// Normally distributed values with mean 0.
    Normal {
        /// Their standard deviation.
        deviation: f64,
    },
}

impl ModelConfig {
    /// The blocks of the decoder.
    pub(crate) fn shape(&self) -> Shape {
        Shape {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            norm_eps: self.rms_norm_eps,
            is_tied: self.tie_word_embeddings,
            speeds: self.speeds(),
            layers: (0..self.num_hidden_layers).map(|layer| self.layer(layer)).collect(),
        }
    }

    /// The speeds of the rotary embedding.
    pub(super) fn speeds(&self) -> RotarySpeeds {
        RotarySpeeds::new(self.head_dim, self.rope_theta, self.rope_scaling.as_ref())
    }

    /// The blocks of a layer.
    fn layer(&self, layer: usize) -> LayerShape {
        let blocks = self.model_type.family().blocks(self);
        LayerShape {
            attention: AttentionShape {
                heads: Heads {
                    count: self.num_attention_heads,
                    kv_count: self.num_key_value_heads,
                    head_dim: self.head_dim,
                    window: self.window(layer),
                },
                has_qkv_bias: blocks.qkv_bias,
                has_output_bias: blocks.output_bias,
                has_qk_norm: blocks.qk_norm,
            },
            feed_forward: FeedForwardShape { size: self.intermediate_size, has_bias: blocks.feed_forward_bias },
        }
    }

    /// Number of parameters, from the sizes alone.
    pub fn parameters(&self) -> usize {
        usize::try_from(self.parameter_count()).unwrap_or(usize::MAX)
    }

    /// The same without a limit. All layers have the same parameters, so that those of one are enough, and nothing
    /// overflows whatever the sizes are.
    pub(super) fn parameter_count(&self) -> u128 {
        let product = |shape: Vec<usize>| shape.into_iter().map(|n| n as u128).product::<u128>();
        let layer: u128 = self.layer(0).tensors(self.hidden_size).into_iter().map(|(_, shape)| product(shape)).sum();
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        let embedding = product(vec![self.vocab_size, self.hidden_size]);
        embeddings * embedding + self.num_hidden_layers as u128 * layer + self.hidden_size as u128
    }

    /// Every parameter with its Hugging Face name and shape (linear weights are \[out, in\] there).
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.shape().tensors()
    }

    /// The embedding's name if it is also the head.
    pub(crate) fn tied_embedding(&self) -> Option<&'static str> {
        self.tie_word_embeddings.then_some(EMBEDDING)
    }

    /// Whether a file may contain this tensor although no parameter is made from it: older files contain rotary angles,
    /// which every reader computes itself.
    pub(crate) fn is_ignored(name: &str) -> bool {
        name.ends_with(".rotary_emb.inv_freq")
    }

    /// The name of a separate head, whether the model has one or not.
    pub(crate) const HEAD_NAME: &'static str = HEAD;

    /// Initial values of the parameter with this name: normal weights of deviation 0.02, scaled by 1 / sqrt(2 · layers)
    /// for those that write into the residual stream; norms are one, and biases zero.
    pub(crate) fn initial(&self, name: &str) -> Initial {
        if name.ends_with("norm.weight") {
            return Initial::Constant(1.0);
        }
        if name.ends_with(".bias") {
            return Initial::Constant(0.0);
        }
        let into_residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
        let scale = if into_residual { (2.0 * self.num_hidden_layers as f64).sqrt() } else { 1.0 };
        Initial::Normal { deviation: 0.02 / scale }
    }
}
