//! Cohere's Command R7B and Command A.

use super::blocks::Rope;
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, cohere, windows};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The factor of logits.
    logit_scale: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { logit_scale: 0.0625 }
    }
}

/// Cohere2's family.
pub(super) struct Cohere2;

impl Family for Cohere2 {
    fn architecture(&self) -> &'static str {
        "Cohere2ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: 1e-5, is_tied: true, ..Defaults::new(8192) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "sliding_window", "layer_types"]
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("rms_norm_eps", "layer_norm_eps")]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &windows::PATTERN_KEYS
    }

    /// Every fourth layer sees everything, the others the window.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_by_pattern(all, keys, 4)
    }

    /// Layers that see everything have no rotary embedding.
    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        let rope = Rope::In(config.full_layers().into_iter().map(|is_full| !is_full).collect());
        Blocks { rope, ..cohere::blocks(config, own.logit_scale) }
    }

    fn pairs_are_neighbours(&self) -> bool {
        true
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let types = ["sliding_attention", "full_attention"];
        vec![
            json!({"sliding_window": 3, "layer_types": types}),
            json!({"logit_scale": 2.0, "attention_bias": true, "sliding_window": 3}),
        ]
    }
}
