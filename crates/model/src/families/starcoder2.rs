//! StarCoder2.

use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, windows};
use crate::Activation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const PARTS: &[(&str, &str, Rows)] =
    &[("mlp.up_proj", "mlp.c_fc", Rows::Whole), ("mlp.down_proj", "mlp.c_proj", Rows::Whole)];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether projections have biases.
    use_bias: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { use_bias: true }
    }
}

/// Starcoder2's family.
pub(super) struct Starcoder2;

impl Family for Starcoder2 {
    fn architecture(&self) -> &'static str {
        "Starcoder2ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            num_key_value_heads: Some(2),
            norm_eps: 1e-5,
            hidden_act: Activation::GeluTanh,
            is_tied: true,
            ..Defaults::new(4096)
        }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["sliding_window"]
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("rms_norm_eps", "norm_epsilon")]
    }

    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_everywhere(all, keys);
        Ok(())
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let has_bias = config.settings::<Settings>().use_bias;
        Blocks { gate: false, ..Blocks::with_layer_norms().with_biases(has_bias) }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: PARTS, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![json!({"sliding_window": 3}), json!({"use_bias": false, "tie_word_embeddings": false})]
    }
}
