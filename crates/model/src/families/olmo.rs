//! OLMo.

use super::{Blocks, Defaults, Family, ModelConfig, settings};
use crate::decoder::NormKind;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Epsilon of every norm, which config.json does not have.
const EPS: f64 = 1e-5;

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Own {
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

    fn default_settings(&self) -> Map<String, Value> {
        settings::defaults::<Own>()
    }

    fn normalised_settings(&self, given: Map<String, Value>) -> Result<Map<String, Value>, String> {
        settings::normalised::<Own>(given)
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias"]
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let clip = config.settings::<Own>().clip_qkv;
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
            clip_qkv: config.settings::<Own>().clip_qkv,
            ..Blocks::default()
        }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![json!({}), json!({"clip_qkv": 0.5, "attention_bias": true})]
    }
}
