//! Granite 3.

use super::{Blocks, Defaults, Family, ModelConfig, settings};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Own {
    /// The factor of scores, instead of 1 / sqrt(head_dim).
    attention_multiplier: f64,
    /// The factor of the embedding.
    embedding_multiplier: f64,
    /// The factor of what a layer adds to the residual stream.
    residual_multiplier: f64,
    /// Logits are divided by it.
    logits_scaling: f64,
}

impl Default for Own {
    fn default() -> Self {
        Self { attention_multiplier: 1.0, embedding_multiplier: 1.0, residual_multiplier: 1.0, logits_scaling: 1.0 }
    }
}

/// Checks the factors.
pub(super) fn check(config: &ModelConfig) -> Result<(), ConfigError> {
    let defaults = settings::defaults::<Own>();
    for (key, default) in defaults {
        let factor = config.settings.get(&key).unwrap_or(&default).as_f64().unwrap_or(f64::NAN);
        let is_number = factor.is_finite() && factor != 0.0;
        ConfigError::unless(is_number, key, factor, "a finite number other than 0")?;
    }
    Ok(())
}

/// The factors among settings, which may have others too.
fn factors(config: &ModelConfig) -> Own {
    let known = settings::defaults::<Own>();
    let own = config.settings.iter().filter(|(key, _)| known.contains_key(*key));
    let own = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    serde_json::from_value(Value::Object(own)).unwrap_or_default()
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

    fn default_settings(&self) -> Map<String, Value> {
        settings::defaults::<Own>()
    }

    fn normalised_settings(&self, given: Map<String, Value>) -> Result<Map<String, Value>, String> {
        settings::normalised::<Own>(given)
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "mlp_bias"]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own = factors(config);
        Blocks {
            qkv_bias: config.attention_bias,
            output_bias: config.attention_bias,
            feed_forward_bias: config.mlp_bias,
            attention_scale: Some(own.attention_multiplier),
            embedding_scale: own.embedding_multiplier,
            residual: own.residual_multiplier,
            logit_scale: 1.0 / own.logits_scaling,
            ..Blocks::default()
        }
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        check(config)
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
