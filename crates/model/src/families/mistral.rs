//! Mistral.

use super::{Blocks, Defaults, Family, ModelConfig};
use serde_json::{Map, Value, json};

/// Mistral's family.
pub(super) struct Mistral;

impl Family for Mistral {
    fn architecture(&self) -> &'static str {
        "MistralForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(8), ..Defaults::new(131_072) }
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["sliding_window"]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["layer_types"]
    }

    /// Every layer sees the window. A config that leaves it out means 4096, and null means none.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        let window = all.get("sliding_window").cloned().unwrap_or(json!(4096));
        let wanted = if window.is_null() { "full_attention" } else { "sliding_attention" };
        let mut types = all.get("layer_types").and_then(Value::as_array).into_iter().flatten();
        if let Some(other) = types.find(|kind| **kind != wanted) {
            return Err(format!(
                "`layer_types` has {other}; all layers of a `mistral` model are alike, here `{wanted}`"
            ));
        }
        keys.insert("sliding_window".to_owned(), window);
        Ok(())
    }

    fn blocks(&self, _: &ModelConfig) -> Blocks {
        Blocks::default()
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        vec![json!({}), json!({"sliding_window": 3, "tie_word_embeddings": false})]
    }
}
