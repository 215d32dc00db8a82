//! Gemma 2.

use super::gemma::Gemma;
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, windows};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The names of a layer's norms since Gemma 2.
pub(super) const NORM_NAMES: &[(&str, &str, Rows)] = &[
    ("attention_output_layernorm", "post_attention_layernorm", Rows::Whole),
    ("post_attention_layernorm", "pre_feedforward_layernorm", Rows::Whole),
    ("feed_forward_output_layernorm", "post_feedforward_layernorm", Rows::Whole),
];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Scores are divided by its square root.
    query_pre_attn_scalar: u32,
    /// The bound that scores approach.
    attn_logit_softcapping: Option<f64>,
    /// The bound that logits approach.
    final_logit_softcapping: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { query_pre_attn_scalar: 256, attn_logit_softcapping: Some(50.0), final_logit_softcapping: Some(30.0) }
    }
}

/// Gemma2's family.
pub(super) struct Gemma2;

impl Family for Gemma2 {
    fn architecture(&self) -> &'static str {
        "Gemma2ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(4), ..Gemma.defaults() }
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

    /// Every other layer sees the window, beginning with the first.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_by_layer(all, keys, |layer| layer.is_multiple_of(2));
        Ok(())
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        Blocks {
            norms: [true; 4],
            attention_scale: Some(f64::from(own.query_pre_attn_scalar).powf(-0.5)),
            attention_softcap: own.attn_logit_softcapping,
            softcap: own.final_logit_softcapping,
            ..Gemma.blocks(config)
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: NORM_NAMES, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let types = ["sliding_attention", "full_attention"];
        vec![
            json!({"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
            json!({"attn_logit_softcapping": null, "final_logit_softcapping": null, "query_pre_attn_scalar": 9,
                "sliding_window": 3, "layer_types": types}),
        ]
    }
}
