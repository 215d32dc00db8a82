//! GPT-NeoX and Pythia.

use super::hf::said;
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::Activation;
use crate::decoder::Order;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const OUTSIDE: &[(&str, &str)] = &[
    ("model.embed_tokens", "gpt_neox.embed_in"),
    ("model.norm", "gpt_neox.final_layer_norm"),
    ("lm_head", "embed_out"),
];

const PARTS: &[(&str, &str, Rows)] = &[
    ("self_attn.q_proj", "attention.query_key_value", Rows::FusedByGroup),
    ("self_attn.k_proj", "attention.query_key_value", Rows::FusedByGroup),
    ("self_attn.v_proj", "attention.query_key_value", Rows::FusedByGroup),
    ("self_attn.o_proj", "attention.dense", Rows::Whole),
    ("mlp.up_proj", "mlp.dense_h_to_4h", Rows::Whole),
    ("mlp.down_proj", "mlp.dense_4h_to_h", Rows::Whole),
];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether attention and feed-forward network have the same input.
    use_parallel_residual: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { use_parallel_residual: true }
    }
}

/// GptNeox's family.
pub(super) struct GptNeox;

impl Family for GptNeox {
    fn architecture(&self) -> &'static str {
        "GPTNeoXForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: 1e-5, partial_rotary_factor: 0.25, hidden_act: Activation::Gelu, ..Defaults::new(2048) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["partial_rotary_factor"]
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("rms_norm_eps", "layer_norm_eps"),
            ("partial_rotary_factor", "rotary_pct"),
            ("rope_theta", "rotary_emb_base"),
        ]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["attention_bias"]
    }

    /// Both versions of `transformers` write it, and no published model lacks the biases.
    fn read(&self, all: &Map<String, Value>, _: &mut Map<String, Value>) -> Result<(), String> {
        match said(all, "attention_bias") {
            None | Some(Value::Bool(true)) => Ok(()),
            Some(other) => Err(format!("`attention_bias` is {other}; in this build's `gpt_neox` models it is true")),
        }
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        config.require_plain_heads()
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let is_parallel = config.settings::<Settings>().use_parallel_residual;
        Blocks {
            order: if is_parallel { Order::Parallel } else { Order::Sequential },
            gate: false,
            ..Blocks::with_layer_norms().with_biases(true)
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { outside: OUTSIDE, layers: Some("gpt_neox.layers."), parts: PARTS }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let plain = json!({"num_key_value_heads": 4, "head_dim": 0, "hidden_size": 32});
        let with = |more: Value| -> Value {
            [plain.clone(), more].iter().filter_map(Value::as_object).flat_map(Clone::clone).collect()
        };
        vec![
            with(json!({"tie_word_embeddings": false})),
            with(json!({"use_parallel_residual": false, "partial_rotary_factor": 0.5, "hidden_act": "relu"})),
        ]
    }
}
