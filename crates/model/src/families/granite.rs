//! Granite 3.

use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::Value;

/// The factors of models with and without experts.
#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Factors {
    /// The factor of scores, instead of 1 / sqrt(head_dim).
    attention_multiplier: f64,
    /// The factor of the embedding.
    embedding_multiplier: f64,
    /// The factor of what a layer adds to the residual stream.
    residual_multiplier: f64,
    /// Logits are divided by it.
    logits_scaling: f64,
}

impl Default for Factors {
    fn default() -> Self {
        Self { attention_multiplier: 1.0, embedding_multiplier: 1.0, residual_multiplier: 1.0, logits_scaling: 1.0 }
    }
}

impl Factors {
    /// Checks that they are numbers by which one can multiply and divide.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, factor) in [
            ("attention_multiplier", self.attention_multiplier),
            ("embedding_multiplier", self.embedding_multiplier),
            ("residual_multiplier", self.residual_multiplier),
            ("logits_scaling", self.logits_scaling),
        ] {
            let is_number = factor.is_finite() && factor != 0.0;
            ConfigError::unless(is_number, key, factor, "a finite number other than 0")?;
        }
        Ok(())
    }

    /// The blocks of a model without experts.
    pub(super) fn blocks(&self, config: &ModelConfig) -> Blocks {
        Blocks {
            qkv_bias: config.attention_bias,
            output_bias: config.attention_bias,
            feed_forward_bias: config.mlp_bias,
            attention_scale: Some(self.attention_multiplier),
            embedding_scale: self.embedding_multiplier,
            residual: self.residual_multiplier,
            logit_scale: 1.0 / self.logits_scaling,
            ..Blocks::default()
        }
    }
}

/// Granite's family.
pub(super) struct Granite;

impl Family for Granite {
    fn architecture(&self) -> &'static str {
        "GraniteForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults::new(2048)
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Factors>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "mlp_bias"]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        config.settings::<Factors>().blocks(config)
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        config.settings::<Factors>().check()
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![
            json!({}),
            json!({"attention_multiplier": 0.3, "embedding_multiplier": 2.0, "residual_multiplier": 0.5,
                "logits_scaling": 0.7, "attention_bias": true}),
        ]
    }
}
