//! Gemma.

use super::hf::{activation, said};
use super::{Blocks, Defaults, Family, ModelConfig};
use crate::Activation;
use crate::decoder::NormKind;
use serde_json::{Map, Value, json};

/// Gemma's family.
pub(super) struct Gemma;

impl Family for Gemma {
    fn architecture(&self) -> &'static str {
        "GemmaForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            num_key_value_heads: Some(16),
            head_dim: Some(256),
            hidden_act: Activation::GeluTanh,
            is_tied: true,
            ..Defaults::new(8192)
        }
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias"]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["hidden_activation"]
    }

    /// Old files name the exact GELU and mean its tanh form, which the models were trained with.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        if let Some(name) = said(all, "hidden_activation") {
            keys.insert("hidden_act".to_owned(), activation(name)?);
        } else if keys.get("hidden_act").is_some_and(|name| name == "gelu") {
            keys.remove("hidden_act");
        }
        Ok(())
    }

    fn written(&self, config: &ModelConfig) -> Value {
        json!({"hidden_activation": config.activation()})
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        Blocks {
            norm: NormKind::RmsOnePlus,
            qkv_bias: config.attention_bias,
            output_bias: config.attention_bias,
            embedding_scale: (config.hidden_size as f64).sqrt(),
            ..Blocks::default()
        }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![json!({}), json!({"attention_bias": true, "hidden_act": "silu", "tie_word_embeddings": false})]
    }
}
