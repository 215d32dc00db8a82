//! SmolLM3.

use super::blocks::Rope;
use super::hf::said;
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, windows};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Every layer of this number has no rotary embedding, unless a file says otherwise.
const EVERY: usize = 4;

fn by_interval(layers: usize, interval: usize) -> Vec<u8> {
    (1..=layers).map(|layer| u8::from(!layer.is_multiple_of(interval))).collect()
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// For each layer whether it has a rotary embedding: despite the name 1 says that it has one, 0 that it has none.
    no_rope_layers: Vec<u8>,
}

/// SmolLm3's family.
pub(super) struct SmolLm3;

impl Family for SmolLm3 {
    fn architecture(&self) -> &'static str {
        "SmolLM3ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(4), rope_theta: Some(2e6), is_tied: true, ..Defaults::new(32_768) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "mlp_bias", "sliding_window", "layer_types"]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["use_sliding_window", "max_window_layers", "no_rope_layer_interval"]
    }

    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        let interval = windows::pattern(all, ["no_rope_layer_interval"; 2], EVERY as u64)?;
        if said(keys, "no_rope_layers").is_none() {
            let layers = all.get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(0) as usize;
            keys.insert("no_rope_layers".to_owned(), json!(by_interval(layers.min(1 << 16), interval)));
        }
        windows::read_if_used(all, keys)
    }

    fn written(&self, config: &ModelConfig) -> Value {
        windows::written_if_used(config)
    }

    /// A recipe that leaves out `no_rope_layers` means that every fourth layer has no rotary embedding.
    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let (own, layers): (Settings, _) = (config.settings(), config.num_hidden_layers);
        let list =
            if own.no_rope_layers.is_empty() { by_interval(layers.min(1 << 16), EVERY) } else { own.no_rope_layers };
        let (key, expected) = ("no_rope_layers", format!("0 or 1 for each of the {layers} layers"));
        let is_one_each = list.len() == layers && list.iter().all(|has| *has <= 1);
        ConfigError::unless(is_one_each, key, format!("{} numbers", list.len()), expected)?;
        config.settings.insert(key.to_owned(), json!(list));
        Ok(())
    }

    fn keep_layers(&self, config: &mut ModelConfig, layers: &[usize]) -> Result<(), ConfigError> {
        let list = config.settings::<Settings>().no_rope_layers;
        let kept: Vec<u8> = layers.iter().filter_map(|&layer| list.get(layer).copied()).collect();
        config.settings.insert("no_rope_layers".to_owned(), json!(kept));
        Ok(())
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        Blocks {
            rope: Rope::In(own.no_rope_layers.iter().map(|has| *has == 1).collect()),
            qkv_bias: config.attention_bias,
            output_bias: config.attention_bias,
            feed_forward_bias: config.mlp_bias,
            ..Blocks::default()
        }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![
            json!({"no_rope_layers": [0, 1]}),
            json!({"attention_bias": true, "mlp_bias": true, "tie_word_embeddings": false}),
        ]
    }
}
