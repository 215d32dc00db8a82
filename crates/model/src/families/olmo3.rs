//! OLMo 3.

use super::blocks::Rope;
use super::layout::Names;
use super::olmo2::Olmo2;
use super::rotary::LOCAL_BASE;
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, windows};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Base of the rotary angles in layers with a window; if left out, that of the others.
    rope_local_base_freq: Option<f64>,
}

/// Olmo3's family.
pub(super) struct Olmo3;

impl Family for Olmo3 {
    fn architecture(&self) -> &'static str {
        "Olmo3ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { rope_theta: None, ..Olmo2.defaults() }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "sliding_window", "layer_types"]
    }

    /// Every fourth layer sees everything, the others the window.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_by_layer(all, keys, |layer| !(layer + 1).is_multiple_of(4));
        Ok(())
    }

    /// The base of layers with a window is that of the others unless it is given.
    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        if config.settings::<Settings>().rope_local_base_freq == Some(config.rope_theta) {
            config.settings.remove(LOCAL_BASE);
        }
        Ok(())
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let theta = config.settings::<Settings>().rope_local_base_freq.unwrap_or(config.rope_theta);
        Blocks { rope: Rope::LocalBase(theta), ..Olmo2.blocks(config) }
    }

    fn names(&self, config: &ModelConfig) -> Names {
        Olmo2.names(config)
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let types = ["sliding_attention", "full_attention"];
        let yarn = json!({"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.2});
        vec![json!({}), json!({"rope_scaling": yarn, "sliding_window": 3, "layer_types": types})]
    }
}
