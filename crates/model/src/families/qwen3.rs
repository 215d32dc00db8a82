//! Qwen3, without mixtures of experts.

use super::{Blocks, Defaults, Family, ModelConfig, hf, windows};
use serde_json::{Map, Value, json};

/// Qwen3's family.
pub(super) struct Qwen3;

impl Family for Qwen3 {
    fn architecture(&self) -> &'static str {
        "Qwen3ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(32), head_dim: Some(128), max_position_embeddings: 32_768 }
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "sliding_window", "layer_types"]
    }

    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        keys.insert("attention_bias".to_owned(), json!(hf::flag(all, "attention_bias")?));
        windows::read(all, keys)
    }

    fn written(&self, config: &ModelConfig) -> Value {
        let mut keys = windows::written(config);
        keys["attention_bias"] = json!(config.attention_bias);
        keys
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let bias = config.attention_bias;
        Blocks { qk_norm: true, qkv_bias: bias, output_bias: bias, ..Blocks::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        let types = ["full_attention", "sliding_attention"];
        vec![
            json!({}),
            json!({"attention_bias": true, "sliding_window": 3, "layer_types": types, "tie_word_embeddings": false}),
        ]
    }
}
