//! GPT-2.

use super::blocks::Rope;
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::Activation;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const OUTSIDE: &[(&str, &str)] = &[
    ("model.embed_tokens", "transformer.wte"),
    ("model.embed_positions", "transformer.wpe"),
    ("model.norm", "transformer.ln_f"),
];

const PARTS: &[(&str, &str, Rows)] = &[
    ("input_layernorm", "ln_1", Rows::Whole),
    ("self_attn.q_proj", "attn.c_attn", Rows::FusedColumns),
    ("self_attn.k_proj", "attn.c_attn", Rows::FusedColumns),
    ("self_attn.v_proj", "attn.c_attn", Rows::FusedColumns),
    ("self_attn.o_proj", "attn.c_proj", Rows::Columns),
    ("post_attention_layernorm", "ln_2", Rows::Whole),
    ("mlp.up_proj", "mlp.c_fc", Rows::Columns),
    ("mlp.down_proj", "mlp.c_proj", Rows::Columns),
];

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether layer i divides scores by i + 1.
    scale_attn_by_inverse_layer_idx: bool,
}

/// Gpt2's family.
pub(super) struct Gpt2;

impl Family for Gpt2 {
    fn architecture(&self) -> &'static str {
        "GPT2LMHeadModel"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: 1e-5, hidden_act: Activation::GeluTanh, is_tied: true, ..Defaults::new(1024) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("hidden_size", "n_embd"),
            ("intermediate_size", "n_inner"),
            ("num_hidden_layers", "n_layer"),
            ("num_attention_heads", "n_head"),
            ("max_position_embeddings", "n_positions"),
            ("rms_norm_eps", "layer_norm_epsilon"),
            ("hidden_act", "activation_function"),
        ]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["n_ctx"]
    }

    fn read(&self, _: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        let inner = keys.get("hidden_size").and_then(Value::as_u64).map(|size| json!(4 * size));
        keys.entry("intermediate_size").or_insert(json!(inner));
        Ok(())
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        config.require_plain_heads()?;
        config.require_no_rotary()
    }

    fn keep_layers(&self, config: &mut ModelConfig, layers: &[usize]) -> Result<(), ConfigError> {
        let is_scaled = config.settings::<Settings>().scale_attn_by_inverse_layer_idx;
        let is_moved = layers.iter().enumerate().any(|(place, layer)| place != *layer);
        let expected = "the first layers only: each divides scores by its place (`scale_attn_by_inverse_layer_idx`)";
        ConfigError::unless(!is_scaled || !is_moved, "layers", format!("{layers:?}"), expected)
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        Blocks {
            gate: false,
            rope: Rope::Nowhere,
            attention_scale_by_layer: config.settings::<Settings>().scale_attn_by_inverse_layer_idx,
            first_position: Some(0),
            ..Blocks::with_layer_norms().with_biases(true)
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { outside: OUTSIDE, layers: Some("transformer.h."), parts: PARTS }
    }

    /// The files of the original models lack the prefix.
    fn standard_name(&self, name: &str) -> Option<String> {
        let is_standard = name.starts_with("transformer.") || name.starts_with("lm_head.");
        Some(if is_standard { name.to_owned() } else { format!("transformer.{name}") })
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let plain = json!({"num_key_value_heads": 4, "head_dim": 0, "hidden_size": 16, "rope_theta": 10_000.0});
        let with = |more: Value| -> Value {
            [plain.clone(), more].iter().filter_map(Value::as_object).flat_map(Clone::clone).collect()
        };
        vec![
            with(json!({})),
            with(json!({"scale_attn_by_inverse_layer_idx": true, "hidden_act": "relu", "tie_word_embeddings": false})),
        ]
    }
}
