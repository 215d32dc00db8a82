//! Llama. SmolLM, TinyLlama and similar models use it too.

use super::{Blocks, Defaults, Family, ModelConfig};
#[cfg(test)]
use serde_json::{Value, json};

/// Llama's family.
pub(super) struct Llama;

impl Family for Llama {
    fn architecture(&self) -> &'static str {
        "LlamaForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults::new(2048)
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "mlp_bias"]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let (attention, feed_forward) = (config.attention_bias, config.mlp_bias);
        Blocks { qkv_bias: attention, output_bias: attention, feed_forward_bias: feed_forward, ..Blocks::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        let llama3 = json!({"rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 4,
            "low_freq_factor": 0.25, "high_freq_factor": 0.5});
        vec![
            json!({}),
            json!({"num_attention_heads": 2, "head_dim": 0, "tie_word_embeddings": false, "bos_token_id": 1,
                "eos_token_id": [1, 2]}),
            json!({"attention_bias": true}),
            json!({"mlp_bias": true, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
            json!({"rope_scaling": llama3, "hidden_act": "gelu"}),
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
        ]
    }
}
