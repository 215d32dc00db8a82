//! What a decoder is built of, whatever its family: the blocks, their sizes, and the tensors that they need.

use crate::host::Heads;
use crate::rope::RotarySpeeds;

/// The embedding's name, which is also the head's if they are tied.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// The last norm's name.
pub(super) const NORM: &str = "model.norm";
/// The name of a separate head.
pub(crate) const HEAD: &str = "lm_head.weight";

/// The full name of a part of a layer.
pub(super) fn in_layer(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}")
}

/// The blocks of a decoder.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Number of classes.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) hidden_size: usize,
    /// Epsilon of every norm.
    pub(crate) norm_eps: f64,
    /// Whether the embedding is also the head.
    pub(crate) is_tied: bool,
    /// The rotary embedding of every layer.
    pub(crate) speeds: RotarySpeeds,
    /// The layers, first to last.
    pub(crate) layers: Vec<LayerShape>,
}

/// The blocks of a layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerShape {
    /// Its attention.
    pub(crate) attention: AttentionShape,
    /// Its feed-forward network.
    pub(crate) feed_forward: FeedForwardShape,
}

/// An attention.
#[derive(Clone, Debug)]
pub(crate) struct AttentionShape {
    /// Heads and window.
    pub(crate) heads: Heads,
    /// Whether the projections to queries, keys and values have a bias.
    pub(crate) has_qkv_bias: bool,
    /// Whether the projection of its output has one.
    pub(crate) has_output_bias: bool,
    /// Whether each head's queries and keys are normalised.
    pub(crate) has_qk_norm: bool,
}

/// A feed-forward network.
#[derive(Clone, Debug)]
pub(crate) struct FeedForwardShape {
    /// Its inner width.
    pub(crate) size: usize,
    /// Whether its projections have a bias.
    pub(crate) has_bias: bool,
}

impl Shape {
    /// Every parameter with its Hugging Face name and shape (linear weights are \[out, in\] there), in the order in
    /// which a decoder is built.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let d = self.hidden_size;
        let mut all = vec![(EMBEDDING.to_owned(), vec![self.vocab_size, d])];
        for (i, layer) in self.layers.iter().enumerate() {
            all.extend(layer.tensors(d).into_iter().map(|(part, shape)| (in_layer(i, &part), shape)));
        }
        all.push((format!("{NORM}.weight"), vec![d]));
        if !self.is_tied {
            all.push((HEAD.to_owned(), vec![self.vocab_size, d]));
        }
        all
    }
}

impl LayerShape {
    /// The parameters of a layer whose input has width d, without the layer's own name.
    pub(crate) fn tensors(&self, d: usize) -> Vec<(String, Vec<usize>)> {
        let (attention, f) = (&self.attention, self.feed_forward.size);
        let [q, kv] = attention.heads.token_sizes();
        let [qkv_bias, mlp_bias] = [attention.has_qkv_bias, self.feed_forward.has_bias];
        let linear = |name: &str, out: usize, inner: usize, has_bias: bool| {
            let bias = has_bias.then(|| (format!("{name}.bias"), vec![out]));
            [(format!("{name}.weight"), vec![out, inner])].into_iter().chain(bias)
        };
        let mut all = vec![("input_layernorm.weight".to_owned(), vec![d])];
        all.extend(linear("self_attn.q_proj", q, d, qkv_bias));
        all.extend(linear("self_attn.k_proj", kv, d, qkv_bias));
        all.extend(linear("self_attn.v_proj", kv, d, qkv_bias));
        all.extend(linear("self_attn.o_proj", d, q, attention.has_output_bias));
        if attention.has_qk_norm {
            let norms = ["self_attn.q_norm.weight", "self_attn.k_norm.weight"];
            all.extend(norms.map(|name| (name.to_owned(), vec![attention.heads.head_dim])));
        }
        all.push(("post_attention_layernorm.weight".to_owned(), vec![d]));
        all.extend(linear("mlp.gate_proj", f, d, mlp_bias));
        all.extend(linear("mlp.up_proj", f, d, mlp_bias));
        all.extend(linear("mlp.down_proj", d, f, mlp_bias));
        all
    }
}
