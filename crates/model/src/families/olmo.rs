//! OLMo.

use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::decoder::NormKind;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::Value;

/// Epsilon of every norm, which config.json does not have.
const EPS: f64 = 1e-5;

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The bound of every value of queries, keys and values.
    clip_qkv: Option<f64>,
}

/// Olmo's family.
pub(super) struct Olmo;

impl Family for Olmo {
    fn architecture(&self) -> &'static str {
        "OlmoForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: EPS, ..Defaults::new(2048) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias"]
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let clip = config.settings::<Settings>().clip_qkv;
        let is_bound = clip.is_none_or(|most| most > 0.0 && most.is_finite());
        ConfigError::unless(is_bound, "clip_qkv", clip.unwrap_or_default(), "a finite number above 0")?;
        let expected = format!("{EPS:e}, which is fixed in these models");
        ConfigError::unless(config.rms_norm_eps == EPS, "rms_norm_eps", config.rms_norm_eps, expected)
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        Blocks {
            norm: NormKind::Layer,
            norm_weight: false,
            qkv_bias: config.attention_bias,
            output_bias: config.attention_bias,
            clip_qkv: config.settings::<Settings>().clip_qkv,
            ..Blocks::default()
        }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![json!({}), json!({"clip_qkv": 0.5, "attention_bias": true})]
    }
}
