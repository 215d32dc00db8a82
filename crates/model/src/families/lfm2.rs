//! LFM2.

use super::blocks::OtherMixer;
use super::hf::{flag, said};
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::decoder::{MixerShape, QkNorm, ShortConvShape};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const PARTS: &[(&str, &str, Rows)] = &[
    ("input_layernorm", "operator_norm", Rows::Whole),
    ("post_attention_layernorm", "ffn_norm", Rows::Whole),
    ("self_attn.o_proj", "self_attn.out_proj", Rows::Whole),
    ("self_attn.q_norm", "self_attn.q_layernorm", Rows::Whole),
    ("self_attn.k_norm", "self_attn.k_layernorm", Rows::Whole),
    ("conv.conv", "conv.conv", Rows::Filters),
    ("mlp.gate_proj", "feed_forward.w1", Rows::Whole),
    ("mlp.up_proj", "feed_forward.w3", Rows::Whole),
    ("mlp.down_proj", "feed_forward.w2", Rows::Whole),
];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The layers with attention, counted from 0; the others have a convolution. If left out: all.
    full_attn_idxs: Option<Vec<usize>>,
    /// Number of tokens that a convolution sees.
    #[serde(rename = "conv_L_cache")]
    conv_length: usize,
    /// Whether convolutions and their projections have a bias.
    conv_bias: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { full_attn_idxs: None, conv_length: 3, conv_bias: false }
    }
}

/// Lfm2's family.
pub(super) struct Lfm2;

impl Family for Lfm2 {
    fn architecture(&self) -> &'static str {
        "Lfm2ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            num_key_value_heads: Some(8),
            norm_eps: 1e-5,
            rope_theta: Some(1e6),
            is_tied: true,
            ..Defaults::new(128_000)
        }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("rms_norm_eps", "norm_eps")]
    }

    /// The last twelve repeat other keys in published files, or say how training begins; `transformers` does not look at
    /// them.
    fn keys_read(&self) -> &'static [&'static str] {
        &[
            "layer_types",
            "tie_embedding",
            "block_ff_dim",
            "block_auto_adjust_ff_dim",
            "block_ffn_dim_multiplier",
            "block_multiple_of",
            "block_dim",
            "block_mlp_init_scale",
            "block_norm_eps",
            "block_out_init_scale",
            "block_use_swiglu",
            "block_use_xavier_init",
            "conv_dim",
            "conv_dim_out",
            "conv_use_xavier_init",
            "num_heads",
            "theta",
            "use_pos_enc",
        ]
    }

    /// Older files have other names for the inner width and for tying, which take precedence. Unless a file says
    /// otherwise, the width is what two thirds of that number are rounded up to.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        keys.extend(said(all, "tie_embedding").map(|tied| ("tie_word_embeddings".to_owned(), tied.clone())));
        keys.extend(said(all, "block_ff_dim").map(|size| ("intermediate_size".to_owned(), size.clone())));
        if flag(all, "block_auto_adjust_ff_dim", true)? {
            let size = keys.get("intermediate_size").and_then(Value::as_u64);
            let size = adjusted(size.ok_or("`intermediate_size` must be a number")?, all)?;
            keys.insert("intermediate_size".to_owned(), json!(size));
        }
        if let Some(kinds) = said(all, "layer_types").and_then(Value::as_array) {
            if let Some(other) = kinds.iter().find(|kind| **kind != "conv" && **kind != "full_attention") {
                return Err(format!("`layer_types` has {other}; this build knows \"conv\" and \"full_attention\""));
            }
            let full: Vec<usize> = (0..kinds.len()).filter(|&layer| kinds[layer] != "conv").collect();
            keys.insert("full_attn_idxs".to_owned(), json!(full));
        }
        Ok(())
    }

    fn written(&self, config: &ModelConfig) -> Value {
        let attention = attention_layers(config);
        let kind = |layer| if attention.contains(&layer) { "full_attention" } else { "conv" };
        json!({
            "block_auto_adjust_ff_dim": false,
            "block_ff_dim": config.intermediate_size,
            "full_attn_idxs": attention,
            "layer_types": (0..config.num_hidden_layers).map(kind).collect::<Vec<_>>(),
            "tie_embedding": config.tie_word_embeddings,
        })
    }

    /// Layers with attention are named only if others have none.
    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let (own, layers) = (config.settings::<Settings>(), config.num_hidden_layers);
        let length = own.conv_length;
        ConfigError::unless((2..=64).contains(&length), "conv_L_cache", length, "at least 2 and at most 64")?;
        if let Some(mut attention) = own.full_attn_idxs {
            attention.sort_unstable();
            attention.dedup();
            let is_there = attention.last().is_none_or(|&last| last < layers);
            let expected = format!("layers from 0 to {}", layers.saturating_sub(1));
            ConfigError::unless(is_there, "full_attn_idxs", format!("{attention:?}"), expected)?;
            config.settings.remove("full_attn_idxs");
            if attention.len() < layers {
                config.settings.insert("full_attn_idxs".to_owned(), json!(attention));
            }
        }
        Ok(())
    }

    fn keep_layers(&self, config: &mut ModelConfig, layers: &[usize]) -> Result<(), ConfigError> {
        if let Some(attention) = config.settings::<Settings>().full_attn_idxs {
            let kept: Vec<usize> = (0..layers.len()).filter(|&place| attention.contains(&layers[place])).collect();
            config.settings.insert("full_attn_idxs".to_owned(), json!(kept));
        }
        Ok(())
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        let shape = MixerShape::ShortConv(ShortConvShape { length: own.conv_length, has_bias: own.conv_bias });
        let attention_layers = attention_layers(config);
        Blocks {
            qk_norm: Some(QkNorm::Head),
            other_mixer: Some(OtherMixer { shape, attention_layers }),
            ..Blocks::default()
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { outside: &[("model.norm", "model.embedding_norm")], parts: PARTS, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        vec![
            json!({"full_attn_idxs": [1]}),
            json!({"full_attn_idxs": [], "conv_L_cache": 4, "conv_bias": true, "tie_word_embeddings": false}),
        ]
    }
}

/// The layers with attention.
fn attention_layers(config: &ModelConfig) -> Vec<usize> {
    let named = config.settings::<Settings>().full_attn_idxs;
    named.unwrap_or_else(|| (0..config.num_hidden_layers).collect())
}

/// Two thirds of `size` times `block_ffn_dim_multiplier`, rounded up to a multiple of `block_multiple_of`.
fn adjusted(size: u64, all: &Map<String, Value>) -> Result<u64, String> {
    let size = (2.0 * size as f64 / 3.0).floor();
    // Only null says that there is no factor, and then nothing is rounded.
    if all.get("block_ffn_dim_multiplier").is_some_and(Value::is_null) {
        return Ok(size as u64);
    }
    let number = |key: &str, default: f64| match said(all, key) {
        None => Ok(default),
        Some(value) => value.as_f64().ok_or(format!("`{key}` is {value}, it must be a number")),
    };
    let (factor, multiple) = (number("block_ffn_dim_multiplier", 1.0)?, number("block_multiple_of", 256.0)?);
    if multiple < 1.0 {
        return Err(format!("`block_multiple_of` is {multiple}, it must be at least 1"));
    }
    Ok(((factor * size).floor() / multiple).ceil() as u64 * multiple as u64)
}
