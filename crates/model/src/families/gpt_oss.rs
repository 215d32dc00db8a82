//! gpt-oss.

use super::blocks::Experts;
use super::hf::said;
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, windows};
use crate::activation::Clamp;
use crate::decoder::RouterWeights;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const PARTS: &[(&str, &str, Rows)] = &[
    ("mlp.experts.{}.gate_proj", "mlp.experts.gate_up_proj", Rows::ExpertsByColumns),
    ("mlp.experts.{}.up_proj", "mlp.experts.gate_up_proj", Rows::ExpertsByColumns),
    ("mlp.experts.{}.down_proj", "mlp.experts.down_proj", Rows::ExpertsByColumns),
];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Number of experts.
    num_local_experts: usize,
    /// Number of experts that each token uses.
    num_experts_per_tok: usize,
    /// The bound of gate and up-projection.
    swiglu_limit: f64,
    /// The factor within the gate's sigmoid.
    swiglu_alpha: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { num_local_experts: 128, num_experts_per_tok: 4, swiglu_limit: 7.0, swiglu_alpha: 1.702 }
    }
}

/// gpt-oss' family.
pub(super) struct GptOss;

impl Family for GptOss {
    fn architecture(&self) -> &'static str {
        "GptOssForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            num_key_value_heads: Some(8),
            head_dim: Some(64),
            norm_eps: 1e-5,
            rope_theta: Some(150_000.0),
            ..Defaults::new(131_072)
        }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["sliding_window", "layer_types"]
    }

    /// All but the first repeat other keys in published files; `transformers` does not look at them.
    fn keys_read(&self) -> &'static [&'static str] {
        &[
            "attention_bias",
            "experts_per_token",
            "initial_context_length",
            "rope_ntk_alpha",
            "rope_ntk_beta",
            "rope_scaling_factor",
        ]
    }

    /// Every other layer sees a window, beginning with the first. A file without rotary keys means YaRN.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        if let Some(other) = said(all, "attention_bias").filter(|value| **value != true) {
            return Err(format!("`attention_bias` is {other}; in this build's `gpt_oss` models it is true"));
        }
        if !all.contains_key("rope_parameters") && !all.contains_key("rope_scaling") {
            let yarn = json!({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "truncate": false, "original_max_position_embeddings": 4096});
            keys.insert("rope_scaling".to_owned(), yarn);
        }
        let mut all = all.clone();
        all.entry("sliding_window").or_insert(json!(128));
        windows::read_by_layer(&all, keys, |layer| layer.is_multiple_of(2));
        Ok(())
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let own: Settings = config.settings();
        for (key, number) in [("swiglu_limit", own.swiglu_limit), ("swiglu_alpha", own.swiglu_alpha)] {
            ConfigError::unless(number > 0.0 && number.is_finite(), key, number, "a finite number above 0")?;
        }
        Experts::check(("num_local_experts", own.num_local_experts), own.num_experts_per_tok)
    }

    fn written(&self, _: &ModelConfig) -> Value {
        json!({"attention_bias": true})
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        let experts = Experts {
            count: own.num_local_experts,
            per_token: own.num_experts_per_tok,
            size: config.intermediate_size,
            weights: RouterWeights::SoftmaxOfChosen,
            router_bias: true,
            dense_layers: Vec::new(),
        };
        Blocks {
            experts: Some(experts),
            clamp: Some(Clamp { limit: own.swiglu_limit, alpha: own.swiglu_alpha }),
            sinks: true,
            ..Blocks::default().with_biases(true)
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: PARTS, ..Names::default() }
    }

    fn quantizations(&self) -> &'static [&'static str] {
        &["mxfp4"]
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        let types = ["sliding_attention", "full_attention"];
        vec![
            json!({"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 3, "layer_types": types}),
            json!({"num_local_experts": 3, "num_experts_per_tok": 1, "swiglu_limit": 0.5, "swiglu_alpha": 1.0}),
        ]
    }
}
