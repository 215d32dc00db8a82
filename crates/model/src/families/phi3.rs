//! Phi-3, Phi-3.5 and Phi-4.

use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, windows};
use crate::rope::RopeType;
use serde_json::{Map, Value, json};

const FUSED: &[(&str, &str, Rows)] = &[
    ("self_attn.q_proj", "self_attn.qkv_proj", Rows::Fused),
    ("self_attn.k_proj", "self_attn.qkv_proj", Rows::Fused),
    ("self_attn.v_proj", "self_attn.qkv_proj", Rows::Fused),
    ("mlp.gate_proj", "mlp.gate_up_proj", Rows::Fused),
    ("mlp.up_proj", "mlp.gate_up_proj", Rows::Fused),
];

/// Phi3's family.
pub(super) struct Phi3;

impl Family for Phi3 {
    fn architecture(&self) -> &'static str {
        "Phi3ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: 1e-5, ..Defaults::new(4096) }
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["sliding_window", "partial_rotary_factor"]
    }

    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_everywhere(all, keys);
        Ok(())
    }

    /// Version 4 of `transformers` accepts a table of exactly three keys for long texts, beside the original length.
    fn written(&self, config: &ModelConfig) -> Value {
        let mut keys = json!({"original_max_position_embeddings": config.max_position_embeddings});
        let Some(scaling) = config.rope_scaling.as_ref() else { return keys };
        let original = scaling.original_max_position_embeddings.unwrap_or(config.max_position_embeddings);
        keys["original_max_position_embeddings"] = json!(original);
        let is_usual = scaling.factor == config.max_position_embeddings as f64 / original as f64;
        if scaling.rope_type == RopeType::Longrope && is_usual && scaling.attention_factor.is_none() {
            keys["rope_scaling"] = json!({
                "type": "longrope", "short_factor": scaling.short_factor, "long_factor": scaling.long_factor,
            });
        }
        keys
    }

    fn blocks(&self, _: &ModelConfig) -> Blocks {
        Blocks::default()
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: FUSED, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        let longrope = json!({"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 7,
            "short_factor": [1.0, 1.5, 2.0], "long_factor": [2.0, 3.0, 4.0]});
        vec![
            json!({"tie_word_embeddings": false}),
            json!({"rope_scaling": longrope}),
            json!({"sliding_window": 3, "partial_rotary_factor": 0.7}),
        ]
    }
}
