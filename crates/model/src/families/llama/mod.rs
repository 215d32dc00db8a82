//! The Llama decoder: RMS norm, rotary grouped-query attention, SwiGLU. SmolLM and similar models use it too.

mod config;
mod hf;

pub use config::LlamaConfig;

use crate::CausalLm;
use crate::blocks::{AttentionLayout, attend, rms_norm, swiglu};
use crate::causal_lm::KvCache;
use crate::families::family::Family;
use crate::head::HeadParameter;
use crate::host::{self, Heads};
use crate::parameters::{ParameterBuilder, StoredParameter};
use crate::rope::RotaryAngles;
use crate::sequences::Sequences;
use burn::module::{Module, Param};
use burn::tensor::module::embedding;
use burn::tensor::{Int, Tensor};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A Llama decoder. Linear weights are stored \[in, out\], the transpose of Hugging Face's layout, so that the forward
/// pass and the gradients are plain products.
#[derive(Module, Debug)]
pub struct Llama {
    embed_tokens: Param<Tensor<2>>,
    layers: Vec<Layer>,
    norm: Param<Tensor<1>>,
    lm_head: Option<Param<Tensor<2>>>,
    #[module(skip)]
    config: LlamaConfig,
}

/// One decoder layer.
#[derive(Module, Debug)]
struct Layer {
    input_norm: Param<Tensor<1>>,
    q: Param<Tensor<2>>,
    k: Param<Tensor<2>>,
    v: Param<Tensor<2>>,
    o: Param<Tensor<2>>,
    post_norm: Param<Tensor<1>>,
    gate: Param<Tensor<2>>,
    up: Param<Tensor<2>>,
    down: Param<Tensor<2>>,
}

impl Llama {
    /// The shape of the model.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }
}

impl LlamaConfig {
    /// The shape of an attention.
    fn heads(&self) -> Heads {
        Heads { count: self.num_attention_heads, kv_count: self.num_key_value_heads, head_dim: self.head_dim }
    }
}

impl Family for LlamaConfig {
    const ARCHITECTURE: &'static str = "LlamaForCausalLM";

    type Model = Llama;

    fn from_hf(all: &Map<String, Value>) -> Result<Self, String> {
        Self::read(all)
    }

    fn build<E>(&self, parameters: &mut ParameterBuilder<'_, E>) -> Result<Llama, E> {
        let embed_tokens = parameters.plain(config::EMBEDDING)?;
        let mut layers = Vec::with_capacity(self.num_hidden_layers);
        for layer in 0..self.num_hidden_layers {
            let name = |part: &str| config::in_layer(layer, part);
            layers.push(Layer {
                input_norm: parameters.vector(&name("input_layernorm"))?,
                q: parameters.transposed(&name("self_attn.q_proj"))?,
                k: parameters.transposed(&name("self_attn.k_proj"))?,
                v: parameters.transposed(&name("self_attn.v_proj"))?,
                o: parameters.transposed(&name("self_attn.o_proj"))?,
                post_norm: parameters.vector(&name("post_attention_layernorm"))?,
                gate: parameters.transposed(&name("mlp.gate_proj"))?,
                up: parameters.transposed(&name("mlp.up_proj"))?,
                down: parameters.transposed(&name("mlp.down_proj"))?,
            });
        }
        let norm = parameters.vector(config::NORM)?;
        let lm_head = match self.tie_word_embeddings {
            true => None,
            false => Some(parameters.transposed(config::HEAD)?),
        };
        Ok(Llama { embed_tokens, layers, norm, lm_head, config: self.clone() })
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        let grouped = LlamaConfig {
            vocab_size: 0,
            hidden_size: 12,
            intermediate_size: 20,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 6,
            max_position_embeddings: 0,
            rms_norm_eps: 1e-5,
            rope_theta: 500.0,
            tie_word_embeddings: true,
            bos_token_id: None,
            eos_token_id: Vec::new(),
        };
        let own_head = LlamaConfig {
            num_attention_heads: 2,
            head_dim: 0,
            tie_word_embeddings: false,
            bos_token_id: Some(1),
            eos_token_id: vec![1, 2],
            ..grouped.clone()
        };
        vec![grouped, own_head]
    }
}

impl CausalLm for Llama {
    fn hidden(&self, tokens: Tensor<2, Int>, sequences: &Sequences) -> Tensor<3> {
        let (c, heads) = (&self.config, self.config.heads());
        let mut x = embedding(self.embed_tokens.val(), tokens);
        if host::serves(&x) {
            let angles = Arc::new(RotaryAngles::new(0..sequences.longest(), c.head_dim, c.rope_theta));
            for layer in &self.layers {
                x = layer.forward(x, c, |q, k, v| host::attention(q, k, v, heads, sequences.clone(), angles.clone()));
            }
        } else {
            let layout = AttentionLayout::new(sequences, c.head_dim, c.rope_theta, &self.device());
            for layer in &self.layers {
                x = layer.forward(x, c, |q, k, v| attend(q, k, v, &heads, &layout, None));
            }
        }
        rms_norm(x, &self.norm, c.rms_norm_eps)
    }

    fn step(&self, tokens: Tensor<1, Int>, cache: &mut KvCache) -> Tensor<2> {
        let c = &self.config;
        let (position, past) = cache.next_token(self.layers.len());
        let (heads, layout) = (c.heads(), AttentionLayout::at(position, c.head_dim, c.rope_theta, &self.device()));
        let mut x = embedding(self.embed_tokens.val(), tokens.unsqueeze_dim(1));
        for (layer, entry) in self.layers.iter().zip(past) {
            x = layer.forward(x, c, |q, k, v| attend(q, k, v, &heads, &layout, Some(entry)));
        }
        let [rows, _, d] = x.dims();
        self.head().logits(rms_norm(x, &self.norm, c.rms_norm_eps).reshape([rows, d]))
    }

    fn head(&self) -> HeadParameter<'_> {
        match &self.lm_head {
            Some(head) => HeadParameter::Own(head),
            None => HeadParameter::Tied(&self.embed_tokens),
        }
    }

    fn named_parameters(&self) -> Vec<(String, StoredParameter<'_>)> {
        use StoredParameter::{Plain, Transposed, Vector};
        let mut all = vec![(config::EMBEDDING.to_owned(), Plain(&self.embed_tokens))];
        for (layer, of) in self.layers.iter().enumerate() {
            let parts = [
                ("input_layernorm", Vector(&of.input_norm)),
                ("self_attn.q_proj", Transposed(&of.q)),
                ("self_attn.k_proj", Transposed(&of.k)),
                ("self_attn.v_proj", Transposed(&of.v)),
                ("self_attn.o_proj", Transposed(&of.o)),
                ("post_attention_layernorm", Vector(&of.post_norm)),
                ("mlp.gate_proj", Transposed(&of.gate)),
                ("mlp.up_proj", Transposed(&of.up)),
                ("mlp.down_proj", Transposed(&of.down)),
            ];
            all.extend(parts.map(|(part, stored)| (config::in_layer(layer, part), stored)));
        }
        all.push((config::NORM.to_owned(), Vector(&self.norm)));
        all.extend(self.lm_head.as_ref().map(|head| (config::HEAD.to_owned(), Transposed(head))));
        all
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }
}

impl Layer {
    /// x: \[rows, width, hidden\]. `attention` takes queries, keys and values as the projections produce them, \[rows ·
    /// width, heads · head_dim\].
    fn forward(
        &self,
        x: Tensor<3>,
        c: &LlamaConfig,
        attention: impl FnOnce(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<3> {
        let [rows, width, d] = x.dims();
        let x = x.reshape([rows * width, d]);
        let y = rms_norm(x.clone(), &self.input_norm, c.rms_norm_eps);
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|w| y.clone().matmul(w.val()));
        let x = x + attention(q, k, v).matmul(self.o.val());

        let y = rms_norm(x.clone(), &self.post_norm, c.rms_norm_eps);
        let (gate, up) = (y.clone().matmul(self.gate.val()), y.matmul(self.up.val()));
        (x + swiglu(gate, up).matmul(self.down.val())).reshape([rows, width, d])
    }
}
