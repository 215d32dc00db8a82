//! OPT.

use super::blocks::Rope;
use super::hf::said;
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::Activation;
use crate::decoder::Order;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Epsilon of every norm, which config.json does not have.
const EPS: f64 = 1e-5;

const OUTSIDE: &[(&str, &str)] = &[
    ("model.embed_tokens", "model.decoder.embed_tokens"),
    ("model.embed_positions", "model.decoder.embed_positions"),
    ("model.project_in", "model.decoder.project_in"),
    ("model.project_out", "model.decoder.project_out"),
    ("model.norm", "model.decoder.final_layer_norm"),
];

/// The same norms have the same names in both orders.
const PARTS: &[(&str, &str, Rows)] = &[
    ("input_layernorm", "self_attn_layer_norm", Rows::Whole),
    ("attention_output_layernorm", "self_attn_layer_norm", Rows::Whole),
    ("self_attn.o_proj", "self_attn.out_proj", Rows::Whole),
    ("post_attention_layernorm", "final_layer_norm", Rows::Whole),
    ("feed_forward_output_layernorm", "final_layer_norm", Rows::Whole),
    ("mlp.up_proj", "fc1", Rows::Whole),
    ("mlp.down_proj", "fc2", Rows::Whole),
];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether norms come before attention and feed-forward network instead of after the sum.
    do_layer_norm_before: bool,
    /// The embedding's width; if left out, that of the residual stream.
    word_embed_proj_dim: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { do_layer_norm_before: true, word_embed_proj_dim: None }
    }
}

/// Opt's family.
pub(super) struct Opt;

impl Family for Opt {
    fn architecture(&self) -> &'static str {
        "OPTForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: EPS, hidden_act: Activation::Relu, is_tied: true, ..Defaults::new(2048) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("intermediate_size", "ffn_dim"), ("hidden_act", "activation_function")]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["enable_bias", "layer_norm_elementwise_affine"]
    }

    fn read(&self, all: &Map<String, Value>, _: &mut Map<String, Value>) -> Result<(), String> {
        for key in ["enable_bias", "layer_norm_elementwise_affine"] {
            if let Some(other) = said(all, key).filter(|value| **value != true) {
                return Err(format!("`{key}` is {other}; in this build's `opt` models it is true"));
            }
        }
        Ok(())
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        if config.settings::<Settings>().word_embed_proj_dim == Some(config.hidden_size) {
            config.settings.remove("word_embed_proj_dim");
        }
        let size = config.settings::<Settings>().word_embed_proj_dim.unwrap_or(1);
        ConfigError::unless((1..=1 << 24).contains(&size), "word_embed_proj_dim", size, "at least 1 and at most 2^24")?;
        let expected = format!("{EPS:e}, which is fixed in these models");
        ConfigError::unless(config.rms_norm_eps == EPS, "rms_norm_eps", config.rms_norm_eps, expected)?;
        config.require_plain_heads()?;
        config.require_no_rotary()
    }

    fn written(&self, config: &ModelConfig) -> Value {
        let size = config.settings::<Settings>().word_embed_proj_dim;
        json!({"word_embed_proj_dim": size.unwrap_or(config.hidden_size), "init_std": 0.02, "dropout": 0.0})
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        let (order, norms) = match own.do_layer_norm_before {
            true => (Order::Sequential, [true, false, true, false]),
            false => (Order::NormAfterSum, [false, true, false, true]),
        };
        Blocks {
            order,
            norms,
            last_norm: own.do_layer_norm_before,
            gate: false,
            rope: Rope::Nowhere,
            embedding_size: own.word_embed_proj_dim,
            first_position: Some(2),
            ..Blocks::with_layer_norms().with_biases(true)
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { outside: OUTSIDE, layers: Some("model.decoder.layers."), parts: PARTS }
    }

    /// The files of the original models begin one level lower.
    fn standard_name(&self, name: &str) -> Option<String> {
        Some(if name.starts_with("decoder.") { format!("model.{name}") } else { name.to_owned() })
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let plain = json!({"num_key_value_heads": 4, "head_dim": 0, "hidden_size": 16, "rope_theta": 10_000.0});
        let with = |more: Value| -> Value {
            [plain.clone(), more].iter().filter_map(Value::as_object).flat_map(Clone::clone).collect()
        };
        vec![
            with(json!({})),
            with(json!({"do_layer_norm_before": false, "word_embed_proj_dim": 6, "tie_word_embeddings": false})),
        ]
    }
}
