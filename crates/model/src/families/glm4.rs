//! GLM-4 (0414).

use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig};
#[cfg(test)]
use serde_json::Value;

const PARTS: &[(&str, &str, Rows)] = &[
    ("attention_output_layernorm", "post_self_attn_layernorm", Rows::Whole),
    ("feed_forward_output_layernorm", "post_mlp_layernorm", Rows::Whole),
    ("mlp.gate_proj", "mlp.gate_up_proj", Rows::Fused),
    ("mlp.up_proj", "mlp.gate_up_proj", Rows::Fused),
];

/// Glm4's family.
pub(super) struct Glm4;

impl Family for Glm4 {
    fn architecture(&self) -> &'static str {
        "Glm4ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            num_key_value_heads: Some(2),
            head_dim: Some(128),
            norm_eps: 1.5625e-7,
            partial_rotary_factor: 0.5,
            attention_bias: true,
            ..Defaults::new(131_072)
        }
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "partial_rotary_factor"]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        Blocks { norms: [true; 4], qkv_bias: config.attention_bias, ..Blocks::default() }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: PARTS, ..Names::default() }
    }

    fn pairs_are_neighbours(&self) -> bool {
        true
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        // 4 and 8 of 12 dimensions turn.
        vec![
            json!({"head_dim": 12, "partial_rotary_factor": 0.34, "tie_word_embeddings": false}),
            json!({"head_dim": 12, "partial_rotary_factor": 0.67, "attention_bias": true}),
        ]
    }
}
