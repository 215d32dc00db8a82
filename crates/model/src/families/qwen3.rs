//! Qwen3, without mixtures of experts.

use super::{Blocks, Defaults, Family, ModelConfig, windows};
use crate::decoder::QkNorm;
use serde_json::{Map, Value};

/// Qwen3's family.
pub(super) struct Qwen3;

impl Family for Qwen3 {
    fn architecture(&self) -> &'static str {
        "Qwen3ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(32), head_dim: Some(128), ..Defaults::new(32_768) }
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "sliding_window", "layer_types"]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["use_sliding_window", "max_window_layers"]
    }

    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_if_used(all, keys)
    }

    fn written(&self, config: &ModelConfig) -> Value {
        windows::written_if_used(config)
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let bias = config.attention_bias;
        Blocks { qk_norm: Some(QkNorm::Head), qkv_bias: bias, output_bias: bias, ..Blocks::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let types = ["full_attention", "sliding_attention"];
        vec![
            json!({}),
            json!({"attention_bias": true, "sliding_window": 3, "layer_types": types, "tie_word_embeddings": false}),
        ]
    }
}
