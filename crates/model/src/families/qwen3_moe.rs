//! Qwen3 with mixtures of experts.

use super::blocks::Experts;
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, qwen3, windows};
use crate::decoder::RouterWeights;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const PARTS: &[(&str, &str, Rows)] = &[("mlp.router", "mlp.gate", Rows::Whole)];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Number of experts.
    num_experts: usize,
    /// Number of experts that each token uses.
    num_experts_per_tok: usize,
    /// Inner width of each expert.
    moe_intermediate_size: usize,
    /// Whether the weights of the experts that a token uses are divided by their sum.
    norm_topk_prob: bool,
    /// Only layers whose number, counted from 1, is a multiple of it have experts.
    decoder_sparse_step: usize,
    /// Layers without experts, counted from 0.
    mlp_only_layers: Vec<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            num_experts: 128,
            num_experts_per_tok: 8,
            moe_intermediate_size: 768,
            norm_topk_prob: false,
            decoder_sparse_step: 1,
            mlp_only_layers: Vec::new(),
        }
    }
}

/// Qwen3's family with experts.
pub(super) struct Qwen3Moe;

impl Family for Qwen3Moe {
    fn architecture(&self) -> &'static str {
        "Qwen3MoeForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(4), ..Defaults::new(32_768) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "sliding_window"]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["use_sliding_window", "max_window_layers", "num_local_experts"]
    }

    /// Here a window is that of all layers. Version 5 of `transformers` has another name for the number of experts.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        if let Some(count) = all.get("num_local_experts") {
            keys.insert("num_experts".to_owned(), count.clone());
        }
        if super::hf::flag(all, "use_sliding_window", false)? {
            keys.insert("sliding_window".to_owned(), json!(4096));
            windows::read_everywhere(all, keys);
        }
        Ok(())
    }

    fn written(&self, config: &ModelConfig) -> Value {
        let own: Settings = config.settings();
        json!({"num_local_experts": own.num_experts, "use_sliding_window": config.sliding_window.is_some()})
    }

    /// Layers without experts are named, whichever way a recipe says it.
    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let mut own: Settings = config.settings();
        let (step, layers, size) = (own.decoder_sparse_step, config.num_hidden_layers, own.moe_intermediate_size);
        ConfigError::unless(step > 0, "decoder_sparse_step", step, "at least 1")?;
        ConfigError::unless(
            (1..=1 << 24).contains(&size),
            "moe_intermediate_size",
            size,
            "at least 1 and at most 2^24",
        )?;
        own.mlp_only_layers.extend((0..layers.min(1 << 16)).filter(|layer| !(layer + 1).is_multiple_of(step)));
        own.mlp_only_layers.retain(|layer| *layer < layers);
        own.mlp_only_layers.sort_unstable();
        own.mlp_only_layers.dedup();
        config.settings.remove("decoder_sparse_step");
        config.settings.remove("mlp_only_layers");
        if !own.mlp_only_layers.is_empty() {
            config.settings.insert("mlp_only_layers".to_owned(), json!(own.mlp_only_layers));
        }
        Experts::check(("num_experts", own.num_experts), own.num_experts_per_tok)
    }

    fn keep_layers(&self, config: &mut ModelConfig, layers: &[usize]) -> Result<(), ConfigError> {
        let dense = config.settings::<Settings>().mlp_only_layers;
        let kept: Vec<usize> = (0..layers.len()).filter(|&place| dense.contains(&layers[place])).collect();
        config.settings.insert("mlp_only_layers".to_owned(), json!(kept));
        Ok(())
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        let experts = Experts {
            count: own.num_experts,
            per_token: own.num_experts_per_tok,
            size: own.moe_intermediate_size,
            weights: RouterWeights::Softmax { is_normalised: own.norm_topk_prob },
            router_bias: false,
            dense_layers: own.mlp_only_layers,
        };
        Blocks { experts: Some(experts), ..qwen3::Qwen3.blocks(config) }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: PARTS, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        let small = json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 10});
        let with = |more: Value| -> Value {
            [small.clone(), more].iter().filter_map(Value::as_object).flat_map(Clone::clone).collect()
        };
        vec![
            with(json!({"norm_topk_prob": true, "mlp_only_layers": [1]})),
            with(json!({"decoder_sparse_step": 2, "attention_bias": true, "sliding_window": 3})),
        ]
    }
}
