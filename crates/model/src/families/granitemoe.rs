//! Granite 3 with mixtures of experts.

use super::blocks::Experts;
use super::granite::{Factors, Granite};
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::decoder::RouterWeights;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::Value;

const PARTS: &[(&str, &str, Rows)] = &[
    ("mlp.router", "block_sparse_moe.router.layer", Rows::Whole),
    ("mlp.experts.{}.gate_proj", "block_sparse_moe.input_linear", Rows::Experts),
    ("mlp.experts.{}.up_proj", "block_sparse_moe.input_linear", Rows::Experts),
    ("mlp.experts.{}.down_proj", "block_sparse_moe.output_linear", Rows::Experts),
];

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    /// Those of models without experts.
    #[serde(flatten)]
    factors: Factors,
    /// Number of experts.
    num_local_experts: usize,
    /// Number of experts that each token uses.
    num_experts_per_tok: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { factors: Factors::default(), num_local_experts: 8, num_experts_per_tok: 2 }
    }
}

/// Granite's family with experts.
pub(super) struct GraniteMoe;

impl Family for GraniteMoe {
    fn architecture(&self) -> &'static str {
        "GraniteMoeForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Granite.defaults()
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias"]
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let own: Settings = config.settings();
        own.factors.check()?;
        Experts::check(("num_local_experts", own.num_local_experts), own.num_experts_per_tok)
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        let experts = Experts {
            count: own.num_local_experts,
            per_token: own.num_experts_per_tok,
            size: config.intermediate_size,
            weights: RouterWeights::SoftmaxOfChosen,
            router_bias: false,
            dense_layers: Vec::new(),
        };
        Blocks { experts: Some(experts), ..own.factors.blocks(config) }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: PARTS, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![
            json!({"num_local_experts": 4}),
            json!({"num_local_experts": 3, "num_experts_per_tok": 3, "logits_scaling": 0.7, "attention_bias": true}),
        ]
    }
}
