//! The language model of Qwen3.5, where it is dense.

use super::blocks::OtherMixer;
use super::hf::said;
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, towers};
use crate::decoder::{GatedDeltaShape, MixerShape, NormKind, NormShape, QkNorm};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const PARTS: &[(&str, &str, Rows)] = &[
    ("self_attn.q_proj", "self_attn.q_proj", Rows::FusedByHead),
    ("self_attn.gate_proj", "self_attn.q_proj", Rows::FusedByHead),
    ("linear_attn.conv1d", "linear_attn.conv1d", Rows::Filters),
];
const FULL_LAYERS: &str = "full_attention_layers";

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The layers with attention, counted from 0; the others have the gated delta rule. If left out: every fourth.
    full_attention_layers: Option<Vec<usize>>,
    /// Number of tokens that the convolution before the delta rule sees.
    linear_conv_kernel_dim: usize,
    /// Width of a head of queries or keys there.
    linear_key_head_dim: usize,
    /// Width of a head of values there.
    linear_value_head_dim: usize,
    /// Number of heads of queries and keys there.
    linear_num_key_heads: usize,
    /// Number of heads of values there.
    linear_num_value_heads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            full_attention_layers: None,
            linear_conv_kernel_dim: 4,
            linear_key_head_dim: 128,
            linear_value_head_dim: 128,
            linear_num_key_heads: 16,
            linear_num_value_heads: 32,
        }
    }
}

/// Qwen3.5's family.
pub(super) struct Qwen35;

impl Family for Qwen35 {
    fn architecture(&self) -> &'static str {
        "Qwen3_5ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            num_key_value_heads: Some(4),
            head_dim: Some(256),
            partial_rotary_factor: 0.25,
            ..Defaults::new(32_768)
        }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "partial_rotary_factor"]
    }

    /// The last four say what these models have, or belong to their training.
    fn keys_read(&self) -> &'static [&'static str] {
        &[
            "layer_types",
            "full_attention_interval",
            "attn_output_gate",
            "mamba_ssm_dtype",
            "mtp_num_hidden_layers",
            "mtp_use_dedicated_embeddings",
        ]
    }

    /// Every fourth layer has attention.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        if let Some(other) = said(all, "attn_output_gate").filter(|value| **value != true) {
            return Err(format!("`attn_output_gate` is {other}; in this build's `qwen3_5_text` models it is true"));
        }
        if let Some(kinds) = said(all, "layer_types").and_then(Value::as_array) {
            let known = ["linear_attention", "full_attention"];
            if let Some(other) = kinds.iter().find(|kind| !known.iter().any(|known| *kind == known)) {
                return Err(format!("`layer_types` has {other}; this build knows {known:?}"));
            }
            let full: Vec<usize> = (0..kinds.len()).filter(|&layer| kinds[layer] == "full_attention").collect();
            keys.insert(FULL_LAYERS.to_owned(), json!(full));
        } else if let Some(interval) = said(all, "full_attention_interval") {
            let interval = interval.as_u64().filter(|interval| *interval > 0);
            let interval = interval.ok_or("`full_attention_interval` must be a number of layers")?;
            let layers = all.get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(0);
            // More layers are refused later.
            let full: Vec<u64> = (0..layers.min(1 << 16)).filter(|i| (i + 1).is_multiple_of(interval)).collect();
            keys.insert(FULL_LAYERS.to_owned(), json!(full));
        }
        Ok(())
    }

    fn written(&self, config: &ModelConfig) -> Value {
        let attention = attention_layers(config);
        let kind = |layer| if attention.contains(&layer) { "full_attention" } else { "linear_attention" };
        json!({"layer_types": (0..config.num_hidden_layers).map(kind).collect::<Vec<_>>()})
    }

    /// Layers with attention are named only if they are not every fourth.
    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let (own, layers) = (config.settings::<Settings>(), config.num_hidden_layers);
        for (key, size) in [
            ("linear_key_head_dim", own.linear_key_head_dim),
            ("linear_value_head_dim", own.linear_value_head_dim),
            ("linear_num_key_heads", own.linear_num_key_heads),
            ("linear_num_value_heads", own.linear_num_value_heads),
        ] {
            ConfigError::unless((1..=1 << 16).contains(&size), key, size, "at least 1 and at most 2^16")?;
        }
        let (keys, values) = (own.linear_num_key_heads, own.linear_num_value_heads);
        let expected = format!("a multiple of linear_num_key_heads = {keys}");
        ConfigError::unless(values.is_multiple_of(keys), "linear_num_value_heads", values, expected)?;
        let length = own.linear_conv_kernel_dim;
        ConfigError::unless((2..=64).contains(&length), "linear_conv_kernel_dim", length, "at least 2 and at most 64")?;
        if let Some(mut attention) = own.full_attention_layers {
            attention.sort_unstable();
            attention.dedup();
            let is_there = attention.last().is_none_or(|&last| last < layers);
            let expected = format!("layers from 0 to {}", layers.saturating_sub(1));
            ConfigError::unless(is_there, FULL_LAYERS, format!("{attention:?}"), expected)?;
            config.settings.remove(FULL_LAYERS);
            if !attention.iter().copied().eq(every_fourth(layers)) {
                config.settings.insert(FULL_LAYERS.to_owned(), json!(attention));
            }
        }
        Ok(())
    }

    fn keep_layers(&self, config: &mut ModelConfig, layers: &[usize]) -> Result<(), ConfigError> {
        let source = config.settings::<Settings>().full_attention_layers;
        let has_attention = |layer: usize| match &source {
            Some(attention) => attention.contains(&layer),
            None => (layer + 1).is_multiple_of(4),
        };
        let kept: Vec<usize> = (0..layers.len()).filter(|&place| has_attention(layers[place])).collect();
        config.settings.insert(FULL_LAYERS.to_owned(), json!(kept));
        Ok(())
    }

    /// It would take precedence over `rope_parameters`, which alone tells everything.
    fn keys_not_written(&self) -> &'static [&'static str] {
        &["rope_scaling"]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        let shape = MixerShape::GatedDelta(GatedDeltaShape {
            key_heads: own.linear_num_key_heads,
            value_heads: own.linear_num_value_heads,
            key_dim: own.linear_key_head_dim,
            value_dim: own.linear_value_head_dim,
            conv_length: own.linear_conv_kernel_dim,
            activation: config.activation(),
            norm: NormShape { kind: NormKind::Rms, eps: config.rms_norm_eps, has_weight: true, has_bias: false },
        });
        Blocks {
            norm: NormKind::RmsOnePlus,
            qk_norm: Some(QkNorm::Head),
            qkv_bias: config.attention_bias,
            output_bias: config.attention_bias,
            attention_gate: true,
            other_mixer: Some(OtherMixer { shape, attention_layers: attention_layers(config) }),
            ..Blocks::default()
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: PARTS, ..Names::default() }
    }

    /// Files can also have a layer that predicts a further token.
    fn standard_name(&self, name: &str) -> Option<String> {
        towers::name_in_text_model(name).filter(|name| !name.starts_with("mtp."))
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        let small = json!({"linear_key_head_dim": 4, "linear_value_head_dim": 6, "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "partial_rotary_factor": 0.34});
        let with = |more: Value| -> Value {
            [small.clone(), more].iter().filter_map(Value::as_object).flat_map(Clone::clone).collect()
        };
        vec![
            with(json!({FULL_LAYERS: [1], "attention_bias": true})),
            with(json!({"linear_conv_kernel_dim": 2, "tie_word_embeddings": false})),
        ]
    }
}

/// The layers with attention.
fn attention_layers(config: &ModelConfig) -> Vec<usize> {
    let named = config.settings::<Settings>().full_attention_layers;
    named.unwrap_or_else(|| every_fourth(config.num_hidden_layers).collect())
}

fn every_fourth(layers: usize) -> impl Iterator<Item = usize> {
    (0..layers).filter(|layer| (layer + 1).is_multiple_of(4))
}
