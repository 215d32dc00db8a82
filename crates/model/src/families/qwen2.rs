//! Qwen2 and Qwen2.5.

use super::{Blocks, Defaults, Family, ModelConfig, windows};
use serde_json::{Map, Value};

/// Qwen2's family.
pub(super) struct Qwen2;

impl Family for Qwen2 {
    fn architecture(&self) -> &'static str {
        "Qwen2ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(32), ..Defaults::new(32_768) }
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["sliding_window", "layer_types"]
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

    /// Biases of queries, keys and values are no setting here: all models have them.
    fn blocks(&self, _: &ModelConfig) -> Blocks {
        Blocks { qkv_bias: true, ..Blocks::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let types = ["sliding_attention", "full_attention"];
        vec![
            json!({}),
            json!({"sliding_window": 3, "layer_types": types, "tie_word_embeddings": false}),
            json!({"sliding_window": 2}),
        ]
    }
}
