//! The language model of Gemma 3.

use super::blocks::Rope;
use super::gemma::Gemma;
use super::gemma2::NORM_NAMES;
use super::layout::Names;
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, towers, windows};
use crate::decoder::QkNorm;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Scores are divided by its square root.
    query_pre_attn_scalar: u32,
    /// The bound that scores approach.
    attn_logit_softcapping: Option<f64>,
    /// The bound that logits approach.
    final_logit_softcapping: Option<f64>,
    /// Base of the rotary angles in layers with a window.
    rope_local_base_freq: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            query_pre_attn_scalar: 256,
            attn_logit_softcapping: None,
            final_logit_softcapping: None,
            rope_local_base_freq: 10_000.0,
        }
    }
}

/// Gemma3's family.
pub(super) struct Gemma3;

impl Family for Gemma3 {
    fn architecture(&self) -> &'static str {
        "Gemma3ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            num_key_value_heads: Some(4),
            max_position_embeddings: 131_072,
            rope_theta: Some(1e6),
            ..Gemma.defaults()
        }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "sliding_window", "layer_types"]
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("hidden_act", "hidden_activation")]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &windows::PATTERN_KEYS
    }

    /// Every sixth layer sees everything, the others the window.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_by_pattern(all, keys, 6)
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        Blocks {
            norms: [true; 4],
            qk_norm: Some(QkNorm::Head),
            rope: Rope::LocalBase(own.rope_local_base_freq),
            attention_scale: Some(f64::from(own.query_pre_attn_scalar).powf(-0.5)),
            attention_softcap: own.attn_logit_softcapping,
            softcap: own.final_logit_softcapping,
            ..Gemma.blocks(config)
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: NORM_NAMES, ..Names::default() }
    }

    fn standard_name(&self, name: &str) -> Option<String> {
        towers::name_in_text_model(name)
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let types = ["sliding_attention", "full_attention"];
        vec![
            json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "sliding_window": 3, "layer_types": types}),
            json!({"query_pre_attn_scalar": 9, "final_logit_softcapping": 3.0, "sliding_window": 3,
                "rope_local_base_freq": 50.0, "hidden_act": "relu"}),
        ]
    }
}
